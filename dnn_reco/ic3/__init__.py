"""Reconstruction inside of IceTray: a module, a tray segment, and the container between them.

Importable only where IceTray is: see docs/how-to/icetray.md.
"""

try:
    import icecube.dataclasses
    import icecube.icetray  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"dnn_reco.ic3 runs inside of IceTray, which cannot be imported here ({error}). Start "
        "Python in an IceTray environment (env-shell.sh). Event files in HDF5 need no IceTray: "
        "dnn_reco.Reconstructor"
    ) from error
