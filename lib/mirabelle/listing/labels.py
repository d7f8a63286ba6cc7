"""Labels that a table tells. [Store, scratch folder]"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.errors import FetchError, ListingError
from mirabelle.listing.rows import Listing, finish_listing, new_file
from mirabelle.storage import Store
from mirabelle.storage.database import column, open_database, quoted

TABLE_KEYS = ("path", "file_name", "filename", "file", "image", "name")
MAX_TABLE_BYTES = 2**34


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

    The key column holds paths below the root, whole paths, or bare file names; the first form that any row fits is
    the one meant. Columns the table lacks keep what the path told; the table's further columns become label columns.

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
    key = key or next((k for k in TABLE_KEYS if k in table.column_names), "")
    if key not in table.column_names:
        raise ListingError(
            f"{table_path} has no column {key or ' or '.join(TABLE_KEYS)}; set labels.key to one of"
            f" {table.column_names}"
        )
    wanted = _label_columns(table, table_path, key, label, split)
    file = new_file(scratch)
    told = {"_key": _as_text(table, key, table_path), **wanted}
    pq.write_table(pa.table(told), file)
    form = _form_of_keys(listing, file, root, table_path, scratch)
    extra = [
        *listing.extra_labels,
        *(c for c in wanted if c not in (*schema.listing_schema().names, *listing.extra_labels)),
    ]
    chosen = ", ".join(
        f"{'t' if name in wanted else 'l'}.{column(name)}" for name in schema.listing_schema(extra).names
    )
    query = f"select {chosen} from {quoted(listing.file)} l left join {quoted(file)} t on {form} = t._key"
    return finish_listing(
        query,
        extra,
        scratch,
        etags_tell_content=listing.etags_tell_content,
        says_labels=True,
        leftovers=(file, listing.file),
    )


def _label_columns(table: pa.Table, table_path: str, key: str, label: str, split: str) -> dict[str, pa.ChunkedArray]:
    """The table's columns but the key, as text, under the names they will have."""
    for name, option, default in ((label, "labels.label", "label"), (split, "labels.split", "split")):
        if name != default and name not in table.column_names:
            raise ListingError(f"{table_path} has no column {name!r}; set {option} to one of {table.column_names}")
    renamed = {label: schema.LABEL, split: schema.SPLIT}
    names = {name: renamed.get(name, name) for name in table.column_names if name != key}
    if not names:
        raise ListingError(f"{table_path} has no column beside {key}; there is no label in it")
    check_label_columns(table_path, names)
    return {name: _as_text(table, given, table_path) for given, name in names.items()}


def check_label_columns(table_path: str, names: Mapping[str, str]) -> None:
    """Refuse columns that would go wrong later: taken names, names that Spark cannot take, two of one name.

    Args:
        table_path: for the message.
        names: what each column is to be called.

    Raises:
        ListingError: the first such column.
    """
    seen: dict[str, str] = {}
    reserved = {name.casefold() for name in schema.RESERVED}
    for given, name in names.items():
        if name.casefold() in reserved or name.startswith("_"):
            raise ListingError(
                f"{table_path}: the column {given} has a name that Mirabelle keeps for itself; rename it"
            )
        if not name.replace(" ", "_").replace("-", "_").isidentifier():
            raise ListingError(f"{table_path}: the column {given!r} has a name that Spark cannot take; rename it")
        if name.casefold() in seen:
            raise ListingError(
                f"{table_path}: the columns {seen[name.casefold()]} and {given} would both be {name}; rename one"
            )
        seen[name.casefold()] = given


def _as_text(table: pa.Table, name: str, table_path: str) -> pa.ChunkedArray:
    try:
        return table[name].cast(pa.string())
    except pa.ArrowException as error:
        raise ListingError(
            f"{table_path}: the column {name} holds {table[name].type}, which is no text; drop or change it"
        ) from error


def _form_of_keys(listing: Listing, file: str, root: str, table_path: str, scratch: str) -> str:
    """What of an image's path the table's keys are, as SQL."""
    start = len(root.rstrip("/")) + 2
    forms = (f"substr(l.path, {start})", "l.path", "regexp_extract(l.path, '[^/]*$')")
    with open_database(scratch) as database:

        def ask(query: str) -> Sequence[tuple[object, ...]]:
            return database.execute(query).fetchall()

        images, keys = f"{quoted(listing.file)} l", f"{quoted(file)} t"
        form = next((f for f in forms if ask(f"select 1 from {images} join {keys} on {f} = t._key limit 1")), None)
        if form is None:
            key, path = ask(f"select (select min(_key) from {keys}), (select min(path) from {images})")[0]
            raise ListingError(
                f"no row of {table_path} names an image below {root}: one of its keys is {key!r}, an image {path!r}"
            )
        repeated = ask(f"select _key from {keys} where _key is not null group by 1 having count(*) > 1 limit 1")
        if repeated:
            raise ListingError(f"{table_path} names {repeated[0][0]!r} more than once; keep one row an image")
        if form == forms[2] and ask(f"select 1 from {images} group by {form} having count(*) > 1 limit 1"):
            raise ListingError(
                f"{table_path} tells labels by file name, but several images below {root} share a name; use paths"
            )
    return form


def _read_table(store: Store, path: str) -> pa.Table:
    """A CSV or Parquet file, told apart by its first bytes."""
    import pandas as pd

    try:
        content = store.read(path, MAX_TABLE_BYTES)
        if content[:4] == b"PAR1":
            table = pq.read_table(io.BytesIO(content))
        else:
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
