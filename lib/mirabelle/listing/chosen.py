"""Which rows of a manifest are images of a run: whole, normalised paths, and the reason for each row left out. Pure."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from mirabelle.listing.rows import text_of
from mirabelle.storage import is_s3, local_paths, split_s3

NO_PATH = "without a path"
NOT_CURRENT = "of objects that are deleted or were replaced"
FOLDERS = "of folders that a console made"
ELSEWHERE = "not below images.root"
HIDDEN = "hidden, left by a system or written by Mirabelle"
UNWANTED = "that images.include and images.exclude leave out"


class RowChoice:
    """Decides row by row, and counts what it leaves out.

    Args:
        root: what paths have to be below of; may be empty.
        is_wanted: whether the patterns take a path below the root.
        is_litter: whether such a path is none that anybody means; of a listing that a program made of all there is.
    """

    def __init__(self, root: str, is_wanted: Callable[[str], bool], is_litter: Callable[[str], bool]) -> None:
        self._root, self._is_wanted, self._is_litter = root, is_wanted, is_litter
        self.left_out: Counter[str] = Counter()

    def keep(self, paths: Sequence[str | None], current: pa.Array, objects: pa.Array) -> Iterator[str | None]:
        """Each row's path below the root, or without scheme and bucket where there is none; None: left out.

        Args:
            paths: whole ones, of one batch.
            current: bool; which rows are of objects that are there now.
            objects: bool; which rows are more than the "folders" that consoles make.
        """
        rows = zip(paths, _below(paths, self._root), current.to_pylist(), objects.to_pylist(), strict=True)
        for path, below, is_current, is_object in rows:
            reason = self._reason(path, below, is_current, is_object)
            if reason:
                self.left_out[reason] += 1
            yield None if reason else below

    def _reason(self, path: str | None, below: str | None, is_current: bool, is_object: bool) -> str:
        if path is None:
            return NO_PATH
        if not is_current:
            return NOT_CURRENT
        if not is_object:
            return FOLDERS
        if below is None:
            return ELSEWHERE
        if self._is_litter(below):
            return HIDDEN
        return "" if self._is_wanted(below) else UNWANTED


def told(left_out: Sequence[tuple[str, int]]) -> str:
    """How many rows were left out for which reason, as the end of a sentence."""
    return ", ".join(f"{rows:,} {reason}" for reason, rows in left_out)


def whole_paths(paths: Sequence[str | None], base: str) -> list[str | None]:
    """Whole paths without ``.``, ``..`` and doubled slashes; None for those that are null or blank.

    Keys of whole ``s3://`` paths stay as they are, for in a bucket each of these makes another key.

    Args:
        paths: as they are written; those that are not whole are below ``base``.
        base: a whole path.
    """
    return [None if path is None else _whole(path, base) for path in _plain_paths(paths)]


def key_paths(keys: Sequence[str | None]) -> list[str | None]:
    """The keys of a table as listed paths are written, whole or below the root; None for those that are blank."""
    plain = _plain_paths(keys)
    return [None if key is None else _plain_key(key) for key in plain]


def _plain_key(key: str) -> str:
    if is_s3(key):
        return f"s3://{key.partition('://')[2]}"
    return _normal(key) if key.startswith("/") else _normal(f"/{key}").lstrip("/")


def _plain_paths(paths: Sequence[str | None]) -> list[str | None]:
    """Without ``file:``; blank ones are None."""
    there = [path for path in paths if path is not None and path.strip()]
    plain = iter(local_paths(there))
    return [text_of(next(plain)) if path is not None and path.strip() else None for path in paths]


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ODD = re.compile(r"//|/\.{1,2}(?:/|$)")


def _whole(path: str, base: str) -> str:
    if is_s3(path):
        return f"s3://{path.partition('://')[2]}"
    if _SCHEME.match(path):
        return path
    if path.startswith("/"):
        return _normal(path)
    if not is_s3(base):
        return _normal(f"{base.rstrip('/')}/{path}")
    bucket, key = split_s3(base)
    return f"s3://{bucket}{_normal(f'/{key}/{path}')}" if _ODD.search(f"/{path}") else f"{base.rstrip('/')}/{path}"


def _normal(path: str) -> str:
    # POSIX lets two slashes at the beginning mean something of their own, and normpath keeps them.
    return os.path.normpath("/" + path.lstrip("/")) if _ODD.search(path) else path


def _below(paths: Sequence[str | None], root: str) -> list[str | None]:
    """Paths as patterns and templates see them: below the root, or without scheme and bucket; None: not there."""
    if root:
        start = f"{root.rstrip('/')}/"
        return [path[len(start) :] if path is not None and path.startswith(start) else None for path in paths]
    return [
        None if path is None else path.partition("://")[2].partition("/")[2] if "://" in path else path.lstrip("/")
        for path in paths
    ]
