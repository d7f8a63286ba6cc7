"""A bundle's files, as a folder or a tar: sealed when they are written, checked when they are read. [Store]

``bundle.json`` names every other file with its sha256 and size, and ``bundle.json.sha256`` seals it, in the form that
``sha256sum -c`` reads. What is read stays in memory: nothing is unpacked to a disk, so no path in a bundle leads
anywhere. Whoever can write all of a bundle's files can seal it anew; the seal tells damage and stray edits, and
``BundleInfo.sha256`` is what to compare where a bundle comes from afar.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from typing import Any

from mirabelle.errors import BundleError, FetchError, ListingError
from mirabelle.storage import S3Options, absolute, is_s3, join, local_path, open_store
from mirabelle.storage.opening import AS_AWS_SAYS

Files = dict[str, bytes]

MANIFEST = "bundle.json"
SEAL = "bundle.json.sha256"
TAR = ".tar"
# A network of some hundred megabytes, and an index of some more; what is larger is no bundle.
MAX_BYTES = 2**33
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")


def seal(facts: dict[str, Any], files: Files) -> Files:
    """All files of a bundle, by name.

    Args:
        facts: of the bundle; ``files`` is added to them.
        files: what it consists of.
    """
    listed = {name: {"sha256": digest(content), "size_bytes": len(content)} for name, content in sorted(files.items())}
    manifest = json.dumps({**facts, "files": listed}, indent=2).encode()
    return {MANIFEST: manifest, SEAL: f"{digest(manifest)}  {MANIFEST}\n".encode(), **files}


def digest(content: bytes) -> str:
    """sha256, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def to_tar(files: Files) -> bytes:
    """The same files always make the same tar: no times, no owners, in order of name."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


def read_sealed(path: str, s3: S3Options = AS_AWS_SAYS) -> tuple[dict[str, Any], Files]:
    """A bundle's facts and its other files, whole and as they were sealed.

    Args:
        path: folder or ``.tar``, on a disk or ``s3://``.
        s3: how buckets are reached.

    Raises:
        BundleError: there is none, or any file was changed, is missing or was added, or a name leads out of it.
        OutputError, ListingError: nothing can be read there at all.
    """
    whole = absolute(path)
    try:
        files = _of_tar(whole, s3) if whole.endswith(TAR) else _of_folder(whole, s3)
    except FetchError as error:
        raise BundleError(f"cannot read the bundle {path}: {error}; give the folder or the .tar of one") from error
    return _checked(path, files)


def _checked(path: str, files: Files) -> tuple[dict[str, Any], Files]:
    manifest, sealed = files.pop(MANIFEST, None), files.pop(SEAL, None)
    if manifest is None or sealed is None:
        missing = MANIFEST if manifest is None else SEAL
        raise BundleError(f"{path} is no bundle: it has no {missing}; `mirabelle bundle` makes one")
    if sealed != f"{digest(manifest)}  {MANIFEST}\n".encode():
        raise _changed(path, MANIFEST)
    try:
        facts: dict[str, Any] = json.loads(manifest)
        listed = {str(name): (one["sha256"], one["size_bytes"]) for name, one in facts["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: its {MANIFEST} is none of ours ({error}); bundle it again") from error
    for name, (sha256, size) in listed.items():
        _check_name(path, name)
        if name not in files:
            raise BundleError(f"{path}: {name} is missing; copy the bundle again, whole")
        if len(files[name]) != size or digest(files[name]) != sha256:
            raise _changed(path, name)
    if added := sorted(set(files) - set(listed)):
        raise BundleError(f"{path}: {added[0]} was added to it; remove it, or copy the bundle again")
    return {**facts, "sha256": digest(manifest)}, files


def _changed(path: str, name: str) -> BundleError:
    return BundleError(f"{path}: {name} was changed since it was bundled; copy the bundle again from where it was made")


def _check_name(path: str, name: str) -> None:
    if not _SAFE.fullmatch(name):
        raise BundleError(f"{path}: {name!r} is no name in a bundle, and may lead out of it; do not trust it")


def _of_folder(whole: str, s3: S3Options) -> Files:
    store = open_store(whole, s3)
    try:
        entries = list(store.walk(whole))
    except ListingError as error:
        if is_s3(whole):
            raise
        raise BundleError(f"there is no bundle {whole}; give the folder or the .tar of one") from error
    files: Files = {}
    left = MAX_BYTES
    for entry in sorted(entries, key=lambda entry: entry.path):
        name = entry.path[len(whole.rstrip("/")) + 1 :]
        _check_name(whole, name)
        if not is_s3(whole):
            _check_links(whole, name)
        files[name] = store.read(entry.path, left)
        left -= len(files[name])
    return files


def _check_links(whole: str, name: str) -> None:
    at = local_path(whole)
    for part in name.split("/"):
        at = join(at, part)
        if os.path.islink(at):
            raise BundleError(f"{whole}: {name} is reached by a link; copy what it leads to in its place")


def _of_tar(whole: str, s3: S3Options) -> Files:
    content = open_store(whole, s3).read(whole, MAX_BYTES)
    files: Files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for entry in archive:
                _check_name(whole, entry.name)
                if not entry.isreg() or entry.issparse():
                    raise BundleError(f"{whole}: {entry.name} is no plain file; do not trust this bundle")
                if entry.name in files:
                    raise BundleError(f"{whole}: {entry.name} is in it twice; do not trust this bundle")
                file = archive.extractfile(entry)
                files[entry.name] = file.read() if file else b""
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise BundleError(f"{whole} is no whole tar ({error}); copy the bundle again") from error
    return files
