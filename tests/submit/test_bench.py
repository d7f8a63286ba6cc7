"""The benchmark's short form: that it runs and leaves a line for every target. No figure is judged."""

import json
import re
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


@pytest.mark.long
def test_that_of_gpus_runs_without_one_and_says_so(pictures: Path) -> None:
    network = ["--backbone", "mobilenet", "--input-px", "32", "--precision", "float32", "--batch-mib", "1"]
    sizes = ["--few", "20", "--many", "60", "--tasks", "2", "--seconds", "0.5", "--rounds", "1"]
    command = [sys.executable, str(REPOSITORY / "scripts" / "bench" / "gpu.py"), str(pictures), *network, *sizes]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "; Keras on tensorflow sees NONE: these are figures of a CPU" in done.stdout
    speeds = re.findall(r"^\| [12] \| 1 \| ([\d,.]+) \|$", done.stdout, re.MULTILINE)
    assert len(speeds) == 2 and "0.0" not in speeds
    # How fast the job is over so few pictures is noise.
    assert done.stdout.splitlines()[-1].startswith("| 1 | ")
