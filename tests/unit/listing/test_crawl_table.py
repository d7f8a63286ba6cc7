"""A crawl's table of photographs as a manifest: its labels come along, its facts are found out anew."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle.listing.manifest import read_manifest
from mirabelle.schema import photos_schema
from mirabelle.storage import DiskStore


def test_labels_come_along_and_the_hash_stands_for_the_etag(tmp_path: Path) -> None:
    row = {
        "path": f"{tmp_path}/images/ab/abcd.jpg",
        "image_url": "https://x.org/1.jpg",
        "constructor": "Boeing",
        "airline": "ANA",
        "etag": "of-the-web-server",
        "sha256": "abcd",
        "width_px": 4,
        "height_px": 3,
        "size_bytes": 77,
        "fetched_at": datetime(2026, 1, 2, tzinfo=UTC),
        "title": "x",
    }
    table = pa.Table.from_pylist([row], photos_schema(["title"]))
    pq.write_table(table, tmp_path / "photos.parquet")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = str(tmp_path / "photos.parquet")
    listing = read_manifest(DiskStore(), path, "", ["*"], [], label="constructor", scratch=str(scratch))
    (listed,) = pq.read_table(listing.file).to_pylist()
    assert (listed["path"], listed["label"], listed["airline"]) == (row["path"], "Boeing", "ANA")
    assert (listed["etag"], listed["size_bytes"]) == ("~abcd", 77)
    assert listed["title"] == "x"
    assert not {"width_px", "height_px", "sha256", "fetched_at", "constructor"} & set(listed)


def test_one_picture_at_two_addresses_is_listed_once_with_what_both_say(tmp_path: Path) -> None:
    same = {"path": "/i/ab.jpg", "sha256": "ab", "size_bytes": 7, "airline": "ANA"}
    rows = [
        {**same, "image_url": "https://x.org/1.jpg", "constructor": "Boeing", "model_type": "737"},
        {**same, "image_url": "https://x.org/2.jpg", "constructor": "Airbus", "model_type": None},
        {**same, "path": "/i/cd.jpg", "sha256": "cd", "image_url": "https://x.org/3.jpg", "constructor": "Airbus"},
    ]
    pq.write_table(pa.Table.from_pylist(rows, photos_schema()), tmp_path / "photos.parquet")
    path = str(tmp_path / "photos.parquet")
    listing = read_manifest(DiskStore(), path, "", ["*"], [], label="constructor", scratch=str(tmp_path))
    first, second = sorted(pq.read_table(listing.file).to_pylist(), key=lambda row: row["path"])
    assert (listing.rows, listing.repeated) == (2, 1)
    assert (first["label"], first["image_url"]) == (None, None), "nobody knows which is true"
    assert (first["model_type"], first["airline"], first["etag"], first["size_bytes"]) == ("737", "ANA", "~ab", 7)
    assert (second["label"], second["image_url"]) == ("Airbus", "https://x.org/3.jpg")
