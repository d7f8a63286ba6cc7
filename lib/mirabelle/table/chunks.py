"""A chunk of a feature table: what its marker tells, and how it is published once it is committed. [Store]

Driver only. ``features`` has the layout and the moment of the commit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mirabelle import schema
from mirabelle.decode import DecodeOptions
from mirabelle.storage import Store, join

MARKER = "_chunk.json"
STAGING = "_staging"
MAX_MARKER_BYTES = 2**26
# In the staging folder, or on a disk in the one that is about to be renamed.
_STAGED_MARKER = re.compile(rf"(.*)/features(?:\.ready)?/{re.escape(MARKER)}", re.DOTALL)


@dataclass(frozen=True)
class Chunk:
    """A committed chunk, as its marker tells.

    Attributes:
        run: id of the run that made it.
        number: of the chunk in that run.
        embedded, rejected: rows.
        reused: of both, those that the network did not run for, their content being known.
        model_rows: pictures the network was run on.
        changed: of the embedded, those that have an older row in the table.
        labels: label columns beyond ``label`` and ``split``.
        embedding: name of the embedding's folder.
        fingerprint: of the embedding.
        limits: the decoder's limits and choices that decide whether a picture is a reject.
        features_files, rejects_files: names of its files.
        replaces: chunks that count no more since this one does, as (run, number).
        rejects_limits: of each of ``rejects_files``, where a compaction put several limits' rejects into one chunk;
            empty: ``limits``, of all of them.
    """

    run: str
    number: int
    embedded: int
    rejected: int
    reused: int
    model_rows: int
    changed: int
    labels: tuple[str, ...]
    embedding: str
    fingerprint: str
    limits: dict[str, object]
    features_files: tuple[str, ...]
    rejects_files: tuple[str, ...]
    replaces: tuple[tuple[str, int], ...] = ()
    rejects_limits: tuple[dict[str, object], ...] = ()

    @classmethod
    def from_json(cls, content: bytes) -> Chunk:
        """A marker's content."""
        facts = json.loads(content)
        names = {name: tuple(facts[name]) for name in ("labels", "features_files", "rejects_files")}
        names |= {
            "replaces": tuple((run, number) for run, number in facts.get("replaces", ())),
            "rejects_limits": tuple(facts.get("rejects_limits", ())),
        }
        return cls(**{**facts, **names})

    def policies(self, kind: str) -> tuple[dict[str, object], ...]:
        """The limits that each file of ``features`` or ``rejects`` was made under."""
        if kind == "features":
            return (self.limits,) * len(self.features_files)
        return self.rejects_limits or (self.limits,) * len(self.rejects_files)

    def to_json(self) -> bytes:
        """What its marker holds."""
        return json.dumps(asdict(self), indent=2).encode()


def label_columns(chunks: Sequence[Chunk]) -> tuple[str, ...]:
    """Further label columns of any of a table's chunks, oldest first, by name.

    Of those that differ in case alone, which no Spark can tell apart, the newest counts.
    """
    return tuple(sorted({label.casefold(): label for chunk in chunks for label in chunk.labels}.values()))


def recover(store: Store, output: str) -> int:
    """Publish the chunks of any embedding that were committed and not yet published, and empty the staging folder."""
    staging = join(output, STAGING)
    if not store.exists(staging):
        return 0
    committed = [found for entry in store.walk(staging) if (found := _STAGED_MARKER.fullmatch(entry.path))]
    for marker in committed:
        chunk = Chunk.from_json(store.read(marker[0], MAX_MARKER_BYTES))
        publish(store, output, marker[1], chunk)
    store.remove(staging)
    return len(committed)


def publish(store: Store, output: str, staging: str, chunk: Chunk) -> None:
    """Bring a committed chunk into view; doing it again completes it."""

    def final(kind: str) -> str:
        run, number = f"{schema.RUN}={chunk.run}", f"{schema.CHUNK}={chunk.number}"
        return join(output, kind, f"{schema.EMBEDDING}={chunk.embedding}", run, number)

    if chunk.rejects_files:
        store.publish(f"{staging}/rejects", final("rejects"), chunk.rejects_files)
    store.publish(f"{staging}/features", final("features"), [*chunk.features_files, MARKER])
    store.remove(staging)


def reject_policy(limits: DecodeOptions) -> dict[str, object]:
    """The decoder's choices that decide whether a picture is a reject, as plain values."""
    return {
        "max_pixels": limits.max_pixels,
        "max_bytes": limits.max_bytes,
        "accept_truncated": limits.accept_truncated,
        "formats": sorted(limits.formats),
    }
