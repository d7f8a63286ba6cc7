"""A scheduled run that finds one image in a hundred new does one hundredth of the work."""

import sys
from pathlib import Path

import pytest

from conftest import draw, read_manifest
from submit.conftest import run_extract

PICTURES = 400


def extract(pictures: Path, output: Path, cache: Path) -> dict:
    done = run_extract(f"images.root={pictures}", f"output={output}", f"cache={cache}")
    assert done.returncode == 0, done.stderr
    return read_manifest(output)


@pytest.mark.long
def test_one_percent_new_is_one_percent_of_the_work(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, output = tmp_path / "pictures", tmp_path / "output"
    for i in range(PICTURES):
        draw(pictures / "Training" / "kind" / f"{i}.png", i)
    assert extract(pictures, output, cache)["counts"]["model_rows"] == PICTURES
    for i in range(PICTURES // 100):
        draw(pictures / "Training" / "kind" / f"new {i}.png", PICTURES + i)
    manifest = extract(pictures, output, cache)
    counts, seconds = manifest["counts"], manifest["seconds"]
    # What Spark's accumulator of model rows came to.
    assert (counts["model_rows"], counts["new"], counts["unchanged"]) == (PICTURES // 100, PICTURES // 100, PICTURES)
    overhead = manifest["seconds_total"] - seconds["embed"]
    starting = seconds["jvm"] + seconds["context"]
    with capsys.disabled():
        sys.stdout.write(f"\n1 % new: {overhead:.1f} s beside embedding, of them {starting:.1f} s for Spark to start\n")
