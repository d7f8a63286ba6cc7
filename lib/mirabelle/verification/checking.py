"""All checks of an output, in order. [Store, a scratch folder; driver only]"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mirabelle import schema
from mirabelle.errors import OutputError
from mirabelle.network.embedding import Embedding
from mirabelle.storage import Store, join
from mirabelle.table.chunks import Chunk
from mirabelle.table.features import KINDS, FeatureTable
from mirabelle.table.lease import Holder, holder
from mirabelle.table.runlog import read_manifests
from mirabelle.verification.files import check_files
from mirabelle.verification.models import check_models
from mirabelle.verification.notes import Notes
from mirabelle.verification.rows import check_rows
from mirabelle.verification.runs import check_leftovers, check_runs, check_sums


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        output: that was looked at.
        counts: of what was looked at, by name.
        findings: sentences that say what is wrong; none if all agrees.
        at_work: the run that is at work there, in words; what it is about to change was passed over.
    """

    output: str
    counts: dict[str, int]
    findings: tuple[str, ...]
    at_work: str | None

    def __str__(self) -> str:
        """As text for a terminal."""
        looked = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        lines = [f"looked at {self.output}: {looked}"]
        if self.at_work:
            lines.append(f"{self.at_work} is at work there, so what is not committed was passed over")
        if not self.findings:
            return "\n".join([*lines, "all agrees"])
        count = f"{len(self.findings):,} things are" if len(self.findings) > 1 else "one thing is"
        return "\n".join([*lines, f"{count} wrong:", *(f"  - {finding}" for finding in self.findings)])


def verify(store: Store, output: str, deep: bool = False) -> Verification:
    """Check an output.

    Args:
        store: where it is.
        output: its root.
        deep: read every value of the features; without it footers and narrow columns alone.

    Raises:
        OutputError: there is none.
    """
    if not store.exists(join(output, "runs")):
        raise OutputError(f"{output} is no output of Mirabelle: it has no folder `runs`; name one that a run wrote to")
    notes = Notes()
    held = holder(store, output)
    is_busy = held is not None and held.is_alive
    manifests = read_manifests(store, output)
    check_runs(store, output, manifests, notes)
    embeddings = _embeddings(manifests, notes)
    _check_folders(store, output, embeddings, notes)
    chunks: dict[str, Sequence[Chunk]] = {}
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as scratch:
        for embedding in embeddings:
            table = FeatureTable(store, output, embedding)
            found = check_files(store, table, notes, is_busy=is_busy, deep=deep)
            if found is None:
                continue
            chunks[embedding.folder] = found
            own = os.path.join(scratch, embedding.folder)
            os.makedirs(own)
            newest = _newest_with_listing(manifests, embedding.fingerprint)
            check_rows(store, output, table, newest, notes, own)
    check_sums(manifests, chunks, notes)
    check_models(store, output, {embedding.fingerprint for embedding in embeddings}, notes)
    check_leftovers(store, output, held, notes)
    return Verification(output, dict(notes.counts), tuple(notes.findings), _at_work(held))


def _embeddings(manifests: Iterable[dict[str, Any]], notes: Notes) -> list[Embedding]:
    found: dict[str, Embedding] = {}
    for manifest in manifests:
        try:
            if manifest.get("embedding"):
                embedding = Embedding.from_json(manifest["embedding"])
                found[embedding.fingerprint] = embedding
        except (ValueError, TypeError, KeyError) as error:
            notes.find(f"the manifest of run {manifest['run_id']} tells of no embedding that can be: {error}")
    notes.counts["embeddings"] += len(found)
    return list(found.values())


def _check_folders(store: Store, output: str, embeddings: Iterable[Embedding], notes: Notes) -> None:
    """Every folder of features and rejects is of an embedding that a run tells of."""
    known = {f"{schema.EMBEDDING}={embedding.folder}" for embedding in embeddings}
    for kind in KINDS:
        folder = join(output, kind)
        below = {e.path.removeprefix(f"{folder}/") for e in store.walk(folder)} if store.exists(folder) else set()
        for name in sorted({path.partition("/")[0] for path in below} - known):
            notes.find(f"{join(folder, name)} is of no embedding that a run tells of")


def _newest_with_listing(manifests: Iterable[dict[str, Any]], fingerprint: str) -> dict[str, Any] | None:
    found = [m for m in manifests if m.get("fingerprint") == fingerprint and m.get("listing")]
    return found[-1] if found else None


def _at_work(held: Holder | None) -> str | None:
    return held.words if held and held.is_alive else None
