"""Every path of the OpenAPI description with generated requests: no 500, and nothing but what is described.

``LEANREC_FUZZ_CASES=10000`` asks for that many; a few by default.
"""

from __future__ import annotations

import os
import string
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.command import leanrec
from e2e.conftest import TINY, write_log
from e2e.serving import serving

pytest.importorskip("schemathesis", reason="schemathesis is not installed; pip install schemathesis")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,negative_data_rejection"
OPERATIONS = 9
CASES = int(os.environ.get("LEANREC_FUZZ_CASES", "80"))


@pytest.mark.slow
def test_generated_requests(tmp_path: Path) -> None:
    keys = tuple(string.digits + string.ascii_letters)  # which generated texts often are
    log, data, run, report = (tmp_path / name for name in ("log.csv", "data", "run", "report.txt"))
    write_log(log, keys)
    assert leanrec("data", "import", log, "--out", data).code == 0
    assert leanrec("train", data, "--backbone", "sasrec", *TINY, "train.epochs=1", "--out", run).code == 0
    with serving(run, "--admin-key", "nobody-knows", "--deadline-ms", "60000") as server, report.open("w") as out:
        each = max(1, CASES // OPERATIONS)
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", f"--checks={CHECKS}"]
        command += [f"--max-examples={each}", "--phases=examples,coverage,fuzzing", "--generation-database=none"]
        command += ["--continue-on-failure", "--no-color", "--suppress-health-check=all", "--seed=1", "--mode=all"]
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False, cwd=tmp_path)
        shown = report.read_text()
        assert done.returncode == 0, shown[-8000:]
        metrics = server.http.get("/metrics").text
        assert 'status="500"' not in metrics and 'status="200"' in metrics
        assert server.http.get("/readyz").status_code == 200
