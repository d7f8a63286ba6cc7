"""The manifest of a run, as it is on the disk at each moment."""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import mirabelle
from conftest import REPOSITORY
from mirabelle.errors import OutputError
from mirabelle.storage import DiskStore
from mirabelle.table.runlog import RunLog, installed, read_manifests

STORE = DiskStore()


def begin(output: Path, command: str = "run") -> RunLog:
    return RunLog(STORE, str(output), command, {"output": str(output), "spark": {"a.secret": "***"}})


def on_disk(log: RunLog, output: Path) -> dict:
    return json.loads((output / "runs" / f"{log.run_id}.json").read_text())


def test_a_run_is_running_until_it_says_otherwise(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    log = begin(tmp_path / "out", "extract")
    assert not (tmp_path / "out").exists(), "nothing is written before it is asked for"
    log.write()
    first = on_disk(log, tmp_path / "out")
    assert first["status"] == "running"
    assert (first["run_id"], first["command"], first["output"]) == (log.run_id, "extract", str(tmp_path / "out"))
    assert first["config"] == {"output": str(tmp_path / "out"), "spark": {"a.secret": "***"}}
    assert "finished" not in first
    assert before <= datetime.fromisoformat(first["started"]) <= datetime.now(UTC)
    log.update(counts={"embedded": 3})
    assert "counts" not in on_disk(log, tmp_path / "out")
    log.finish("done")
    last = on_disk(log, tmp_path / "out")
    assert last["status"] == "done"
    assert last["counts"] == {"embedded": 3}
    assert last["started"] == first["started"]
    assert datetime.fromisoformat(last["finished"]) - datetime.fromisoformat(last["started"]) < timedelta(seconds=60)
    assert "error" not in last
    assert [p.name for p in (tmp_path / "out" / "runs").iterdir()] == [f"{log.run_id}.json"]


def test_a_failure_is_told_with_its_reason(tmp_path: Path) -> None:
    log = begin(tmp_path)
    log.write()
    log.finish("failed", "there is no folder x; set images.root")
    last = on_disk(log, tmp_path)
    assert (last["status"], last["error"]) == ("failed", "there is no folder x; set images.root")


def test_seconds_add_up_by_stage_and_count_when_the_stage_fails(tmp_path: Path) -> None:
    log = begin(tmp_path)
    with log.time("list"):
        time.sleep(0.05)
    for _ in range(3):
        with log.time("embed"):
            time.sleep(0.04)
    with pytest.raises(KeyError), log.time("train"):
        time.sleep(0.03)
        raise KeyError
    log.finish("done")
    last = on_disk(log, tmp_path)
    seconds = last["seconds"]
    assert list(seconds) == ["list", "embed", "train"]
    # A sleep may last longer and never shorter; the sum is within the whole, but for the rounding of each to 1 ms.
    assert seconds["list"] >= 0.049
    assert seconds["embed"] >= 0.119
    assert seconds["train"] >= 0.029
    assert sum(seconds.values()) <= last["seconds_total"] + 0.003


def test_run_ids_are_unique_and_sort_by_time(tmp_path: Path) -> None:
    """The order of ids decides which row of a path is the newest, also when runs follow each other at once."""
    ids = [begin(tmp_path).run_id for _ in range(12)]
    assert len(set(ids)) == 12
    assert ids == sorted(ids)


def test_a_run_id_begins_with_its_time(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    told = datetime.strptime(begin(tmp_path).run_id[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    assert before <= told <= datetime.now(UTC)


def test_manifests_are_read_oldest_first(tmp_path: Path) -> None:
    assert read_manifests(STORE, str(tmp_path / "none")) == []
    assert read_manifests(STORE, str(tmp_path)) == []
    logs = [begin(tmp_path, f"command {i}") for i in range(3)]
    for log, day in zip(logs, (2, 3, 1), strict=True):
        log.write()
        # As if they had been made on three days.
        facts = on_disk(log, tmp_path) | {"run_id": f"2026010{day}T000000Z-0000"}
        (tmp_path / "runs" / f"{log.run_id}.json").unlink()
        (tmp_path / "runs" / f"{facts['run_id']}.json").write_text(json.dumps(facts))
    (tmp_path / "runs" / "20260101T000000Z-0000.json.123.partial").write_text("{")
    assert [m["command"] for m in read_manifests(STORE, str(tmp_path))] == ["command 2", "command 0", "command 1"]


def test_versions_are_those_installed(tmp_path: Path) -> None:
    versions = begin(tmp_path).manifest["versions"]
    assert versions["mirabelle"] == mirabelle.__version__
    assert versions["python"] == platform.python_version()
    for package in ("pyspark", "numpy", "pandas", "pyarrow", "pillow", "openvino", "keras", "scikit-learn"):
        assert versions[package] == importlib.metadata.version(package)
    import numpy

    assert versions["numpy"] == numpy.__version__


def test_a_package_that_is_not_there_is_left_out_and_tensorflow_has_two_names(tmp_path: Path) -> None:
    for name, version in (("oneflow", "1.0"), ("twoflow_cpu", "2.0")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    code = "from mirabelle.table.runlog import installed; print(installed(('oneflow', 'twoflow', 'threeflow')))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "{'oneflow': '1.0', 'twoflow': '2.0'}"
    assert "tensorflow" in installed(("tensorflow",))


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def needs_git() -> None:
    if shutil.which("git") is None:
        pytest.skip("there is no git on this machine")


def test_the_git_revision_is_this_checkouts(tmp_path: Path, needs_git: None) -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("the tests do not run in a checkout")
    revision = begin(tmp_path).manifest["git_revision"]
    name, dirty, _ = revision.partition("-dirty")
    assert git(REPOSITORY, "rev-parse", f"{name}^{{commit}}") == git(REPOSITORY, "rev-parse", "HEAD")
    assert bool(dirty) == bool(git(REPOSITORY, "status", "--porcelain", "--untracked-files=no"))


def revision_told_by(package: Path, ceiling: Path) -> str:
    """What a copy of the package, at another place, says of its revision."""
    code = "import mirabelle, mirabelle.table.runlog as r; print(mirabelle.__file__); print(r._git_revision())"
    # Whatever checkout the temporary folder itself may lie in does not count.
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "GIT_CEILING_DIRECTORIES": str(ceiling)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    file, revision = done.stdout.split()
    assert Path(file).parent == package
    return revision


def test_a_package_that_was_installed_has_no_git_revision(tmp_path: Path, needs_git: None) -> None:
    """Neither outside any checkout, nor in a virtual environment inside somebody else's."""
    package = Path(mirabelle.__file__).parent
    alone = tmp_path / "alone" / "site-packages" / "mirabelle"
    shutil.copytree(package, alone, ignore=shutil.ignore_patterns("__pycache__"))
    assert revision_told_by(alone, tmp_path) == "None"
    project = tmp_path / "project"
    inside = project / ".venv" / "mirabelle"
    shutil.copytree(alone, inside)
    (project / ".gitignore").write_text(".venv/\n")
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "theirs")
    assert revision_told_by(inside, tmp_path) == "None"


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match=r"cannot write .*out/runs/"):
        begin(tmp_path / "out").write()


def test_values_that_json_lacks_are_written_as_text(tmp_path: Path) -> None:
    log = begin(tmp_path)
    log.update(folder=Path("/a"), when=datetime(2026, 1, 2, tzinfo=UTC))
    log.write()
    assert on_disk(log, tmp_path)["folder"] == "/a"
    assert on_disk(log, tmp_path)["when"].startswith("2026-01-02")


def test_the_machine_is_told(tmp_path: Path) -> None:
    machine = begin(tmp_path).manifest["machine"]
    assert machine["host"] == platform.node()
    assert machine["cores"] == os.cpu_count()
    assert platform.system() in machine["system"]


def test_a_run_comes_after_all_others_whatever_the_clock_says(tmp_path: Path) -> None:
    first = begin(tmp_path)
    (tmp_path / "runs").mkdir()
    # As a machine whose clock was far ahead left it; its manifest may even be damaged.
    ahead = "29990101T000000.000000Z-ffff"
    (tmp_path / "runs" / f"{ahead}.json").write_text("{")
    (tmp_path / "runs" / "notes.txt").write_text("not a run")
    second = begin(tmp_path)
    second.write()
    third = begin(tmp_path)
    assert first.run_id < ahead < second.run_id < third.run_id
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{4}", third.run_id)
