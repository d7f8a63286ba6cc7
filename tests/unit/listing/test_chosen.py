"""Every row of a manifest is an image, a repetition, or counted with the reason why it is none."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirabelle.errors import ListingError
from mirabelle.listing import Listing, read_manifest
from mirabelle.listing.chosen import whole_paths
from mirabelle.storage import DiskStore


def read(
    manifest: Path, root: str = "", include: Sequence[str] = ("*",), exclude: Sequence[str] = ()
) -> tuple[Listing, list[str]]:
    found = read_manifest(DiskStore(), str(manifest), root, include, exclude, scratch=tempfile.mkdtemp())
    return found, sorted(found.table["path"].to_pylist())


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ("a/1.jpg", "/p/a/1.jpg"),
        ("./a/1.jpg", "/p/a/1.jpg"),
        ("././a/./1.jpg", "/p/a/1.jpg"),
        ("a//1.jpg", "/p/a/1.jpg"),
        ("a/b/../1.jpg", "/p/a/1.jpg"),
        ("../q/1.jpg", "/q/1.jpg"),
        ("/p/./a/1.jpg", "/p/a/1.jpg"),
        ("//p/a/1.jpg", "/p/a/1.jpg"),
        ("file:///p/x/../a/1.jpg", "/p/a/1.jpg"),
        (".cache/1.jpg", "/p/.cache/1.jpg"),
        ("..a/...b/1..jpg", "/p/..a/...b/1..jpg"),
        ("s3a://b/a//./1.jpg", "s3://b/a//./1.jpg"),
        ("https://host/a/../1.jpg", "https://host/a/../1.jpg"),
        (None, None),
        ("", None),
        ("  ", None),
    ],
)
def test_paths_are_made_whole_and_plain(written: str | None, whole: str | None) -> None:
    assert whole_paths([written], "/p") == [whole]
    assert whole_paths([written], "/p/") == [whole]


def test_paths_below_a_bucket() -> None:
    written = ["a/1.jpg", "./a/1.jpg", "../q/1.jpg", "../../../1.jpg", ".a/1.jpg"]
    assert whole_paths(written, "s3://b/in") == [
        "s3://b/in/a/1.jpg",
        "s3://b/in/a/1.jpg",
        "s3://b/q/1.jpg",
        "s3://b/1.jpg",
        "s3://b/in/.a/1.jpg",
    ]
    assert whole_paths(["./1.jpg"], "s3://b") == ["s3://b/1.jpg"]


def test_a_path_that_somebody_wrote_out_is_not_hidden(tmp_path: Path) -> None:
    manifest = tmp_path / ".m.csv"
    manifest.write_text("path\n/home/u/.cache/fruits/1.jpg\n./2.jpg\n.3.jpg\n")
    expected = ["/home/u/.cache/fruits/1.jpg", f"{tmp_path}/.3.jpg", f"{tmp_path}/2.jpg"]
    assert read(manifest)[1] == expected
    assert read(manifest)[0].left_out == ()
    # But who excludes it does so.
    found, paths = read(manifest, exclude=[".*"])
    assert paths == [f"{tmp_path}/2.jpg"]
    assert found.left_out == (("that images.include and images.exclude leave out", 2),)


def test_each_row_is_an_image_or_is_counted_with_its_reason(tmp_path: Path) -> None:
    manifest = tmp_path / "m.parquet"
    written = ["a/1.jpg", "./a/1.jpg", "/elsewhere/2.jpg", "../3.jpg", None, " ", "b/4.txt", "c/", "a/5.jpg"]
    pd.DataFrame({"path": written, "size": [1, 1, 1, 1, 1, 1, 1, 0, 1]}).to_parquet(manifest)
    found, paths = read(manifest, "/p", exclude=["*.txt"])
    assert paths == ["/p/a/1.jpg", "/p/a/5.jpg"]
    assert found.repeated == 1
    assert dict(found.left_out) == {
        "not below images.root": 2,
        "without a path": 2,
        "that images.include and images.exclude leave out": 1,
        "of folders that a console made": 1,
    }
    assert found.rows + found.repeated + sum(rows for _, rows in found.left_out) == len(written)


def test_an_inventory_is_no_person_and_its_hidden_rows_are_counted(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    keys = ["in/1.jpg", "in/.hidden.jpg", "in/Thumbs.db", "in/2.jpg", "in/3.jpg", "other/4.jpg"]
    rows = [f"b,{key},{str(key != 'in/2.jpg').lower()},{str(key == 'in/3.jpg').lower()}" for key in keys]
    manifest.write_text("\n".join(["bucket,key,is_latest,is_delete_marker", *rows]) + "\n")
    found, paths = read(manifest, "s3://b/in")
    assert paths == ["s3://b/in/1.jpg"]
    assert dict(found.left_out) == {
        "hidden, left by a system or written by Mirabelle": 2,
        "of objects that are deleted or were replaced": 2,
        "not below images.root": 1,
    }


def test_where_no_row_is_left_the_reasons_are_told(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,label\n/elsewhere/1.jpg,x\n,y\n/p/2.txt,z\n")
    reasons = "1 not below images.root, 1 without a path, 1 that images.include and images.exclude leave out; mend"
    with pytest.raises(ListingError, match=reasons):
        read(manifest, "/p", include=["*.jpg"])


@given(st.lists(st.sampled_from([".", "..", "", "a", ".b", "c d", "é"]), min_size=1, max_size=6))
def test_a_whole_path_names_what_the_written_one_names_and_is_made_once(parts: list[str]) -> None:
    written = "/".join(parts)
    (whole,) = whole_paths([written], "/p/q")
    if whole is None:
        assert not written
        return
    # What POSIX says of each part, taken one by one.
    steps: list[str] = [] if written.startswith("/") else ["p", "q"]
    for part in parts:
        if part == "..":
            del steps[-1:]
        elif part not in ("", "."):
            steps.append(part)
    assert whole.rstrip("/") == "/" + "/".join(steps) if steps else whole == "/"
    assert whole_paths([whole], "/elsewhere") == [whole]
