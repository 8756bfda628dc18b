"""Build the source distribution and the wheel in a folder, and check what is in them.

The wheel must hold the files of the package that git tracks and the example configs, byte for byte,
and nothing else; the wheel that is built from the source distribution must be the same.

Example:
  python tools/check_package.py dist
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = {"configs": "dnn_reco/example_configs"}
"""Folders of the repository that are parts of the package, and where."""


def build(source: Path, folder: Path, *kinds: str) -> None:
    """Build in a separate environment, and leave nothing else behind."""
    leftovers = [source / "build", source / "dnn_reco.egg-info"]
    for leftover in leftovers:  # a new build would take old files from there
        shutil.rmtree(leftover, ignore_errors=True)
    run("build", *kinds, "--outdir", str(folder), str(source))
    for leftover in leftovers:
        shutil.rmtree(leftover, ignore_errors=True)


def run(module: str, *arguments: str) -> None:
    """Run a Python program; print what it printed if it fails."""
    command = [sys.executable, "-m", module, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")


def tracked_files() -> dict[str, bytes]:
    """Files that the package consists of, by their names in the wheel."""
    folders = ["dnn_reco", *CONFIGS]
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--", *folders]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    files = {}
    for name in filter(None, listed.split("\0")):
        first, rest = name.split("/", 1)
        path = REPOSITORY / name
        if path.is_file():  # no link to a folder
            files[f"{CONFIGS.get(first, first)}/{rest}"] = path.read_bytes()
    return files


def wheel_files(folder: Path) -> dict[str, bytes]:
    """Content of the only wheel in a folder, without what describes it."""
    [path] = folder.glob("*.whl")
    with ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
        return {name: wheel.read(name) for name in names}


def compare(found: dict[str, bytes], expected: dict[str, bytes], what: str) -> None:
    """Exit with the names of files that differ."""
    names = sorted(found.keys() | expected.keys())
    different = [name for name in names if found.get(name) != expected.get(name)]
    if different:
        sys.exit("\n  ".join([f"{what} differ:", *different]))


def main() -> None:
    """Build and check."""
    [folder] = map(Path, sys.argv[1:])
    shutil.rmtree(folder, ignore_errors=True)
    build(REPOSITORY, folder)  # the source distribution, and a wheel from it
    run("twine", "check", "--strict", *map(str, folder.iterdir()))
    wheel = wheel_files(folder)
    compare(wheel, tracked_files(), "the wheel and the files in git")
    with tempfile.TemporaryDirectory() as direct:
        build(REPOSITORY, Path(direct), "--wheel")
        compare(wheel, wheel_files(Path(direct)), "wheels of the checkout and of the sdist")
    print(f"{len(wheel)} files in the wheel, the same as in git:")
    for path in sorted(folder.iterdir()):
        print(f"  {path} {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
