"""Listings that somebody else made: Parquet and CSV."""

import gzip
import hashlib
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mirabelle.errors import ListingError
from mirabelle.listing import Listing, read_manifest
from mirabelle.storage import DiskStore

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def read(
    path: Path,
    root: str = "",
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    layout: str | None = None,
    label: str = "label",
    split: str = "split",
) -> Listing:
    return read_manifest(
        DiskStore(), str(path), root, include, exclude, layout, label=label, split=split, scratch=tempfile.mkdtemp()
    )


def rows(listing: Listing, *wanted: str) -> list[tuple]:
    """Some columns by path, in the order of the paths."""
    table = listing.table.sort_by("path")
    return list(zip(*(table[c].to_pylist() for c in wanted), strict=True))


def paths(listing: Listing) -> list[str]:
    return [path for (path,) in rows(listing, "path")]


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture(params=["csv", "csv.gz", "csv with a BOM", "parquet", "folder of parquet"])
def write(request: pytest.FixtureRequest, tmp_path: Path):
    """Puts a table away in one form after the other."""

    def put(frame: pd.DataFrame) -> Path:
        kind = request.param
        path = tmp_path / f"manifest.{kind}".replace(" with a BOM", "").replace("folder of parquet", "parquet")
        if kind == "parquet":
            frame.to_parquet(path)
        elif kind == "folder of parquet":
            # As Spark writes it: the folder's name ends like a file's, and there is more in it.
            path.mkdir()
            frame.iloc[:1].to_parquet(path / "part-00000.snappy.parquet")
            frame.iloc[1:].to_parquet(path / "part-00001.snappy.parquet")
            (path / "_SUCCESS").write_text("")
        else:
            frame.to_csv(path, index=False, encoding="utf-8-sig" if "BOM" in kind else "utf-8")
        return path

    return put


def test_every_form_tells_the_same(write) -> None:
    frame = pd.DataFrame(
        {
            "path": ["s3://b/x/1.jpg", "s3a://b/x/grün 日本.jpg", "s3n://b/y/3,4.jpg"],
            "size_bytes": [10, 20, 30],
            "modified": [WHEN.isoformat()] * 3,
            "etag": [md5("1"), f'"{md5("2")}"', f"{md5('3')}-4"],
            "label": ["007", "NA", None],
            "maker": ["null", "1e5", "ä"],
        }
    )
    found = read(write(frame))
    assert rows(found, "path", "size_bytes", "etag", "label", "maker", "split") == [
        ("s3://b/x/1.jpg", 10, md5("1"), "007", "null", None),
        ("s3://b/x/grün 日本.jpg", 20, md5("2"), "NA", "1e5", None),
        ("s3://b/y/3,4.jpg", 30, f"{md5('3')}-4", None, "ä", None),
    ]
    assert rows(found, "modified") == [(WHEN,)] * 3
    assert (found.rows, found.size_bytes, found.labels, found.unlabelled, found.repeated) == (3, 60, 2, 1, 0)
    assert found.extra_labels == ("maker",)
    assert found.etags_tell_content


def test_paths_alone_are_enough(write) -> None:
    found = read(write(pd.DataFrame({"file_name": ["/p/b.jpg", "/p/a.jpg"]})))
    assert rows(found, "path", "size_bytes", "modified", "etag") == [
        ("/p/a.jpg", None, None, "~--"),
        ("/p/b.jpg", None, None, "~--"),
    ]
    assert (found.size_bytes, found.unlabelled, found.etags_tell_content) == (0, 0, False)


def test_where_no_etag_is_told_time_and_size_stand_for_it(tmp_path: Path) -> None:
    def etag(size: str, modified: str) -> str:
        manifest = tmp_path / "m.csv"
        manifest.write_text(f"path,size,last_modified,etag\n/a.jpg,{size},{modified},\n/b.jpg,1,,{md5('b')}\n")
        found = read(manifest)
        assert rows(found, "etag")[1] == (md5("b"),)
        return rows(found, "etag")[0][0]

    made = [etag("1", "2026-01-02T00:00:00Z"), etag("2", "2026-01-02T00:00:00Z"), etag("1", "2026-01-03T00:00:00Z")]
    assert len({*made, etag("", "")}) == 4
    # So that none is taken for one that tells content.
    assert all(one.startswith("~") for one in made)


def test_times_in_nanoseconds(tmp_path: Path) -> None:
    moment = pa.scalar(1_700_000_000_123_456_789, pa.timestamp("ns"))
    table = pa.table({"path": ["/a.jpg"], "modified": pa.array([moment.as_py()], pa.timestamp("ns", tz="UTC"))})
    pq.write_table(table, tmp_path / "m.parquet")
    assert rows(read(tmp_path / "m.parquet"), "modified") == [(datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC),)]


def test_other_kinds_of_columns_of_text(tmp_path: Path) -> None:
    table = pa.table(
        {
            "path": pa.array(["/a.jpg", "/b.jpg"], pa.large_string()),
            "label": pa.array(["x", "y"]).dictionary_encode(),
            "year": pa.array([2020, None]),
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    assert rows(read(tmp_path / "m.parquet"), "path", "label", "year") == [
        ("/a.jpg", "x", "2020"),
        ("/b.jpg", "y", None),
    ]


def test_pandas_own_index_is_no_label(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["/a.jpg", "/b.jpg", "/c.jpg"], "label": list("xyz")})
    frame[frame["label"] != "y"].to_parquet(tmp_path / "m.parquet")
    assert "__index_level_0__" in pq.read_schema(tmp_path / "m.parquet").names
    found = read(tmp_path / "m.parquet")
    assert (found.rows, found.extra_labels) == (2, ())


def test_paths_that_are_not_whole_are_below_the_root_or_beside_the_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("path\na/1.jpg\n/p/a/2.jpg\nfile:///p/a/3.jpg\n/elsewhere/4.jpg\n")
    assert paths(read(manifest, root="/p")) == ["/p/a/1.jpg", "/p/a/2.jpg", "/p/a/3.jpg"]
    assert paths(read(manifest, root="/p/")) == ["/p/a/1.jpg", "/p/a/2.jpg", "/p/a/3.jpg"]
    assert paths(read(manifest)) == ["/elsewhere/4.jpg", "/p/a/2.jpg", "/p/a/3.jpg", f"{tmp_path}/a/1.jpg"]
    manifest.write_text("path\na/1.jpg\ns3a://bucket/x/a/2.jpg\ns3://bucket/xy/3.jpg\n")
    assert paths(read(manifest, root="s3://bucket/x")) == ["s3://bucket/x/a/1.jpg", "s3://bucket/x/a/2.jpg"]


def test_labels_of_a_layout_and_of_columns(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,kind,fold\nred/a/1.jpg,apple,train\ngreen/2.jpg,kiwi,\n")
    found = read(manifest, root="s3://b/p", layout="{colour}/{label}/{name}", label="kind", split="fold")
    assert rows(found, "label", "split", "colour") == [("kiwi", None, None), ("apple", "train", "red")]
    assert found.extra_labels == ("colour",)
    found = read(manifest, root="s3://b/p", layout="{colour}/{label}/{name}")
    assert rows(found, "label", "kind", "fold") == [(None, "kiwi", None), ("a", "apple", "train")]
    assert found.unlabelled == 1
    # Without a root, what comes after the bucket is what the layout sees.
    manifest.write_text("path\ns3://b/red/a/1.jpg\n")
    assert rows(read(manifest, layout="{split}/{label}/{name}"), "split", "label") == [("red", "a")]


def test_include_and_exclude(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("path\ns3://b/a/1.jpg\ns3://b/a/.hidden.jpg\ns3://b/a/2.png\ns3://b/c/3.jpg\n")
    assert paths(read(manifest)) == ["s3://b/a/.hidden.jpg", "s3://b/a/1.jpg", "s3://b/a/2.png", "s3://b/c/3.jpg"]
    assert paths(read(manifest, include=["*.jpg"], exclude=["c/"])) == ["s3://b/a/.hidden.jpg", "s3://b/a/1.jpg"]


def test_a_path_that_is_repeated_counts_once_and_the_newest_row_is_it(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        "path,modified,etag\n/a.jpg,2026-01-01T00:00:00Z,old\n/a.jpg,2026-01-03T00:00:00Z,new\n/a.jpg,,none\n"
        "/b.jpg,,\n/b.jpg,,\n"
    )
    found = read(manifest)
    assert rows(found, "path", "etag") == [("/a.jpg", "new"), ("/b.jpg", "~--")]
    assert (found.rows, found.repeated) == (2, 3)


def test_a_long_file_in_other_scripts(tmp_path: Path) -> None:
    """The header is read out of the first block, whose end falls inside a character."""
    for shift in range(3):
        manifest = tmp_path / "m.csv"
        names = [f"/{'x' * shift}{'日' * 50}/{number}.jpg" for number in range(1000)]
        manifest.write_text("path\n" + "\n".join(names) + "\n", encoding="utf-8")
        assert manifest.stat().st_size > 2**17
        assert read(manifest).rows == 1000


@pytest.mark.slow
def test_more_rows_than_a_batch_holds(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": [f"/{n}.jpg" for n in range(120_000)]}), tmp_path / "m.parquet")
    with gzip.open(tmp_path / "m.csv.gz", "wt") as file:
        file.write("path,size\n" + "".join(f"/{'x' * 100}{n}.jpg,{n}\n" for n in range(120_000)))
    assert read(tmp_path / "m.parquet").rows == 120_000
    found = read(tmp_path / "m.csv.gz")
    assert (found.rows, found.size_bytes) == (120_000, 120_000 * 119_999 // 2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"who,what\na,b\n", r"has no column path or uri or .*; it has \['who', 'what'\]"),
        (b"", "has no rows"),
        (b"path,label\n", "has no rows"),
        (b"path,label\n/a.jpg,x,y\n", "neither CSV nor Parquet: CSV parse error"),
        ("path\n/grün.jpg\n".encode("latin-1"), "neither CSV nor Parquet: .*UTF8"),
        (b"PAR1 and no more", "neither CSV nor Parquet"),
        (b"\x1f\x8b and no more", "cannot read images.manifest .*: zlib inflate failed"),
        (gzip.compress(b"path\n" + b"/a.jpg\n" * 99, mtime=0)[:-20], "cannot read images.manifest .*: Truncated"),
        (b"\x89PNG\r\n\x1a\n\0\0", "has no column path|neither CSV nor Parquet"),
        (b"path,width_px\n/a.jpg,3\n", "the column width_px has a name that Mirabelle keeps for itself; rename it"),
        (b"path,_x\n/a.jpg,3\n", "the column _x has a name that Mirabelle keeps"),
        (b"path,size\n/a.jpg,large\n", r"'large' .*; mend that row or column"),
        (b"path,modified\n/a.jpg,yesterday\n", r"yesterday.*; mend that row or column"),
        (b'path,label\n"",x\n,y\n', "no row of images.manifest .* names an image of this run: 2 without a path; mend"),
    ],
)
def test_a_bad_manifest_is_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_bytes(content)
    with pytest.raises(ListingError, match=reason) as raised:
        read(manifest)
    assert str(manifest) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_that_is_not_there_or_fits_nothing(tmp_path: Path) -> None:
    for name in ("m.csv", "m.parquet", "folder", "manifest.json"):
        with pytest.raises(ListingError, match=rf"cannot read images\.manifest {tmp_path}/{name}: "):
            read(tmp_path / name)
    (tmp_path / "m.csv").write_text("path\n/a/1.jpg\n")
    with pytest.raises(ListingError, match=r"images.layout '\{split\}/\{label\}/\{name\}' fits none of the paths in"):
        read(tmp_path / "m.csv", layout="{split}/{label}/{name}")


def test_files_that_do_not_agree_are_one_sentence(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["/a.jpg"], "label": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"path": ["/b.jpg"]}), tmp_path / "2.parquet")
    with pytest.raises(ListingError, match=r"2\.parquet has other columns than .*1\.parquet"):
        read(tmp_path)
