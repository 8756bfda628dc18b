"""Fit of the constants of `dnn_reco.simulation.light` to a simulation that traces photons.

`python -m dnn_reco.simulation.calibration FOLDER` with a folder that holds `truth_run11.parquet`,
`pulses_run11.parquet` and `CALIBRATION.json`.
"""
