"""Folders of Parquet as other programs leave them."""

import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from mirabelle.errors import ListingError
from mirabelle.listing import Listing, read_manifest
from mirabelle.storage import DiskStore

FRAME = pd.DataFrame({"path": ["/1.jpg", "/2.jpg", "/3.jpg"], "label": ["Apple Red", "a/b=c%", None]})
TOLD = [("/1.jpg", "Apple Red"), ("/2.jpg", "a/b=c%"), ("/3.jpg", None)]


def read(manifest: Path) -> Listing:
    return read_manifest(DiskStore(), str(manifest), "", ["*"], [], scratch=tempfile.mkdtemp())


def rows(manifest: Path, *columns: str) -> list[tuple]:
    table = read(manifest).table.sort_by("path")
    return list(zip(*(table[c].to_pylist() for c in ("path", *columns)), strict=True))


def put(file: Path, *paths: str, **columns: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"path": pa.array(paths, pa.string()), **columns}), file)


def test_partition_folders_are_columns(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "m", partition_cols=["label"])
    assert rows(tmp_path / "m", "label") == TOLD
    # And pyarrow, which wrote it, reads the same.
    whole = ds.dataset(tmp_path / "m", partitioning="hive").to_table().sort_by("path").to_pylist()
    assert [(row["path"], row["label"]) for row in whole] == TOLD


def test_several_levels_and_a_column_that_the_files_have_too(tmp_path: Path) -> None:
    put(tmp_path / "split=Test" / "label=007" / "a.parquet", "/1.jpg", label=["stale"], maker=["x"])
    put(tmp_path / "split=Training" / "label=8" / "b.parquet", "/2.jpg", label=["stale"], maker=["y"])
    assert rows(tmp_path, "split", "label", "maker") == [
        ("/1.jpg", "Test", "007", "x"),
        ("/2.jpg", "Training", "8", "y"),
    ]


def test_only_what_is_below_the_manifest_tells(tmp_path: Path) -> None:
    put(tmp_path / "_work" / ".x" / "label=no" / "m" / "a.parquet", "/1.jpg")
    assert rows(tmp_path / "_work" / ".x" / "label=no" / "m", "label") == [("/1.jpg", None)]


def test_what_was_not_committed_and_what_is_aside_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "part-0.parquet", "/1.jpg")
    for aside in (
        "_temporary/0/task_1/part-1.parquet",
        ".hidden.parquet",
        ".spark-staging-1/part-2.parquet",
        "_metadata",
        "_common_metadata",
        "_delta_log/00000.checkpoint.parquet",
        "a/_other.parquet",
    ):
        put(tmp_path / aside, "/uncommitted.jpg")
    for name in ("_SUCCESS", "._SUCCESS.crc", ".part-0.parquet.crc", "notes.txt"):
        (tmp_path / name).write_text("x")
    assert rows(tmp_path) == [("/1.jpg",)]


def test_files_that_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "part-0.parquet").touch()
    # As Spark writes a partition without rows; that it has other columns matters to nobody.
    pq.write_table(pa.table({"other": pa.array([], pa.string())}), tmp_path / "part-1.parquet")
    put(tmp_path / "part-2.parquet", "/1.jpg")
    put(tmp_path / "part-3.parquet")
    assert rows(tmp_path) == [("/1.jpg",)]
    (tmp_path / "part-2.parquet").unlink()
    with pytest.raises(ListingError, match="has no rows"):
        read(tmp_path)


def test_a_folder_of_nothing_but_marks_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(ListingError, match=rf"images\.manifest {tmp_path} has no rows"):
        read(tmp_path)


@pytest.mark.parametrize("names", [("000000_0", "000001_0"), ("a.parq", "b.parq"), ("0.PARQUET", "1.PARQUET")])
def test_other_endings(tmp_path: Path, names: tuple[str, str]) -> None:
    for number, name in enumerate(names):
        put(tmp_path / "m" / name, f"/{number}.jpg")
    assert rows(tmp_path / "m") == [("/0.jpg",), ("/1.jpg",)]
