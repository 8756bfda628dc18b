"""Labels of simulated events, from the particles of their simulation.

:mod:`dnn_reco.data_creation.labels.modules` has the modules of the reference that make them;
`truth` reads what they need from a frame. All others are functions of that.
"""
