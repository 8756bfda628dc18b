"""CPU limits of the control groups (cgroups) of Linux, as of containers and batch slots.

Both versions are read, each group together with those above it, because a limit applies to all
groups below. Source: documentation of the Linux kernel, "Control Group v2" and "CFS Bandwidth
Control".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROCESS_GROUPS = Path("/proc/self/cgroup")


def cpu_quota(root: Path = CGROUP_ROOT, process_groups: Path = PROCESS_GROUPS) -> float | None:
    """Number of CPUs that the control groups of this process allow; None if there is no limit.

    Parameters
    ----------
    root
        Mount point of the control groups.
    process_groups
        The file that lists the groups of the process.
    """
    quotas = [_quota(folder) for folder in _cpu_groups(root, process_groups)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _cpu_groups(root: Path, process_groups: Path) -> Iterator[Path]:
    """Folders of the groups that may limit CPUs: that of the process and all above it."""
    try:
        lines = process_groups.read_text().splitlines()
    except OSError:  # another system than Linux
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:  # version 2
            mounts = [root]
        elif "cpu" in controllers.split(","):
            mounts = [root / controllers, root / "cpu"]  # one is a link to the other, if both exist
        else:
            continue
        group = PurePosixPath(name.lstrip("/"))
        # In a container the name may be that of the host, and only the root is there.
        yield from (mount / folder for mount in mounts for folder in (group, *group.parents))


def _quota(folder: Path) -> float | None:
    """CPU quota of a group, in CPUs; None if it has no limit itself."""
    words = _words(folder / "cpu.max") or [
        *_words(folder / "cpu.cfs_quota_us"),
        *_words(folder / "cpu.cfs_period_us"),
    ]
    if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
        return int(words[0]) / int(words[1])
    return None  # "max" or -1: no limit


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
