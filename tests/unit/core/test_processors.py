"""Processors by affinity, by quotas of control groups, by wish."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from leanrec.core.processors import processors, quotas, usable

V1 = "33 32 0:30 {root} {point} rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct"
V2 = "40 32 0:37 {root} {point} rw,relatime - cgroup2 cgroup2 rw,nsdelegate"


def kernel(folder: Path, mount: str, group: str, files: dict[str, str], root: str = "/") -> Path:
    """A process in a control group; ``files`` are those below the mount."""
    point = folder / "mounted"
    for name, text in files.items():
        (point / name).parent.mkdir(parents=True, exist_ok=True)
        (point / name).write_text(text)
    proc = folder / "proc"
    proc.mkdir()
    other = "28 1 254:0 / / rw,relatime - ext4 /dev/root rw"
    (proc / "mountinfo").write_text(other + "\n" + mount.format(root=root, point=point) + "\n")
    (proc / "cgroup").write_text(group + "\n")
    return proc


@pytest.mark.parametrize(
    ("group", "root", "files", "expected"),
    [
        ("0::/app", "/", {"app/cpu.max": "150000 100000\n"}, [1.5]),
        ("0::/app", "/", {"app/cpu.max": "max 100000\n"}, []),
        ("0::/app", "/", {}, []),
        ("0::/", "/", {"cpu.max": "50000 100000\n"}, [0.5]),
        ("0::/a/b", "/", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, [2.0]),
        ("0::/a/b", "/", {"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "100000 100000\n"}, [3.0, 1.0]),
        ("0::/a/b", "/a", {"b/cpu.max": "100000 100000\n"}, [1.0]),
        ("0::/elsewhere/b", "/other", {"cpu.max": "100000 100000\n"}, [1.0]),
        ("0::/app", "/", {"app/cpu.max": "nonsense\n"}, []),
        ("0::/app", "/", {"app/cpu.max": "100000 0\n"}, []),
    ],
)
def test_version_2(tmp_path: Path, group: str, root: str, files: dict[str, str], expected: list[float]) -> None:
    assert quotas(kernel(tmp_path, V2, group, files, root)) == expected


@pytest.mark.parametrize(
    ("group", "root", "files", "expected"),
    [
        ("4:cpu,cpuacct:/app", "/", {"app/cpu.cfs_quota_us": "50000", "app/cpu.cfs_period_us": "100000"}, [0.5]),
        ("4:cpu,cpuacct:/app", "/", {"app/cpu.cfs_quota_us": "-1", "app/cpu.cfs_period_us": "100000"}, []),
        ("4:cpu:/docker/1", "/docker/1", {"cpu.cfs_quota_us": "400000", "cpu.cfs_period_us": "200000"}, [2.0]),
        ("4:cpuset:/app", "/", {"app/cpu.cfs_quota_us": "50000", "app/cpu.cfs_period_us": "100000"}, []),
    ],
)
def test_version_1(tmp_path: Path, group: str, root: str, files: dict[str, str], expected: list[float]) -> None:
    assert quotas(kernel(tmp_path, V1, group, files, root)) == expected


def test_no_control_groups(tmp_path: Path) -> None:
    assert quotas(tmp_path) == []
    assert 1 <= usable(tmp_path) <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("quota", "most"), [(10_000, 1), (100_000, 1), (110_000, 2), (10**9, 10**4)])
def test_a_quota_is_rounded_up_and_affinity_counts(tmp_path: Path, quota: int, most: int) -> None:
    proc = kernel(tmp_path, V2, "0::/", {"cpu.max": f"{quota} 100000"})
    assert usable(proc) == min(most, usable(tmp_path))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("wish", ["1", "999", "0", "x", ""])
def test_a_wish_for_fewer_is_heard(tmp_path: Path, wish: str) -> None:
    assert processors(tmp_path, {"OMP_NUM_THREADS": wish}) == (1 if wish == "1" else usable(tmp_path))
