import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from conftest import REPOSITORY, SMALL, break_some, draw, read_manifest

Submit = Callable[..., subprocess.Popen]


def finish(process: subprocess.Popen, seconds: float = 240) -> tuple[int, str]:
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def settings_for(pictures: Path, cache: Path, *more: str) -> list[str]:
    return [f"images.root={pictures}", f"output={pictures.parent / 'output'}", f"cache={cache}", *SMALL, *more]


@pytest.mark.long
def test_each_job_does_its_part(submit: Submit, pictures: Path, cache: Path, wheel: Path, tmp_path: Path) -> None:
    settings = settings_for(pictures, cache)
    output = pictures.parent / "output"
    zipped = tmp_path / "mirabelle.zip"
    shutil.copy(wheel, zipped)
    code, text = finish(submit("extract_features", *settings))
    assert code == 0, text
    assert "54 listed = 54 embedded + 0 rejected + 0 unchanged" in text
    # Spark says nothing of its own but what the JVM prints before it can be told.
    assert " INFO " not in text
    assert " WARN " not in text
    assert len(pd.read_parquet(output / "features")) == 54
    code, text = finish(submit("fit_pca", *settings, package=zipped))
    assert code == 0, text
    assert list(output.glob("pca/*/pca.json"))
    code, text = finish(submit("train_classifier", *settings))
    assert code == 0, text
    assert list(output.glob("classifier/*/classifier.json"))
    code, text = finish(submit("build_report", *settings))
    assert code == 0, text
    assert list(output.glob("report/*/index.html"))


def test_workers_import_from_the_package_that_was_sent(wheel: Path, tmp_path: Path) -> None:
    """Not from an installation beside it: so a cluster needs no mirabelle of its own."""
    script = tmp_path / "where.py"
    script.write_text("""
from mirabelle.spark.session import open_context, session_on

def where(batches):
    import pyarrow as pa
    import mirabelle
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"file": [mirabelle.__file__]})

with open_context({}) as context:
    print("workers import", session_on(context).range(0, 2, 1, 2).mapInArrow(where, "file string").first().file)
""")
    from submit.conftest import BIN, environment

    command = [
        str(BIN / "spark-submit"),
        "--properties-file",
        "conf/spark-local.conf",
        "--py-files",
        str(wheel),
        str(script),
    ]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=True, timeout=120
    )
    assert f"{wheel.stem}.zip/mirabelle/__init__.py" in done.stdout


def test_exit_codes_reach_the_shell(submit: Submit, pictures: Path, cache: Path) -> None:
    code, text = finish(submit("extract_features", *settings_for(pictures, cache, "reduce.varience=1")))
    assert code == 2
    assert "unknown key reduce.varience; did you mean reduce.variance?" in text
    assert "Traceback" not in text
    codes = break_some(pictures)
    code, text = finish(submit("extract_features", *settings_for(pictures, cache)))
    assert code == 1
    assert "were rejected, more than limits.max_reject_share" in text
    rejects = pd.read_parquet(pictures.parent / "output" / "rejects")
    assert dict(zip(rejects["path"], rejects["code"], strict=True)) == codes


@pytest.mark.long
def test_a_secret_given_to_a_job_is_written_nowhere(submit: Submit, pictures: Path, cache: Path) -> None:
    secret = "correct-horse-battery-staple"
    given = settings_for(pictures, cache, f"spark.hadoop.fs.s3a.secret.key={secret}", "reduce.components=3")
    code, text = finish(submit("run_pipeline", *given))
    assert code == 0, text
    assert secret not in text
    for path in (pictures.parent / "output").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def committed(output: Path) -> int:
    return len(list(output.glob("features/*/*/*/_chunk.json")))


def rows(output: Path) -> dict[str, bytes]:
    """Features by path; fails on a path that is there twice."""
    frame = pd.read_parquet(output / "features")
    assert frame["path"].is_unique
    return {path: features.tobytes() for path, features in zip(frame["path"], frame["features"], strict=True)}


@pytest.mark.long
@pytest.mark.parametrize("chunks_before_the_kill", [1, pytest.param(4, marks=pytest.mark.full)])
def test_a_killed_driver_loses_at_most_the_chunks_in_flight(
    submit: Submit, tmp_path: Path, cache: Path, chunks_before_the_kill: int
) -> None:
    pictures = tmp_path / "pictures"
    for number in range(600):
        draw(pictures / "Training" / f"kind{number % 3}" / f"{number}.png", number, size=(200, 200))
    break_more = tmp_path / "pictures/Training/kind0/empty.png"
    break_more.write_bytes(b"")
    settings = settings_for(
        pictures, cache, "extract.chunk_images=40", "extract.task_images=10", "backbone.input_px=160"
    )
    output = tmp_path / "output"

    first = submit("extract_features", *settings)
    deadline = time.monotonic() + 120
    while committed(output) < chunks_before_the_kill:
        assert first.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert read_manifest(output)["status"] == "running", "a killed run's manifest shows that it never finished"
    finished = rows(output)
    assert 0 < len(finished) < 600, "the kill came too late to show anything"
    done_chunks = {path: path.stat().st_mtime_ns for path in output.glob("features/*/*/*/*")}

    code, text = finish(submit("extract_features", *settings))
    assert code == 0, text
    counts = read_manifest(output)["counts"]
    assert counts["embedded"] == counts["model_rows"] == 600 - len(finished), "no finished chunk is embedded again"
    assert all(path.stat().st_mtime_ns == when for path, when in done_chunks.items())
    resumed = rows(output)
    assert not (output / "_staging").exists()

    undisturbed = [s if not s.startswith("output=") else f"output={tmp_path / 'undisturbed'}" for s in settings]
    code, text = finish(submit("extract_features", *undisturbed))
    assert code == 0, text
    assert resumed == rows(tmp_path / "undisturbed")
    rejects = pd.read_parquet(output / "rejects")
    assert rejects["path"].tolist() == [str(break_more)]
