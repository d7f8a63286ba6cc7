"""A listing that somebody else made: Parquet or CSV of paths, or an S3 Inventory. [Store]

This is how very many pictures start without being listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.csv

from mirabelle import schema
from mirabelle.errors import ListingError
from mirabelle.listing.chosen import RowChoice, whole_paths
from mirabelle.listing.chosen import told as counted
from mirabelle.listing.columns import Options, label_columns
from mirabelle.listing.layout import compile_layout, compile_patterns
from mirabelle.listing.manifest_files import ManifestFiles
from mirabelle.listing.rows import Listing, PathLabels, write_listing
from mirabelle.storage import Store
from mirabelle.storage.litter import is_litter


def read_manifest(
    store: Store,
    path: str,
    root: str,
    include: Sequence[str],
    exclude: Sequence[str],
    layout: str | None = None,
    *,
    label: str = schema.LABEL,
    split: str = schema.SPLIT,
    scratch: str,
) -> Listing:
    """Read a manifest instead of listing. A path that somebody wrote out counts though it is hidden.

    Args:
        store: where the manifest is.
        path: of a Parquet or CSV file, a folder of Parquet files, or an S3 Inventory's ``manifest.json``.
        root: what paths that are not whole are below of; labels are read from what comes after it. May be empty.
        include: patterns as in .gitignore, against the path below the root.
        exclude: likewise.
        layout: template that reads labels from the path below the root.
        label: column that becomes ``label``.
        split: column that becomes ``split``.
        scratch: folder for the listing's file.

    Raises:
        ListingError: it cannot be read, has no paths, or none that fits.
    """
    labels = PathLabels(compile_layout(layout) if layout else None, layout)
    is_wanted = compile_patterns(include, exclude)
    files = ManifestFiles(store, path)
    told = label_columns(path, files.labels, Options(label, split), labels.extra)
    extra = [*labels.extra, *(n for n in told.values() if n not in (schema.LABEL, schema.SPLIT, *labels.extra))]
    target = schema.listing_schema(extra)
    base = root or path.rpartition("/")[0]
    choice = RowChoice(root, is_wanted, is_litter if files.is_inventory else lambda below: False)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in files.batches():
            written = files.paths(batch)
            paths = whole_paths(written.to_pylist(), base)
            below = list(choice.keep(paths, files.current(batch), files.objects(batch, written)))
            keep = pa.array([p is not None for p in below], pa.bool_())
            rows = batch.filter(keep)
            kept = [p for p in below if p is not None]
            made: dict[str, Any] = {n: pa.array(v, pa.string()) for n, v in labels.read(kept).items()}
            made |= {told[name]: rows.column(name).cast(pa.string()) for name in told}
            made |= files.facts(rows) | {schema.PATH: pa.array(paths, pa.string()).filter(keep)}
            nothing = len(kept)
            yield pa.record_batch(
                [made[f.name] if f.name in made else pa.nulls(nothing, f.type) for f in target], schema=target
            )

    try:
        found = write_listing(
            batches(),
            extra,
            scratch,
            etags_tell_content=files.has_etags,
            says_labels=bool(layout or told),
            is_walk=False,
            # The same picture at two addresses of a site is two rows there.
            disagreeing="unknown" if files.is_crawl else "refuse",
        )
    except pa.ArrowException as error:
        raise ListingError(f"images.manifest {path}: {str(error).splitlines()[0]}; mend that row or column") from error
    if not found.rows:
        raise ListingError(
            f"no row of images.manifest {path} names an image of this run: {counted(tuple(choice.left_out.items()))};"
            " mend the rows, images.root or the patterns"
        )
    labels.check(path)
    return replace(found, left_out=tuple(choice.left_out.items()))
