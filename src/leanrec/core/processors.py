"""How many processors this process may use: by its affinity, by the quotas of its control groups, and by wish."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

PROC = Path("/proc/self")
WISH = "OMP_NUM_THREADS"


def processors(proc: Path = PROC, environ: Mapping[str, str] = os.environ) -> int:
    """How many threads are worth having: `usable` processors, or fewer where OMP_NUM_THREADS asks for fewer."""
    asked = environ.get(WISH, "")
    wished = int(asked) if asked.isascii() and asked.isdigit() else 0
    return min(usable(proc), wished or usable(proc))


def usable(proc: Path = PROC) -> int:
    """Processors that this process may keep busy; a quota is rounded up.

    Args:
        proc: Where the kernel says what the process is allowed.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *map(math.ceil, quotas(proc))])


def quotas(proc: Path = PROC) -> list[float]:
    """The processors' time that every control group of this process allows, those around it included; empty for no limit.

    Args:
        proc: Its ``mountinfo`` says where groups are mounted, its ``cgroup`` which ones the process is in.
    """
    try:
        mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
    except OSError:  # not Linux
        return []
    found: list[float | None] = []
    for fields in mounts:
        root, point, kind, options = fields[3], Path(fields[4]), fields[fields.index("-") + 1], fields[-1].split(",")
        for _, controllers, path in groups:
            if kind == "cgroup2" and not controllers:
                found += [_v2(folder) for folder in _around(point, root, path)]
            if kind == "cgroup" and "cpu" in options and "cpu" in controllers.split(","):
                found += [_v1(folder) for folder in _around(point, root, path)]
    return [share for share in found if share is not None]


def _around(point: Path, root: str, path: str) -> Iterator[Path]:
    """The folder of a group and of those around it, as far as they are mounted at ``point``, which shows ``root``."""
    inside = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path(path.lstrip("/"))
    yield point / inside
    yield from (point / around for around in inside.parents)


def _v2(folder: Path) -> float | None:
    return _share(_read(folder / "cpu.max").split())


def _v1(folder: Path) -> float | None:
    return _share([_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()])


def _share(numbers: list[str]) -> float | None:
    """Quota over period, where both are numbers above 0."""
    if len(numbers) != 2 or not all(number.isascii() and number.isdigit() and int(number) for number in numbers):
        return None
    return int(numbers[0]) / int(numbers[1])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
