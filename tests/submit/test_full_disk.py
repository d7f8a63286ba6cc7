"""An output that fills up: one sentence, exit 2, and what was finished stays and is gone on from."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from conftest import draw
from submit.conftest import run_extract

PICTURES = 400


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False, text=True
    )
    if made.returncode:
        pytest.skip(f"a small file system needs the right to mount one: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.long
def test_a_full_disk_is_one_sentence_and_loses_nothing(small_disk: Path, tmp_path: Path, cache: Path) -> None:
    pictures = tmp_path / "pictures"
    for i in range(PICTURES):
        draw(pictures / "Training" / "kind" / f"{i}.png", i)
    output = small_disk / "output"
    settings = [f"images.root={pictures}", f"output={output}", f"cache={cache}"]
    # 28 KB of features a picture: the disk is full after some seventy.
    settings += ["backbone.input_px=96", "backbone.pooling=flatten", "extract.chunk_images=20"]
    settings += ["extract.task_images=10"]
    failed = run_extract(*settings)
    assert failed.returncode == 2, failed.stderr
    told = [line for line in failed.stderr.splitlines() if line.startswith("error:")]
    assert len(told) == 1
    assert "No space left" in told[0] or "disk is full" in told[0]
    # Spark's own Python daemon may tell how it lost its JVM; none of our lines is in a traceback.
    assert not re.search(r'File ".*lib/mirabelle/', failed.stderr), failed.stderr
    kept = pd.concat(pd.read_parquet(file) for file in (output / "features").glob("**/*.parquet"))
    assert 0 < len(kept) < PICTURES
    assert kept["path"].is_unique

    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    done = run_extract(*settings)
    assert done.returncode == 0, done.stderr
    assert f"{PICTURES} listed = {PICTURES - len(kept)} embedded + 0 rejected + {len(kept)} unchanged" in done.stdout
    rows = pd.concat(pd.read_parquet(file) for file in (output / "features").glob("**/*.parquet"))
    assert len(rows) == PICTURES
    assert rows["path"].is_unique


def test_a_full_disk_of_sparks_own_files_is_told_by_their_setting(
    small_disk: Path, pictures: Path, cache: Path
) -> None:
    settings = [f"images.root={pictures}", f"output={pictures.parent / 'output'}", f"cache={cache}"]
    failed = run_extract(*settings, f"spark.local.dir={small_disk}")
    assert failed.returncode == 2, failed.stderr
    (told,) = [line for line in failed.stderr.splitlines() if line.startswith("error:")]
    assert f"the disk of {small_disk}/" in told
    assert "set spark.local.dir to a folder on a larger one" in told
    assert "TMPDIR" not in told
    assert "Traceback" not in failed.stderr
