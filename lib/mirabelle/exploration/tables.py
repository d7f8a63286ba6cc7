"""The tables of an exploration, each with what it means for learning. [DuckDB; driver]"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import pandas as pd

from mirabelle.exploration.alike import MOST_PAIRS, Alike, find_alike
from mirabelle.schema import LABEL, SPLIT, TAKEN
from mirabelle.storage.database import column as name_of
from mirabelle.storage.database import quoted

if TYPE_CHECKING:
    import duckdb

# What pictures that belong together have in common, by the names that people give it.
GROUPS = ("registration", "group", "session", "airline", "photographer", "source", TAKEN)
WITHIN = "model_type"
# All values of a column are in its table, unless they are more than this: then the most frequent.
MOST_VALUES = 10_000
MOST_COMBINATIONS = 1_000
# Of a column's name in a file's, which may have 255 bytes.
MOST_LETTERS = 50
SIDES_PX = (100, 200, 320, 640, 1280, 2560)
# A value of more than this share of the images decides much of what is learnt.
DOMINATES = 0.1


@dataclass(frozen=True)
class Wanted:
    """What is looked at.

    Attributes:
        columns: label columns of the listing, ``label`` and ``split`` among them.
        within: the finer label; None: ``model_type``, if there is one.
        groups: columns of pictures that belong together; None: those of ``GROUPS``.
        has_pictures: whether the pictures were read.
        near_distance: bits, see ``find_alike``.
    """

    columns: tuple[str, ...]
    within: str | None = None
    groups: tuple[str, ...] | None = None
    has_pictures: bool = False
    near_distance: int = 3


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: of its file.
        title: for people.
        meaning: a sentence on what it means for learning.
        rows: small whatever the number of images.
        bar: column whose share is drawn, or None.
    """

    name: str
    title: str
    meaning: str
    rows: pd.DataFrame
    bar: str | None = None


@dataclass(frozen=True)
class Explored:
    """All of it.

    Attributes:
        images: how many.
        tables: in the page's order.
        alike: None where the pictures were not read.
    """

    images: int
    tables: list[Table] = field(default_factory=list)
    alike: Alike | None = None


def see(database: duckdb.DuckDBPyConnection, rows: str, facts: str | None) -> None:
    """Make the view ``images``: what is listed, and of each path what its picture says.

    Args:
        database: the view is left in it.
        rows: query of the listing's rows.
        facts: query of ``path, sha256, phash, format, width_px, height_px, code``, or None. In the view their names
            begin with an underscore, as no label's does: a listing may well have a column ``format`` of its own.
    """
    seen = f"left join (select path, columns(* exclude (path)) as '_\\0' from ({facts})) using (path)" if facts else ""
    database.execute(f"create or replace view images as select * from ({rows}) {seen}")


def explore(database: duckdb.DuckDBPyConnection, wanted: Wanted) -> Explored:
    """Make the tables of the view ``images``: a listing's columns, and where pictures were read their facts, too.

    ``see`` makes that view.
    """
    (images,) = database.execute("select count(*) from images").fetchall()[0]
    used = [name for name in wanted.columns if _has_values(database, name)]
    tables = [_columns(database, wanted.columns, images), *_combinations(database, used, images)]
    files = file_names(wanted.columns)
    tables += [_values(database, name, files[name], images) for name in used]
    within = wanted.within or (WITHIN if WITHIN in used else None)
    if within in used and LABEL in used and within != LABEL:
        tables.append(_within(database, within, files[within]))
    groups = [name for name in (GROUPS if wanted.groups is None else wanted.groups) if name in used]
    if groups:
        tables.append(_groups(database, groups, images))
    alike = None
    if wanted.has_pictures:
        tables += [_sizes(database, images), _formats(database, images)]
        alike = find_alike(database, wanted.near_distance)
        tables += list(_alike(alike, images))
    return Explored(images, tables, alike)


def file_names(columns: Sequence[str]) -> dict[str, str]:
    """Each column's name as part of a file's: safe, short, and no two the same, whatever case tells."""
    names: dict[str, str] = {}
    for name in columns:
        stem = re.sub(r"\W+", "_", name).strip("_").lower()[:MOST_LETTERS] or "column"
        tries = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
        names[name] = next(file for file in tries if file not in names.values())
    return names


def _known(name: str) -> str:
    return f"nullif(trim(cast({name_of(name)} as varchar)), '')"


def _day(name: str) -> str:
    """The day of a moment; of what is no moment its first ten letters, as dates begin in most ways to write them."""
    told = _known(name)
    return f"coalesce(strftime(try_cast({told} as timestamp), '%Y-%m-%d'), left({told}, 10))"


def _has_values(database: duckdb.DuckDBPyConnection, name: str) -> bool:
    return bool(database.execute(f"select 1 from images where {_known(name)} is not null limit 1").fetchall())


def _columns(database: duckdb.DuckDBPyConnection, names: tuple[str, ...], images: int) -> Table:
    parts = [
        f"select {number} as place, {quoted(name)} as column_name, count(*) - count({_known(name)}) as missing,"
        f" count(distinct {_known(name)}) as distinct_values from images"
        for number, name in enumerate(names)
    ]
    rows = (
        database.execute(f"select * from ({' union all '.join(parts)}) order by place").df()
        if parts
        else pd.DataFrame()
    )
    if len(rows):
        rows = rows.drop(columns="place")
        rows.insert(1, "rows", images)
        rows["missing_share"] = rows["missing"] / max(1, images)
    # A column without any value is not there at all.
    missing = rows.loc[(rows["missing"] > 0) & (rows["distinct_values"] > 0)] if len(rows) else rows
    worst = missing.sort_values("missing", ascending=False).iloc[0] if len(missing) else None
    meaning = (
        f"{worst['missing']:,} of {images:,} images have no {worst['column_name']}: what is learnt of it is learnt from"
        " the rest."
        if worst is not None
        else "Every column has a value for every image."
    )
    return Table("columns", "Columns", meaning, rows, "missing_share")


def _combinations(database: duckdb.DuckDBPyConnection, names: list[str], images: int) -> Iterator[Table]:
    if not names:
        return
    told = ", ".join(f"case when {_known(name)} is null then {quoted(name)} end" for name in names)
    rows = database.execute(
        f"""select missing, count(*) as images, count(*) / {max(1, images)} as share
        from (select concat_ws(', ', {told}) as missing from images)
        group by missing order by images desc, missing limit {MOST_COMBINATIONS}"""
    ).df()
    whole = int(rows.loc[rows["missing"] == "", "images"].sum())
    rows["missing"] = rows["missing"].replace("", "nothing")
    yield Table(
        "missing_combinations",
        "Missing together",
        f"{whole:,} of {images:,} images have every column; to leave out all others leaves these.",
        rows,
        "share",
    )


def _values(database: duckdb.DuckDBPyConnection, name: str, file: str, images: int) -> Table:
    database.execute(
        f"""create or replace table counted as select value, images, images / {max(1, images)} as share,
            row_number() over (order by images desc, value) as rank
        from (select {_known(name)} as value, count(*) as images from images group by 1) where value is not null"""
    )
    rows = database.execute(
        f"""select value, images, rank, share, sum(share) over (order by rank) as cumulative_share
        from counted order by rank limit {MOST_VALUES}"""
    ).df()
    # Of all values, not of those in the table alone.
    values, half = database.execute(
        """select count(*), count(*) filter (2 * before < total) from (select
            sum(images) over (order by rank) - images as before, sum(images) over () as total from counted)"""
    ).fetchall()[0]
    rarest, fewest = database.execute("select value, images from counted order by rank desc limit 1").fetchall()[0]
    first = rows.iloc[0]
    if values == 1:
        meaning = f"All images that have a {name} have the same, {first['value']}: it tells nothing apart."
    elif name == SPLIT:
        meaning = "; ".join(f"{row.value} {row.images:,}" for row in rows.head(5).itertuples()) + "."
    elif name == LABEL:
        meaning = (
            f"Always answering {first['value']} would be right for {first['share']:.1%} of all images: a classifier has"
            " to do better. "
        )
        meaning += (
            f"Each of the {values:,} labels has {fewest:,}."
            if first["images"] == fewest
            else f"The rarest of {values:,} labels, {rarest}, has {fewest:,}."
        )
    else:
        meaning = f"{half:,} of {values:,} values of {name} make half of the images that have one."
    return Table(f"values_{file}", f"Values of {name}", meaning, rows, "share")


def _within(database: duckdb.DuckDBPyConnection, within: str, file: str) -> Table:
    rows = database.execute(
        f"""select label, value, images, images / sum(images) over (partition by label) as share_of_label
        from (select {_known(LABEL)} as label, {_known(within)} as value, count(*) as images from images
            where {_known(LABEL)} is not null and {_known(within)} is not null group by 1, 2)
        order by label, images desc, value limit {MOST_VALUES}"""
    ).df()
    first = rows.sort_values("share_of_label", ascending=False).iloc[0] if len(rows) else None
    meaning = (
        f"{first['share_of_label']:.0%} of {first['label']} are {first['value']}: what is learnt of the one is mostly"
        " learnt from the other."
        if first is not None
        else "No image has both."
    )
    return Table(f"within_label_{file}", f"{within} within each label", meaning, rows, "share_of_label")


def _groups(database: duckdb.DuckDBPyConnection, names: list[str], images: int) -> Table:
    found = []
    for name in names:
        value = _day(name) if name == TAKEN else _known(name)
        database.execute(
            f"create or replace table grouped as select {value} as value, count(*) as n from images"
            f" where {_known(name)} is not null group by 1"
        )
        row = database.execute(
            """select count(*) as groups, sum(n)::bigint as images,
                arg_max(value, n) as largest, max(n) as largest_images,
                coalesce(sum(n) filter (n > 1), 0)::bigint as sharing from grouped"""
        ).df()
        found.append(row.assign(column_name=f"{name}, by day" if name == TAKEN else name))
    rows = pd.concat(found, ignore_index=True)
    rows["sharing_share"] = rows["sharing"] / max(1, images)
    rows = rows[["column_name", "groups", "images", "largest", "largest_images", "sharing", "sharing_share"]]
    first = rows.iloc[0]
    meaning = (
        f"{first['sharing']:,} of {images:,} photographs share a {first['column_name']} with another: split by"
        f" {names[0]} (classify.group_by={names[0]}), or the test shows again what was learnt."
        if first["sharing"]
        else f"No two photographs share a {first['column_name']}."
    )
    most = rows.sort_values("largest_images", ascending=False).iloc[0]
    if most["largest_images"] > DOMINATES * images:
        share = most["largest_images"] / images
        meaning += f" One {most['column_name']}, {most['largest']}, has {share:.0%} of all."
    return Table("groups", "Pictures that belong together", meaning, rows, "sharing_share")


def _sizes(database: duckdb.DuckDBPyConnection, images: int) -> Table:
    bounds = [0, *SIDES_PX]
    cases = " ".join(f"when side <= {px} then {number}" for number, px in enumerate(SIDES_PX))
    rows = database.execute(
        f"""select case {cases} else {len(SIDES_PX)} end as bucket, count(*) as images,
            count(*) / {max(1, images)} as share, min(side) as least_px, max(side) as most_px
        from (select greatest(_width_px, _height_px) as side from images where _width_px is not null)
        group by 1 order by 1"""
    ).df()
    names = [f"up to {px:,} px" for px in SIDES_PX] + [f"more than {SIDES_PX[-1]:,} px"]
    rows["longer_side"] = [names[bucket] for bucket in rows["bucket"]]
    rows = rows[["longer_side", "images", "share", "least_px", "most_px"]]
    small = int(rows.loc[rows["most_px"] <= bounds[3], "images"].sum()) if len(rows) else 0
    meaning = (
        f"{small:,} of {images:,} pictures have no side above {bounds[3]} px; networks of 224 px enlarge smaller ones."
    )
    return Table("sizes", "Sizes", meaning, rows, "share")


def _formats(database: duckdb.DuckDBPyConnection, images: int) -> Table:
    rows = database.execute(
        f"""select coalesce(_format, 'none: ' || _code) as format, count(*) as images,
            count(*) / {max(1, images)} as share from images group by 1 order by images desc, 1"""
    ).df()
    (bad,) = database.execute("select count(*) from images where _code is not null").fetchall()[0]
    meaning = (
        f"{bad:,} of {images:,} files are no whole picture; a run makes them rows of rejects."
        if bad
        else "Every file is a whole picture of a format that is known."
    )
    return Table("formats", "Formats", meaning, rows, "share")


def _alike(alike: Alike, images: int) -> Iterator[Table]:
    same = (
        f"{alike.exact_extra:,} of {images:,} images are copies of another to the byte; they are embedded once, but"
        " count in training and test as often as they stand there."
        if alike.exact_extra
        else "No two files are the same to the byte."
    )
    yield Table("duplicates", "The same picture", same, alike.exact)
    near = (
        f"{alike.near_images:,} images look like another whose bytes differ: on both sides of a split they flatter the"
        " accuracy."
        if alike.near_images
        else "No two pictures that were compared look alike, as far as their perceptual hashes tell."
    )
    if alike.skipped:
        near += f" There may be more: {alike.skipped:,} parts of hashes are too common to be compared."
    if alike.is_cut:
        near += f" There are more: only {MOST_PAIRS:,} pairs of hashes were joined."
    yield Table("near_duplicates", "Pictures that look alike", near, alike.near)
    told = (
        f"{alike.conflicting_sets:,} sets of the same or like pictures bear different labels: one of them is wrong, or"
        " the label is not in the picture."
        if alike.conflicting_sets
        else "Pictures that are the same, or look it, bear the same label."
    )
    yield Table("conflicting_duplicates", "Alike, and labelled differently", told, alike.conflicting)
