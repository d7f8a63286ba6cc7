"""Which columns of a table or a manifest become label columns, and under what names. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mirabelle import schema
from mirabelle.errors import ListingError

# What pandas calls the columns of an index that has no name, in Parquet and in CSV, after a second round trip too.
_INDEX = re.compile(r"|__index_level_\d+__|Unnamed: \d+([._].*)?")
_RESERVED = frozenset(name.casefold() for name in schema.RESERVED)
_OWN = (schema.LABEL, schema.SPLIT)


@dataclass(frozen=True)
class Options:
    """The columns that ``labels.label`` and ``labels.split`` name."""

    label: str
    split: str

    def named(self) -> dict[str, str]:
        """What the options' columns are to be called, by their names in the file; a default gives way.

        Raises:
            ListingError: both name one column.
        """
        if self.label == self.split and self.label not in _OWN:
            raise ListingError(f"labels.label and labels.split both name the column {self.label}; set one of them anew")
        if self.label == schema.LABEL:
            return {self.label: schema.LABEL, self.split: schema.SPLIT}
        return {self.split: schema.SPLIT, self.label: schema.LABEL}

    def resolve(self, name: str) -> bool:
        """Whether an option says that another column than ``name``, spelt however, is the label or the split."""
        folded = name.casefold()
        return (folded == schema.LABEL != self.label) or (folded == schema.SPLIT != self.split)


def label_columns(
    where: str, given: Sequence[str], options: Options, told_by_path: Collection[str] = ()
) -> dict[str, str]:
    """What each column becomes; an index that pandas wrote, and what an option replaces, are left out.

    Args:
        where: the file, for the message.
        given: its columns but for those that have another meaning, as they are written.
        options: which of them are the label and the split.
        told_by_path: label columns that there are already; one of the very same name takes its place.

    Raises:
        ListingError: a column stands twice, or has a name that cannot be or that differs from another in case alone.
    """
    named = {name: becomes for name, becomes in options.named().items() if name in given}
    check_once(where, given)
    kept = [name for name in given if name in named or not _INDEX.fullmatch(name)]
    replaced = {n for n in kept if n not in named and options.resolve(n) and n.casefold() in named.values()}
    names = {name: named.get(name, name) for name in kept if name not in replaced}
    _check_names(where, names)
    _check_case(where, names, told_by_path)
    return names


def check_once(where: str, columns: Sequence[str]) -> None:
    """Refuse a name that stands twice; an index that pandas wrote may.

    Raises:
        ListingError: the first such name.
    """
    if len(set(columns)) == len(columns):
        return
    twice = next((name for name in columns if columns.count(name) > 1 and not _INDEX.fullmatch(name)), None)
    if twice is not None:
        raise ListingError(f"{where} has more than one column {twice}; rename or drop all but one")


def _check_names(where: str, names: dict[str, str]) -> None:
    for given, name in names.items():
        if name.casefold() in _RESERVED or name.startswith("_"):
            raise ListingError(f"{where}: the column {given} has a name that Mirabelle keeps for itself; rename it")
        if not name.replace(" ", "_").replace("-", "_").isidentifier():
            raise ListingError(f"{where}: the column {given!r} has a name that Spark cannot take; rename it")


def _check_case(where: str, names: dict[str, str], told_by_path: Collection[str]) -> None:
    """Spark and DuckDB take names that differ in case alone for one."""
    seen: dict[str, str] = {}
    for given, name in names.items():
        earlier = seen.setdefault(name.casefold(), given)
        if earlier != given:
            raise ListingError(
                f"{where}: the columns {earlier} and {given} would both be {name}, as case does not tell columns apart;"
                " rename one, or let labels.label or labels.split name the one that is meant"
            )
    for given, name in names.items():
        if name.casefold() in _OWN and name not in _OWN:
            raise ListingError(
                f"{where}: the column {given} differs from {name.casefold()} in case alone; rename it, or set"
                f" labels.{name.casefold()}={given}"
            )
    for told in told_by_path:
        given = seen.get(told.casefold(), "")
        if given and names[given] != told:
            raise ListingError(
                f"{where}: the column {given} differs in case alone from {told}, which is told already; rename one"
            )
