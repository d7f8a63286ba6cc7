"""S3 Inventories: what AWS's documentation says of them, in CSV and in Parquet."""

import gzip
import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mirabelle.errors import ListingError
from mirabelle.listing import Listing, read_manifest
from mirabelle.storage import DiskStore

FOLDER = "inventories/pictures/daily"
ODD = [
    "a b.jpg",
    "1+1=2.jpg",
    "100%.jpg",
    "100%25.jpg",
    "grün/日本.jpg",
    "a,b'c\"d.jpg",
    "a#b?c&d.jpg",
    "new\nline.jpg",
]
SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"


def read(path: Path, root: str = "", layout: str | None = None) -> Listing:
    return read_manifest(
        DiskStore(), str(path), root, ("*",), (".*",), layout, label="label", split="split", scratch=tempfile.mkdtemp()
    )


def paths(listing: Listing) -> list[str]:
    return listing.table.sort_by("path")["path"].to_pylist()


def put(at: Path, kind: str, schema: str, keys: Sequence[str]) -> Path:
    facts = {
        "sourceBucket": "pictures",
        "destinationBucket": "arn:aws:s3:::inventories",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": kind,
        "fileSchema": schema,
        "files": [{"key": key, "size": 1, "MD5checksum": "x"} for key in keys],
    }
    at.mkdir(parents=True, exist_ok=True)
    (at / "manifest.json").write_text(json.dumps(facts))
    return at / "manifest.json"


def line(*values: str) -> str:
    return ",".join(f'"{value}"' for value in values) + "\n"


def csv_inventory(at: Path, files: Sequence[Sequence[str]], schema: str = SCHEMA) -> Path:
    keys = []
    for number, lines in enumerate(files):
        keys.append(f"{FOLDER}/data/{number}.csv.gz")
        file = at / "data" / f"{number}.csv.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress("".join(lines).encode()))
    return put(at / "2026-01-01T00-00Z", "CSV", schema, keys)


def row(key: str, latest: str = "true", deleted: str = "false", modified: str = "2026-01-01T00:00:00.000Z") -> str:
    size, etag = ("", "") if deleted == "true" else ("12", "9bb58f26192e4ba00f01e2e7b136bbd8")
    size = "0" if key.endswith("/") else size
    return line("pictures", quote_plus(key), "v1", latest, deleted, size, modified, etag, "STANDARD")


def expected(keys: Sequence[str]) -> list[str]:
    return sorted(f"s3://pictures/{key}" for key in keys)


def test_in_csv_of_several_files(tmp_path: Path) -> None:
    manifest = csv_inventory(tmp_path, [[row(key) for key in ODD[:3]], [row(key) for key in ODD[3:]]])
    found = read(manifest)
    assert paths(found) == expected(ODD)
    first = found.table.to_pylist()[0]
    assert (first["size_bytes"], first["etag"]) == (12, "9bb58f26192e4ba00f01e2e7b136bbd8")
    assert first["modified"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert (found.rows, found.extra_labels, found.repeated, found.etags_tell_content) == (len(ODD), (), 0, True)


def test_keys_are_encoded_in_one_way_or_the_other(tmp_path: Path) -> None:
    encoded = [quote(key, safe="") for key in ODD]
    lines = [line("pictures", key, "12") for key in encoded]
    assert paths(read(csv_inventory(tmp_path, [lines], "Bucket, Key, Size"))) == expected(ODD)


def test_of_all_versions_those_that_are_there_now(tmp_path: Path) -> None:
    lines = [
        row("a.jpg", latest="false", modified="2025-01-01T00:00:00.000Z"),
        row("a.jpg", modified="2026-01-01T00:00:00.000Z"),
        row("b.jpg", latest="false"),
        row("b.jpg", deleted="true"),
        row("c.jpg"),
    ]
    found = read(csv_inventory(tmp_path, [lines]))
    assert paths(found) == expected(["a.jpg", "c.jpg"])
    assert found.repeated == 0


def test_in_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {
            "bucket": ["pictures"] * 4,
            "key": ["a b.jpg", "1+1=2.jpg", "100%25.jpg", "gone.jpg"],  # not encoded, other than in CSV
            "version_id": ["v"] * 4,
            "is_latest": [True] * 4,
            "is_delete_marker": [False, False, None, True],
            "size": [1, 2, 3, None],
            "last_modified_date": pa.array([datetime(2026, 1, 1)] * 4, pa.timestamp("ms")),
            "e_tag": ["x", "y", "z", None],
            "storage_class": ["STANDARD"] * 4,
            "encryption_status": ["SSE-S3"] * 4,
        }
    )
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "0.parquet")
    manifest = put(tmp_path / "then", "Parquet", "message s3.inventory {}", [f"{FOLDER}/data/0.parquet"])
    found = read(manifest)
    assert paths(found) == expected(["a b.jpg", "1+1=2.jpg", "100%25.jpg"])
    assert (found.size_bytes, found.extra_labels) == (6, ())
    assert found.table["modified"][0].as_py() == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("place", ["beside it", "in data", "as synchronised", "as the key says"])
def test_a_copy_on_a_disk_finds_its_files(tmp_path: Path, place: str) -> None:
    manifest = put(tmp_path / "down" / "then", "CSV", "Bucket, Key", [f"{FOLDER}/data/0.csv.gz"])
    where = {
        "beside it": tmp_path / "down" / "then",
        "in data": tmp_path / "down" / "then" / "data",
        "as synchronised": tmp_path / "down" / "data",
        "as the key says": tmp_path / FOLDER / "data",
    }
    file = where[place] / "0.csv.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(line("pictures", "a.jpg").encode()))
    assert paths(read(manifest)) == expected(["a.jpg"])


def test_a_part_of_the_bucket_with_labels_from_the_path(tmp_path: Path) -> None:
    manifest = csv_inventory(tmp_path, [[row("raw/Test/kiwi/1.jpg"), row("rawer/x.jpg"), row("raw/Test/kiwi/")]])
    found = read(manifest, root="s3://pictures/raw", layout="{split}/{label}/{name}")
    assert [(r["path"], r["split"], r["label"]) for r in found.table.to_pylist()] == [
        ("s3://pictures/raw/Test/kiwi/1.jpg", "Test", "kiwi")
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "is no S3 Inventory manifest"),
        ("{}", "is no S3 Inventory manifest: 'files'"),
        ("nothing", "is no S3 Inventory manifest"),
        ('{"files": [], "fileFormat": "ORC"}', "is an inventory in ORC; have it made as CSV or Parquet"),
        (
            '{"files": [], "fileFormat": "CSV", "fileSchema": "Bucket, Key", "destinationBucket": "arn:aws:s3:::b"}',
            "has no rows",
        ),
        (
            '{"files": [{"key": "d/0.csv.gz"}], "fileFormat": "CSV", "fileSchema": "Bucket, Key",'
            ' "destinationBucket": "arn:aws:s3:::b"}',
            "cannot read images.manifest .*/d/0.csv.gz",
        ),
    ],
)
def test_one_that_is_none_is_one_sentence(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ListingError, match=reason) as raised:
        read(tmp_path / "manifest.json")
    assert "\n" not in str(raised.value)
