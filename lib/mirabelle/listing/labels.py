"""Labels that a table tells. [Store, scratch folder]"""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.errors import FetchError, ListingError
from mirabelle.listing.chosen import key_paths
from mirabelle.listing.columns import Options, check_once, label_columns
from mirabelle.listing.rows import Listing, finish_listing, new_file
from mirabelle.storage import Store
from mirabelle.storage.database import column, open_database, quoted

TABLE_KEYS = ("path", "file_name", "filename", "file", "image", "name")
MAX_TABLE_BYTES = 2**34
HEADER_BYTES = 2**20


def join_labels(
    listing: Listing,
    store: Store,
    table_path: str,
    root: str,
    key: str | None,
    label: str,
    split: str,
    *,
    scratch: str,
) -> Listing:
    """Take labels from a table instead of the path.

    The key column holds paths below the root, whole paths, or bare file names; the form that most rows fit is the one
    meant, and the rows that do not fit it are counted. Columns the table lacks keep what the path told; the table's
    further columns become label columns.

    Args:
        listing: as from ``list_images``.
        store: where the table is.
        table_path: CSV or Parquet file.
        root: the images' folder, which the table's paths may be relative to.
        key: name of the key column, or None for the first of ``TABLE_KEYS`` that is there.
        label: column that becomes ``label``.
        split: column that becomes ``split``.
        scratch: folder for the new listing's file.

    Raises:
        ListingError: the table cannot be read, has no such columns, names an image twice, or fits no image.
    """
    table = _read_table(store, table_path)
    options = Options(label, split)
    key = key or next((k for k in TABLE_KEYS if k in table.column_names and k not in options.named()), "")
    _check_options(table, table_path, key, options)
    names = label_columns(
        table_path, [name for name in table.column_names if name != key], options, listing.extra_labels
    )
    if not names:
        raise ListingError(f"{table_path} has no column beside {key}; there is no label in it")
    wanted = {name: _as_text(table, given, table_path) for given, name in names.items()}
    file = new_file(scratch)
    keys = key_paths(_as_text(table, key, table_path).to_pylist())
    told = {"_key": pa.array(keys, pa.string()), **wanted}
    pq.write_table(pa.table(told), file)
    form, unmatched = _form_of_keys(listing, file, root, table_path, scratch)
    extra = [
        *listing.extra_labels,
        *(c for c in wanted if c not in (*schema.listing_schema().names, *listing.extra_labels)),
    ]
    chosen = ", ".join(
        f"{'_t' if name in wanted else '_l'}.{column(name)}" for name in schema.listing_schema(extra).names
    )
    query = f"select {chosen} from {quoted(listing.file)} _l left join {quoted(file)} _t on {form} = _t._key"
    found = finish_listing(
        query,
        extra,
        scratch,
        etags_tell_content=listing.etags_tell_content,
        says_labels=True,
        leftovers=(file, listing.file),
    )
    return replace(found, repeated=listing.repeated, unmatched=unmatched)


def _check_options(table: pa.Table, table_path: str, key: str, options: Options) -> None:
    """Refuse options that name a column that is not there, or one that another names."""
    columns = table.column_names
    if key not in columns:
        raise ListingError(
            f"{table_path} has no column {key or ' or '.join(TABLE_KEYS)}; set labels.key to one of {columns}"
        )
    check_once(table_path, columns)
    for name, option, default in (
        (options.label, "labels.label", schema.LABEL),
        (options.split, "labels.split", schema.SPLIT),
    ):
        if name != default and name not in columns:
            raise ListingError(f"{table_path} has no column {name!r}; set {option} to one of {columns}")
        if name != default and name == key:
            raise ListingError(f"labels.key and {option} both name the column {key} of {table_path}; set one anew")


def _as_text(table: pa.Table, name: str, table_path: str) -> pa.ChunkedArray:
    try:
        return table[name].cast(pa.string())
    except pa.ArrowException as error:
        raise ListingError(
            f"{table_path}: the column {name} holds {table[name].type}, which is no text; drop or change it"
        ) from error


def _form_of_keys(listing: Listing, file: str, root: str, table_path: str, scratch: str) -> tuple[str, int]:
    """What of an image's path most of the table's keys are, as SQL; and how many rows name no image so."""
    start = len(root.rstrip("/")) + 2
    by_name = "regexp_extract(_l.path, '[^/]*$')"
    # Of those that fit as many, the first.
    forms = (f"substr(_l.path, {start})", "_l.path", by_name)
    images, keys = f"{quoted(listing.file)} _l", f"{quoted(file)} _t"
    with open_database(scratch) as database:

        def ask(query: str) -> tuple[Any, ...] | None:
            found: tuple[Any, ...] | None = database.execute(query).fetchone()
            return found

        fitting = {
            form: int((ask(f"select count(*) from {keys} semi join {images} on {form} = _t._key") or (0,))[0])
            for form in forms
        }
        form = max(forms, key=lambda each: fitting[each])
        rows, key, path = ask(f"select count(*), min(_key), (select min(path) from {images}) from {keys}") or (
            0,
            "",
            "",
        )
        if not fitting[form]:
            raise ListingError(
                f"no row of {table_path} names an image below {root}: one of its keys is {key!r}, an image {path!r}"
            )
        repeated = ask(f"select _key from {keys} where _key is not null group by 1 having count(*) > 1 limit 1")
        if repeated:
            raise ListingError(f"{table_path} names {repeated[0]!r} more than once; keep one row an image")
        shared = f"select 1 from {images} semi join {keys} on {form} = _t._key group by {form} having count(*) > 1"
        if form == by_name and ask(f"{shared} limit 1"):
            raise ListingError(
                f"{table_path} tells labels by file name, but several images below {root} share a name; use paths"
            )
    return form, int(rows) - fitting[form]


def _check_header(content: bytes, path: str) -> None:
    """Refuse a name that stands twice, before pandas gives the second another."""
    lines = (line for line in io.StringIO(content[:HEADER_BYTES].decode("utf-8-sig", "replace")) if line.strip())
    header = next(csv.reader(lines), [])
    check_once(path, header)


def _read_table(store: Store, path: str) -> pa.Table:
    """A CSV or Parquet file, told apart by its first bytes."""
    import pandas as pd

    try:
        content = store.read(path, MAX_TABLE_BYTES)
        if content[:4] == b"PAR1":
            # Not read_table, which takes no column that stands twice.
            table = pq.ParquetFile(io.BytesIO(content)).read()
        else:
            _check_header(content, path)
            # All as text: a label may be 007, or NA for Namibia.
            frame = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, na_values=[""])
            table = pa.Table.from_pandas(frame, preserve_index=False)
    except FetchError as error:
        raise ListingError(f"cannot read labels.table {path}: {error}") from error
    except (ValueError, pa.ArrowInvalid) as error:
        raise ListingError(f"labels.table {path} is neither CSV nor Parquet: {str(error).splitlines()[0]}") from error
    if table.num_rows == 0:
        raise ListingError(f"labels.table {path} has no rows")
    return table
