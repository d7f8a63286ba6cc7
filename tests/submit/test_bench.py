"""The benchmark's short form: that it runs and leaves a line for every target. No figure is judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY
from submit.conftest import environment

RUN = REPOSITORY / "scripts" / "bench" / "run.py"


@pytest.mark.long
def test_short_form(tmp_path: Path) -> None:
    work = tmp_path / "bench"
    command = [sys.executable, str(RUN), "--short", "--work", str(work)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((work / "results.json").read_text())
    finished = {name for name, part in results["parts"].items() if part["stamp"]["finished"]}
    assert {"bound", "decode", "extract-a", "files", "peers", "serve"} <= finished
    (one,) = results["parts"]["extract-a"]["comparisons"]
    assert one["source"] == "rendered"
    for entry in one["entries"]:
        assert (entry["few"], entry["many"]) == (8, 24)
        assert entry["lowest_cosine"] > 0.999
        before, after = entry["rounds"][0]["bounds"]
        assert before > 0 and after > 0
    text = (work / "results.md").read_text()
    assert done.stdout == text + "\n"
    table = text.split("### Targets\n\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert len(rows) >= 41
    for what, wanted, figure, verdict, _ in rows:
        assert what and wanted, what
        assert figure or verdict.startswith(("not run: ", "not judged: ")), what
        assert verdict not in ("met", "not met"), what
