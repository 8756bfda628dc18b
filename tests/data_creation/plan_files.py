"""Configs of data creation and the empty files that they are about, for tests of plans."""

from collections.abc import Iterable
from pathlib import Path

BASIC = """\
data_folder: out
in_file_pattern: 'in/{dataset_number}/Level2_{run_number:06d}.i3.zst'
out_dir_pattern: '{data_type}/{dataset_number}'
folder_pattern: '{folder_num_pre_offset:04d}000-{folder_num_pre_offset:04d}999'
out_file_pattern: '{dataset_number}_{run_number:08d}'
datasets:
  NuMu:
    cycler: {dataset_number: [5, 6]}
    runs_range: [0, 3]
    data_type: NuGen
processing_steps:
  - tray_segments:
      - ModuleClass: Keep
        ModuleKwargs: {Keys: [I3MCTree]}
write_hdf5: true
"""


def write_config(text: str, name: str = "create.yaml") -> Path:
    """A config in the working directory."""
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def touch(paths: Iterable[str]) -> None:
    """Empty files in the working directory."""
    for each in paths:
        path = Path(each)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def line_of(text: str, start: str) -> int:
    """Number of the one line that begins so, spaces aside."""
    (number,) = [n for n, line in enumerate(text.splitlines(), 1) if line.strip().startswith(start)]
    return number
