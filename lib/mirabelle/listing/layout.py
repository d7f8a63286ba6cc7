"""What a path tells: a template of its parts, and patterns that take files or leave them out. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mirabelle import schema
from mirabelle.errors import ListingError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

ALL = ("*",)
# The field that says where a file's own name stands, and becomes no column.
NAME = "name"


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
            if reason := _refusal(field, fields):
                raise ListingError(f"images.layout {layout!r}: {{{field}}} {reason}")
            fields.append(field)
            pattern += f"(?P<{field}>[^/]+)"
        else:
            pattern += {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*"}.get(piece, re.escape(piece))
    if not set(fields) - {NAME}:
        raise ListingError(f"images.layout {layout!r} reads nothing from a path; write for instance {{label}}/{{name}}")
    return re.compile(pattern)


def _refusal(field: str, earlier: Sequence[str]) -> str:
    """Why a template cannot have this field after those, as the end of a sentence; empty: it can."""
    folded = field.casefold()
    # Neither Spark nor DuckDB tells columns apart by case.
    if folded in map(str.casefold, earlier):
        return "is there twice" if field in earlier else "is there twice, as case does not tell columns apart"
    if folded in (schema.LABEL, schema.SPLIT, NAME) and field != folded:
        return f"differs from {{{folded}}} in case alone; write {{{folded}}}"
    if not field.isidentifier() or folded in map(str.casefold, schema.RESERVED) or field.startswith("_"):
        return "is no name that a label column can have"
    return ""


def compile_patterns(include: Sequence[str], exclude: Sequence[str]) -> Callable[[str], bool]:
    """Whether a path below the root is wanted.

    Raises:
        ListingError: a pattern that is none.
    """
    taken, left_out = _patterns("images.include", include), _patterns("images.exclude", exclude)
    if tuple(include) == ALL and not exclude:
        # The usual case, and the same answer twenty times faster.
        return lambda below: True
    return lambda below: taken.match_file(below) and not left_out.match_file(below)


def _patterns(key: str, lines: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise ListingError(f"{key} {list(lines)}: {error}; write patterns as in .gitignore") from error
