"""The files of a listing that somebody else made, whatever their form, as batches of equal columns. [Store]"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.errors import FetchError, ListingError
from mirabelle.listing.columns import check_once
from mirabelle.listing.facts import sizes, times
from mirabelle.listing.folders import data_files, with_partitions
from mirabelle.storage import Store, is_s3, join

# A crawl's table of photographs is known by these. What it says of a picture's size is found out anew, and its etags
# are those of the web's servers; the content's own hash says more.
CRAWL = frozenset({"image_url", "sha256"})
OF_CRAWLS = frozenset({"sha256", "fetched_at", schema.WIDTH_PX, schema.HEIGHT_PX})
BATCH_ROWS = 50_000
CSV_BLOCK_BYTES = 2**23
HEADER_BYTES = 2**16
# Names that others give these columns: S3 Inventory in CSV and in Parquet, pandas users, img2dataset.
KNOWN = {
    schema.PATH: ("path", "uri", "file_name", "filename", "file", "image", "key", "Key"),
    schema.SIZE_BYTES: ("size_bytes", "size", "Size"),
    schema.MODIFIED: ("modified", "last_modified", "last_modified_date", "LastModifiedDate"),
    schema.ETAG: ("etag", "e_tag", "ETag"),
}
BUCKET = ("bucket", "Bucket")
LATEST, DELETED = ("is_latest", "IsLatest"), ("is_delete_marker", "IsDeleteMarker")
# Fields of an inventory that say nothing of a picture.
INVENTORY = frozenset(
    name
    for pair in (
        ("version_id", "VersionId"),
        ("storage_class", "StorageClass"),
        ("is_multipart_uploaded", "IsMultipartUploaded"),
        ("replication_status", "ReplicationStatus"),
        ("encryption_status", "EncryptionStatus"),
        ("object_lock_retain_until_date", "ObjectLockRetainUntilDate"),
        ("object_lock_mode", "ObjectLockMode"),
        ("object_lock_legal_hold_status", "ObjectLockLegalHoldStatus"),
        ("intelligent_tiering_access_tier", "IntelligentTieringAccessTier"),
        ("bucket_key_status", "BucketKeyStatus"),
        ("checksum_algorithm", "ChecksumAlgorithm"),
        ("object_access_control_list", "ObjectAccessControlList"),
        ("object_owner", "ObjectOwner"),
    )
    for name in pair
)


class ManifestFiles:
    """Parquet or CSV of paths, or an S3 Inventory of either.

    Attributes:
        labels: columns that may say what a picture shows.
        is_crawl: it is a crawl's table of photographs.
        is_inventory: it is of a whole bucket, in which there are other things, too.
        has_etags: it tells the files' etags.

    Raises:
        ListingError: it cannot be read, has no rows or no paths.
    """

    def __init__(self, store: Store, path: str) -> None:
        self._store, self._path = store, path
        self._header: list[str] | None = None
        self._is_inventory_csv = self._is_folder = False
        self._first: list[str] | None = None
        self._names = self._find()
        first = next(self.batches(), None)
        if first is None:
            raise ListingError(f"images.manifest {path} has no rows")
        self._first = columns = first.schema.names
        self._columns = {known: next((n for n in names if n in columns), None) for known, names in KNOWN.items()}
        self._bucket = next((n for n in BUCKET if n in columns), None)
        self._latest = next((n for n in LATEST if n in columns), None)
        self._deleted = next((n for n in DELETED if n in columns), None)
        if self._columns[schema.PATH] is None:
            raise ListingError(
                f"images.manifest {path} has no column {' or '.join(KNOWN[schema.PATH][:5])}; it has {columns}"
            )
        self.is_crawl = set(columns) >= CRAWL
        used = {*self._columns.values(), self._bucket, self._latest, self._deleted, *INVENTORY}
        used |= OF_CRAWLS if self.is_crawl else set()
        self.labels = [name for name in columns if name not in used]
        self.is_inventory = self._bucket is not None
        self.has_etags = self._columns[schema.ETAG] is not None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as they are written."""
        for name in self._names:
            try:
                for rows in self._read(name):
                    if not rows.num_rows:
                        continue
                    batch = with_partitions(rows, self._path, name) if self._is_folder else rows
                    check_once(f"images.manifest {name}", batch.schema.names)
                    if self._first is not None and set(self._first) - set(batch.schema.names):
                        raise ListingError(
                            f"images.manifest {name} has other columns than {self._names[0]}; give both the same"
                        )
                    yield batch
            except FetchError as error:
                raise ListingError(f"cannot read images.manifest {name}: {error}") from error
            except OSError as error:
                raise ListingError(f"cannot read images.manifest {name}: {error.strerror or error}") from error
            except (pa.ArrowInvalid, UnicodeDecodeError) as error:
                reason = str(error).splitlines()[0]
                raise ListingError(f"images.manifest {name} is neither CSV nor Parquet: {reason}") from error

    def paths(self, batch: pa.RecordBatch) -> pa.Array:
        """The column of paths, with the bucket in front where another column has it."""
        paths = batch.column(self._columns[schema.PATH]).cast(pa.string())
        if self._is_inventory_csv:
            paths = pa.array([unquote_plus(key) if key is not None else None for key in paths.to_pylist()], pa.string())
        if self._bucket is None:
            return paths
        return pc.binary_join_element_wise("s3:/", batch.column(self._bucket).cast(pa.string()), paths, "/")

    def current(self, batch: pa.RecordBatch) -> pa.Array:
        """Which rows are of objects that are there now, in an inventory of all versions."""
        keep = pa.array([True] * batch.num_rows, pa.bool_())
        if self._latest is not None:
            keep = pc.and_(keep, pc.fill_null(batch.column(self._latest).cast(pa.bool_()), True))
        if self._deleted is not None:
            keep = pc.and_(keep, pc.invert(pc.fill_null(batch.column(self._deleted).cast(pa.bool_()), False)))
        return keep

    def objects(self, batch: pa.RecordBatch, paths: pa.Array) -> pa.Array:
        """Which rows are more than the "folders" that consoles make: empty, with names that end in /."""
        found = self._columns[schema.SIZE_BYTES]
        if found is None:
            return pa.array([True] * batch.num_rows, pa.bool_())
        is_empty = pc.fill_null(pc.equal(sizes(batch.column(found)), 0), False)
        return pc.invert(pc.and_(is_empty, pc.fill_null(pc.ends_with(paths, "/"), False)))

    def facts(self, rows: pa.RecordBatch) -> dict[str, pa.Array]:
        """Size, time and etag; an etag is made of the other two where none is told."""

        def told(name: str) -> pa.Array:
            found = self._columns[name]
            return rows.column(found) if found else pa.nulls(rows.num_rows, pa.string())

        # Inventories tell the bucket, and their times are UTC's though those in Parquet do not say so.
        modified, moment = times(told(schema.MODIFIED), is_utc=self._bucket is not None)
        size = sizes(told(schema.SIZE_BYTES))
        etag = pc.utf8_trim(told(schema.ETAG).cast(pa.string()), '"')
        if self.is_crawl:
            etag = pc.binary_join_element_wise("~", rows.column("sha256"), "")
        parts = (pc.fill_null(column.cast(pa.string()), "") for column in (moment, size))
        # The mark in front tells it from one that stands for content.
        made = pc.binary_join_element_wise("~", *parts, "-")
        return {schema.SIZE_BYTES: size, schema.MODIFIED: modified, schema.ETAG: pc.coalesce(etag, made)}

    def _find(self) -> list[str]:
        path = self._path
        if path.endswith(".json"):
            return self._find_inventory()
        if path.endswith((".csv", ".csv.gz")):
            return [path]
        # A folder that Spark wrote may well be called manifest.parquet.
        below = data_files(self._store, path)
        self._is_folder = below is not None
        return [path] if below is None else below

    def _find_inventory(self) -> list[str]:
        """Data files of an S3 Inventory, whose ``manifest.json`` names them by key in its own bucket."""
        try:
            facts = json.loads(self._store.read(self._path, 2**26))
            keys = [file["key"] for file in facts["files"]]
            if facts["fileFormat"] == "CSV":
                self._header = [name.strip() for name in facts["fileSchema"].split(",")]
                self._is_inventory_csv = True
            elif facts["fileFormat"] != "Parquet":
                raise ListingError(
                    f"images.manifest {self._path} is an inventory in {facts['fileFormat']}; have it made as CSV or"
                    " Parquet"
                )
            bucket = str(facts["destinationBucket"]).removeprefix("arn:aws:s3:::")
        except FetchError as error:
            raise ListingError(f"cannot read images.manifest {self._path}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ListingError(f"images.manifest {self._path} is no S3 Inventory manifest: {error}") from error
        if is_s3(self._path):
            return [f"s3://{bucket}/{key}" for key in keys]
        # A copy on a disk: the data files lie below one of its folders, as their keys say, or beside it.
        folder = self._path.rpartition("/")[0]
        return [next((p for p in _up(folder, key) if self._store.exists(p)), join(folder, key)) for key in keys]

    def _read(self, name: str) -> Iterator[pa.RecordBatch]:
        with self._store.open(name) as file:
            magic = file.read(4)
            file.seek(0)
            if magic == b"PAR1":
                yield from pq.ParquetFile(file).iter_batches(BATCH_ROWS)
                return
            stream = pa.PythonFile(file, mode="r")
            if magic[:2] == b"\x1f\x8b":
                stream = pa.CompressedInputStream(stream, "gzip")
            header = self._header or _read_header(self._store, name, magic[:2] == b"\x1f\x8b")
            yield from pyarrow.csv.open_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(
                    block_size=CSV_BLOCK_BYTES, column_names=header, skip_rows=0 if self._header else 1
                ),
                # As text: a label may be 007, or NA for Namibia.
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types={column: pa.string() for column in header},
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )


def _read_header(store: Store, name: str, is_gzip: bool) -> list[str]:
    with store.open(name) as file:
        stream = pa.PythonFile(file, mode="r")
        start = (pa.CompressedInputStream(stream, "gzip") if is_gzip else stream).read(HEADER_BYTES)
    # What was read may end amid a character.
    line = next(csv.reader(io.StringIO(start.decode("utf-8-sig", "replace"))), None)
    if not line:
        raise ListingError(f"images.manifest {name} has no rows")
    return line


def _up(folder: str, key: str) -> Iterator[str]:
    name = key.rpartition("/")[2]
    yield from (join(folder, name), join(folder, "data", name), join(folder.rpartition("/")[0], "data", name))
    while folder:
        yield join(folder, key)
        folder = folder.rpartition("/")[0]
