"""What a measurement ran on. Figures without it mean nothing."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

from leanrec.core.processors import usable


def machine() -> dict[str, str | int]:
    """This machine, for reports: processor, usable cores, torch's threads, torch's version and today's date (UTC)."""
    found: dict[str, str | int] = {
        "cpu": cpu_model(),
        "cores": usable(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as its maker gives it, or what the platform knows where there is no ``cpuinfo``."""
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip().lower() in ("model name", "hardware") and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def rss_mb(statm: Path = Path("/proc/self/statm")) -> float:
    """Resident memory of this process in MB (10^6 bytes): now, or its peak on systems without ``statm``."""
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
