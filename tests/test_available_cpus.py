"""Number of CPUs that a process may use: affinity, quota of containers and batch slots."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco import workers
from dnn_reco.cgroup import cpu_quota
from dnn_reco.workers import available_cpus


class CGroups:
    """A fake tree of control groups, and the list of those of a process."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.own = folder / "process_groups"
        self.root.mkdir()
        self.own.write_text("")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def quota(self) -> float | None:
        return cpu_quota(self.root, self.own)


@pytest.fixture
def cgroups(tmp_path: Path) -> CGroups:
    return CGroups(tmp_path)


@pytest.fixture(autouse=True)
def bound_to_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)


def test_version_2(cgroups: CGroups) -> None:
    cgroups.own.write_text("0::/slot/job\n")
    cgroups.write("slot/job/cpu.max", "250000 100000")
    assert cgroups.quota() == 2.5
    assert available_cpus(cgroups.root, cgroups.own) == 3


def test_a_group_with_colons_in_its_name(cgroups: CGroups) -> None:
    """As container runtimes name theirs."""
    cgroups.own.write_text("1:name=a:/x\n0::/system.slice:docker:0123\n")
    cgroups.write("system.slice:docker:0123/cpu.max", "150000 100000")
    assert cgroups.quota() == 1.5


def test_version_2_where_a_group_above_grants_less(cgroups: CGroups) -> None:
    cgroups.own.write_text("0::/slot/job/step\n")
    cgroups.write("slot/job/step/cpu.max", "max 100000")
    cgroups.write("slot/job/cpu.max", "400000 100000")
    cgroups.write("slot/cpu.max", "100000 50000")
    cgroups.write("other/cpu.max", "50000 100000")
    assert cgroups.quota() == 2


def test_version_2_in_a_container_that_sees_only_its_own_group(cgroups: CGroups) -> None:
    cgroups.own.write_text("0::/docker/0123456789\n")
    cgroups.write("cpu.max", "50000 100000")
    assert cgroups.quota() == 0.5
    assert available_cpus(cgroups.root, cgroups.own) == 1


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_version_1(cgroups: CGroups, mount: str) -> None:
    cgroups.own.write_text("5:memory:/m\n4:cpu,cpuacct:/htcondor/slot1\n3:cpuset:/set\n0::/\n")
    cgroups.write(f"{mount}/htcondor/slot1/cpu.cfs_quota_us", "-1")
    cgroups.write(f"{mount}/htcondor/slot1/cpu.cfs_period_us", "100000")
    cgroups.write(f"{mount}/htcondor/cpu.cfs_quota_us", "300000")
    cgroups.write(f"{mount}/htcondor/cpu.cfs_period_us", "100000")
    cgroups.write("cpuset/set/cpu.max", "100000 100000")  # not a group that limits CPU time
    assert cgroups.quota() == 3


@pytest.mark.parametrize("text", ["max 100000", "", "many 100000", "100000 0", "-1 100000", "1"])
def test_no_quota(cgroups: CGroups, text: str) -> None:
    cgroups.own.write_text("0::/job\n")
    cgroups.write("job/cpu.max", text)
    assert cgroups.quota() is None
    assert available_cpus(cgroups.root, cgroups.own) == 8


def test_another_system_than_linux(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "own") is None


@given(
    bound=st.integers(1, 64),
    quota=st.none() | st.integers(1, 64),
    openmp=st.none() | st.integers(1, 64),
    slurm=st.none() | st.integers(1, 64),
)
def test_the_smallest_limit_counts(
    bound: int, quota: int | None, openmp: int | None, slurm: int | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda pid: set(range(bound)), raising=False)
        patch.setattr(workers, "cpu_quota", lambda root, own: quota)
        for name, number in (("OMP_NUM_THREADS", openmp), ("SLURM_CPUS_PER_TASK", slurm)):
            if number is not None:
                patch.setenv(name, str(number))
        limits = [bound, quota, openmp, slurm]
        assert available_cpus() == min(limit for limit in limits if limit is not None)


@pytest.mark.parametrize(("value", "expected"), [("3,2", 3), (" 5 ", 5), ("0", 8), ("all", 8)])
def test_forms_of_the_variable_of_openmp(
    cgroups: CGroups, monkeypatch: pytest.MonkeyPatch, value: str, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert available_cpus(cgroups.root, cgroups.own) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a system without CPU binding")
def test_bound_to_one_cpu() -> None:
    line = "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1]); "
    line += "from dnn_reco.workers import available_cpus; print(available_cpus())"
    result = subprocess.run([sys.executable, "-c", line], capture_output=True, check=True)
    assert result.stdout == b"1\n"
