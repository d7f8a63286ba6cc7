"""The cache, and a converted network's folder in it: ``network.json`` and the files it names. [cache folder]

Driver only.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from mirabelle.config import Config
from mirabelle.errors import OutputError
from mirabelle.network.engines import Files
from mirabelle.network.home import ensure_home

FACTS = "network.json"


def read_cached(folder: Path) -> tuple[dict[str, Any], Files]:
    """A cached network: its facts, and its files by name.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return facts, {name: (folder / name).read_bytes() for name in facts["files"]}
    except OSError as error:
        raise OutputError(
            f"cannot read {folder} in the cache: {error.strerror}; let it be read, or set cache to another folder"
        ) from error


def put_into_cache(folder: Path, facts: dict[str, Any], files: Files) -> None:
    """Put a network into the cache, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    # Not by mkdtemp, whose folders are their maker's alone: the cache of one user may serve another.
    beside = folder.parent / f".partial-{uuid.uuid4().hex}"
    try:
        beside.mkdir(parents=True)
        for name, content in files.items():
            (beside / name).write_bytes(content)
        (beside / FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise OutputError(
            f"cannot write to the cache {folder.parent}: {error.strerror}; set cache to another"
        ) from error
    try:
        beside.rename(folder)
    except OSError:
        # Another run made the same network meanwhile; its files are as good.
        shutil.rmtree(beside, ignore_errors=True)


def find_made(folder: Path, choices: dict[str, Any], weights: str) -> Path | None:
    """A network among those of ``folder`` that was made by these choices of weights of this name, or None.

    Args:
        folder: of networks, each in one of its own.
        choices: beside the weights and the versions of libraries, as plain JSON.
        weights: as the user named them.
    """
    for path in sorted(folder.glob(f"*/{FACTS}")):
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            continue  # another user's alone
        # A file of weights need not have come along; its name says which it was.
        if facts.get("weights") == weights and choices.items() <= facts["made_from"].items():
            return path.parent
    return None


def cache_folder(config: Config) -> Path:
    """The configured cache, made if it is not there.

    Raises:
        OutputError: it cannot be made.
    """
    ensure_home()
    try:
        folder = Path(config.cache).expanduser()
    except RuntimeError as error:
        raise OutputError(f"there is no home folder for the cache {config.cache}; set cache to another") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the cache folder {folder}: {error.strerror}; set cache to another") from error
    return folder


def check_room(folder: Path, needed_bytes: int, doing: str, setting: str) -> None:
    """Raise ``OutputError`` if a network does not fit into a temporary folder; libraries say only that writing failed.

    Args:
        folder: where it is to be written.
        needed_bytes: there.
        doing: what is done there, as the sentence says it.
        setting: which names another folder.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise OutputError(
            f"the disk of {folder} has {free / 2**20:.0f} MiB left, and {doing} takes {needed_bytes / 2**20:.0f} MiB"
            f" there; make room, or set {setting} to a folder on a larger one"
        )
