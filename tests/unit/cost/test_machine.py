from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest
import torch

from leanrec.cost.machine import cpu_model, machine, rss_mb


def test_machine_names_what_a_figure_depends_on() -> None:
    found = machine()
    assert found["cpu"]
    assert 1 <= int(found["cores"]) <= (os.cpu_count() or 1)
    assert found["threads"] == torch.get_num_threads()
    assert found["torch"] == torch.__version__
    assert date.fromisoformat(str(found["date"]))


def test_the_processor_is_read_from_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Quick CPU: 9000 @ 3 GHz\nprocessor\t: 1\nmodel name\t: other\n")
    assert cpu_model(cpuinfo) == "Quick CPU: 9000 @ 3 GHz"


@pytest.mark.parametrize("text", [None, "processor\t: 0\nmodel name\t:\n"])
def test_the_processor_always_has_a_name(tmp_path: Path, text: str | None) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if text is not None:
        cpuinfo.write_text(text)
    assert cpu_model(cpuinfo)


def test_resident_memory_is_pages_times_their_size(tmp_path: Path) -> None:
    statm = tmp_path / "statm"
    statm.write_text("9000 250 100 1 0 500 0\n")
    assert rss_mb(statm) == 250 * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_resident_memory_falls_back_to_the_peak(tmp_path: Path) -> None:
    peak = rss_mb(tmp_path / "none")
    assert 10 < rss_mb() <= peak * 1.05
