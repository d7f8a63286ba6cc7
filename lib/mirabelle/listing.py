"""What images there are, and what their paths or a table tell of them. [Store; driver only]

A listing is an Arrow table (``schema.listing_schema``), sorted by path, one row an image.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from mirabelle import schema
from mirabelle.errors import ListingError
from mirabelle.storage import Store

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

TABLE_KEYS = ("path", "file_name", "filename", "file", "image", "name")


@dataclass(frozen=True)
class Listing:
    """The images of a run.

    Attributes:
        table: ``schema.listing_schema`` with its further label columns, sorted by path.
        unlabelled: images that the template or the table said nothing of; 0 where neither was given.
    """

    table: pa.Table
    unlabelled: int

    @property
    def extra_labels(self) -> list[str]:
        """Label columns beyond ``label`` and ``split``."""
        return list(self.table.column_names[len(schema.listing_schema()) :])

    @property
    def has_labels(self) -> bool:
        """Whether any image has a label."""
        return bool(self.table[schema.LABEL].null_count < len(self.table))


def list_images(
    store: Store,
    root: str,
    include: Sequence[str],
    exclude: Sequence[str],
    layout: str | None = None,
    not_pictures: Sequence[str] = (),
) -> Listing:
    """List the images below ``root``.

    Args:
        store: where they are.
        root: folder, whole path.
        include: patterns as in .gitignore, against the path below the root; a file is taken if it fits one.
        exclude: likewise; a file that fits one is left out.
        layout: template such as ``{split}/{label}/{name}``; see ``compile_layout``.
        not_pictures: whole paths of files and folders that may lie below ``root`` and are ours: the output, a table.

    Raises:
        ListingError: no such folder, nothing in it that fits, or a template that fits none of it.
    """
    template = compile_layout(layout) if layout else None
    taken, left_out = _patterns("images.include", include), _patterns("images.exclude", exclude)
    start = len(root.rstrip("/")) + 1
    ours = tuple(f"{path.rstrip('/')}/" for path in not_pictures)

    def is_taken(path: str) -> bool:
        below = path[start:]
        return taken.match_file(below) and not left_out.match_file(below) and not f"{path}/".startswith(ours)

    entries = sorted((e for e in store.walk(root) if is_taken(e.path)), key=lambda entry: entry.path)
    if not entries:
        raise ListingError(
            f"no picture in {root} fits images.include {list(include)} and not images.exclude {list(exclude)}"
        )
    matches = [template.fullmatch(e.path[start:]) if template else None for e in entries]
    unlabelled = matches.count(None) if template else 0
    if unlabelled == len(entries):
        raise ListingError(
            f"images.layout {layout!r} fits none of the {len(entries)} paths below {root}; the first is"
            f" {entries[0].path[start:]!r}"
        )
    fields = [f for f in template.groupindex if f != "name"] if template else []
    extra = [f for f in fields if f not in (schema.LABEL, schema.SPLIT)]
    columns: dict[str, list[object]] = {
        schema.PATH: [_text(e.path) for e in entries],
        schema.SIZE_BYTES: [e.size_bytes for e in entries],
        schema.MODIFIED: [e.modified_us for e in entries],
        schema.ETAG: [e.etag for e in entries],
    }
    for name in (schema.LABEL, schema.SPLIT, *extra):
        columns[name] = [_text(m[name]) if m and name in fields else None for m in matches]
    target = schema.listing_schema(extra)
    arrays = [pa.array(columns[f.name], f.type) for f in target]
    return Listing(pa.Table.from_arrays(arrays, schema=target), unlabelled)


def _patterns(key: str, lines: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise ListingError(f"{key} {list(lines)}: {error}; write patterns as in .gitignore") from error


def compile_layout(layout: str) -> re.Pattern[str]:
    """A path template as a regular expression with one named group a field.

    ``{field}`` is some of one part of a path, ``*`` likewise without a name, ``**`` any number of whole parts.

    Raises:
        ListingError: for a template that names a field twice, none at all, or one that is no name or is taken.
    """
    pattern = ""
    fields: list[str] = []
    for piece in re.split(r"(\{[^{}]*\}|\*\*/?|\*)", layout.strip("/")):
        if piece.startswith("{"):
            field = piece[1:-1]
            if not field.isidentifier() or field in fields or field in schema.RESERVED or field.startswith("_"):
                reason = "is there twice" if field in fields else "is no name that a label column can have"
                raise ListingError(f"images.layout {layout!r}: {{{field}}} {reason}")
            fields.append(field)
            pattern += f"(?P<{field}>[^/]+)"
        else:
            pattern += {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*"}.get(piece, re.escape(piece))
    if not set(fields) - {"name"}:
        raise ListingError(f"images.layout {layout!r} reads nothing from a path; write for instance {{label}}/{{name}}")
    return re.compile(pattern)


def join_labels(listing: Listing, table_path: str, root: str, key: str | None, label: str, split: str) -> Listing:
    """Take labels from a table instead of the path.

    The key column holds paths below the root, whole paths, or bare file names; the first form that any row fits is
    the one meant. Columns the table lacks keep what the path told; the table's further columns become label columns.

    Args:
        listing: as from ``list_images``.
        table_path: CSV or Parquet file.
        root: the images' folder, which the table's paths may be relative to.
        key: name of the key column, or None for the first of ``TABLE_KEYS`` that is there.
        label: column that becomes ``label``.
        split: column that becomes ``split``.

    Raises:
        ListingError: the table cannot be read, has no such columns, names an image twice, or fits no image.
    """
    table = _read_table(table_path)
    key = key or next((k for k in TABLE_KEYS if k in table.column_names), "")
    if key not in table.column_names:
        raise ListingError(
            f"{table_path} has no column {key or ' or '.join(TABLE_KEYS)}; set labels.key to one of"
            f" {table.column_names}"
        )
    wanted = _label_columns(table, table_path, key, label, split)
    keys = _as_text(table, key, table_path)
    position = _match_keys(keys, listing.table[schema.PATH], root, table_path)
    extra = [*listing.extra_labels, *(c for c in wanted if c not in listing.table.column_names)]
    target = schema.listing_schema(extra)
    columns = []
    for field in target:
        if field.name in wanted:
            columns.append(wanted[field.name].combine_chunks().take(position))
        else:
            columns.append(listing.table[field.name])
    joined = pa.Table.from_arrays(columns, schema=target)
    return Listing(joined, joined[schema.LABEL].null_count)


def _label_columns(table: pa.Table, table_path: str, key: str, label: str, split: str) -> dict[str, pa.ChunkedArray]:
    """The table's columns but the key, as text, under the names they will have."""
    for name, option, default in ((label, "labels.label", "label"), (split, "labels.split", "split")):
        if name != default and name not in table.column_names:
            raise ListingError(f"{table_path} has no column {name!r}; set {option} to one of {table.column_names}")
    renamed = {label: schema.LABEL, split: schema.SPLIT}
    names = {column: renamed.get(column, column) for column in table.column_names if column != key}
    if not names:
        raise ListingError(f"{table_path} has no column beside {key}; there is no label in it")
    seen: dict[str, str] = {}
    reserved = {name.casefold() for name in schema.RESERVED}
    for column, name in names.items():
        if name.casefold() in reserved or name.startswith("_"):
            raise ListingError(
                f"{table_path}: the column {column} has a name that Mirabelle keeps for itself; rename it"
            )
        if not name.replace(" ", "_").replace("-", "_").isidentifier():
            raise ListingError(f"{table_path}: the column {column!r} has a name that Spark cannot take; rename it")
        if name.casefold() in seen:
            raise ListingError(
                f"{table_path}: the columns {seen[name.casefold()]} and {column} would both be {name}; rename one"
            )
        seen[name.casefold()] = column
    return {name: _as_text(table, column, table_path) for column, name in names.items()}


def _as_text(table: pa.Table, column: str, table_path: str) -> pa.ChunkedArray:
    try:
        return table[column].cast(pa.string())
    except pa.ArrowException as error:
        raise ListingError(
            f"{table_path}: the column {column} holds {table[column].type}, which is no text; drop or change it"
        ) from error


def _match_keys(keys: pa.ChunkedArray, paths: pa.ChunkedArray, root: str, table_path: str) -> pa.Array:
    """For each image the table's row, null where there is none."""
    start = len(root.rstrip("/")) + 1
    listed = paths.to_pylist()
    forms = (
        [path[start:] for path in listed],
        listed,
        [os.path.basename(path) for path in listed],
    )
    for form in forms:
        position = pc.index_in(pa.array(form, pa.string()), value_set=keys.combine_chunks())
        if position.null_count < len(form):
            break
    else:
        raise ListingError(
            f"no row of {table_path} names an image below {root}: its first key is {keys[0].as_py()!r}, the first image"
            f" {forms[0][0]!r}"
        )
    counts = pc.value_counts(keys.combine_chunks())
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(repeated):
        raise ListingError(f"{table_path} names {repeated[0].as_py()!r} more than once; keep one row an image")
    if form is forms[2] and len(set(form)) < len(form):
        raise ListingError(
            f"{table_path} tells labels by file name, but several images below {root} share a name; use paths"
        )
    return position


def _read_table(path: str) -> pa.Table:
    """A CSV or Parquet file, told apart by its first bytes."""
    import pandas as pd
    import pyarrow.parquet

    try:
        with open(path, "rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            table = pyarrow.parquet.read_table(path)
        else:
            # All as text: a label may be 007, or NA for Namibia.
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
            table = pa.Table.from_pandas(frame, preserve_index=False)
    except OSError as error:
        raise ListingError(f"cannot read labels.table {path}: {error.strerror or error}") from error
    except (ValueError, pa.ArrowInvalid) as error:
        raise ListingError(f"labels.table {path} is neither CSV nor Parquet: {str(error).splitlines()[0]}") from error
    if table.num_rows == 0:
        raise ListingError(f"labels.table {path} has no rows")
    return table


def _text(path: str) -> str:
    """A path fit for a column of text; one that is not UTF-8 has its odd bytes spelt out, and ends as a reject."""
    return path.encode("utf-8", "backslashreplace").decode()
