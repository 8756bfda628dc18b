"""Tutorial step 5, as a script: export the trained network."""

import sys
from pathlib import Path

# Run from inside the package's folder, Python would look for every module here first.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent]

from dnn_reco.cli.export import export_command  # noqa: E402
from dnn_reco.cli.session import run_safely  # noqa: E402

if __name__ == "__main__":
    run_safely(export_command)
