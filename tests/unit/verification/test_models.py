"""What verify says of PCAs and classifiers that were copied in part, or damaged."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mirabelle.storage import DiskStore
from mirabelle.verification.models import check_models
from mirabelle.verification.notes import Notes

FINGERPRINT = "1" * 64


def put(path: Path, content: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def put_rows(path: Path, rows: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"path": [f"/p/{i}.jpg" for i in range(rows)]}), path)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A PCA of 5 rows, in two files, and a classifier that judged 3."""
    pca, classifier = tmp_path / "pca" / "a", tmp_path / "classifier" / "a"
    put(pca / "pca.json", json.dumps({"fingerprint": FINGERPRINT, "rows": 5, "fit_split": None}))
    put(pca / "pca.npz")
    put(pca / "pipeline" / "metadata" / "part-0")
    put_rows(pca / "reduced" / "part-0.parquet", 2)
    put_rows(pca / "reduced" / "part-1.parquet", 3)
    put(classifier / "classifier.json", json.dumps({"fingerprint": FINGERPRINT, "test_rows": 3}))
    put(classifier / "model" / "metadata" / "part-0")
    put_rows(tmp_path / "predictions" / "a" / "part-0.parquet", 3)
    return tmp_path


def found(output: Path) -> list[str]:
    notes = Notes()
    check_models(DiskStore(), str(output), {FINGERPRINT}, notes)
    assert notes.counts == Counter({"models": 2})
    return notes.findings


def remove(path: Path) -> None:
    if path.is_dir():
        for below in path.iterdir():
            remove(below)
        path.rmdir()
    else:
        path.unlink()


def test_a_sound_one_has_no_finding(output: Path) -> None:
    assert found(output) == []


@pytest.mark.parametrize(
    "part", ["pca/a/reduced", "pca/a/pca.npz", "pca/a/pipeline", "classifier/a/model", "predictions/a"]
)
def test_a_part_that_is_missing_is_named(output: Path, part: str) -> None:
    remove(output / part)
    (finding,) = found(output)
    assert str(output / part) in finding and "is missing" in finding


def test_rows_that_are_missing_are_counted(output: Path) -> None:
    remove(output / "pca/a/reduced/part-1.parquet")
    put_rows(output / "predictions/a/part-0.parquet", 2)
    assert sorted(text.split(" has ")[1].split(",")[0] for text in found(output)) == ["2 rows", "2 rows"]


@pytest.mark.parametrize("part", ["pca/a/reduced/part-0.parquet", "predictions/a/part-0.parquet"])
def test_a_file_that_was_cut_short_is_named(output: Path, part: str) -> None:
    whole = (output / part).read_bytes()
    (output / part).write_bytes(whole[: len(whole) // 2])
    (finding,) = found(output)
    assert finding.startswith(f"{output / part} cannot be read")
