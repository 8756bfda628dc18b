"""Tutorial step 1, as a script: count the events in the data files."""

import sys
from pathlib import Path

# Run from inside the package's folder, Python would look for every module here first.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent]

from dnn_reco.cli import run_script  # noqa: E402

if __name__ == "__main__":
    run_script("count")
