"""What stages left of a PCA, a classifier or a taught network: facts, arrays, models, and the rows made by them.

[Store; driver only]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

from mirabelle.storage import Store, join
from mirabelle.verification.files import UNREADABLE
from mirabelle.verification.notes import Notes

MAX_FACTS_BYTES = 2**28
# Beside its facts, what a model's folder holds.
PARTS = {
    "pca": ("pca.npz", "pipeline/metadata", "reduced"),
    "classifier": ("model/metadata",),
    "finetuned": ("model.keras", "history.parquet"),
}

# What the facts tell of the rows that it was fitted on, or that it has judged.
ROWS = {"pca": "rows", "classifier": "test_rows", "finetuned": "test_rows"}
# The verb that makes each.
VERBS = {"pca": "reduce", "classifier": "train", "finetuned": "finetune"}


def check_models(store: Store, output: str, fingerprints: set[str], notes: Notes) -> None:
    """Check each PCA, classifier and taught network: of an embedding that a run tells of, and with all that is its own.

    A folder without facts is of a run that was killed, and counts for nothing.
    """
    for kind, own in PARTS.items():
        folder = join(output, kind)
        paths = [e.path for e in store.walk(folder)] if store.exists(folder) else []
        for path in (path for path in paths if path.endswith(f"/{kind}.json")):
            notes.counts["models"] += 1
            try:
                facts = json.loads(store.read(path, MAX_FACTS_BYTES))
                told = facts.get("fingerprint")
            except (*UNREADABLE, AttributeError) as error:
                notes.find(f"{path} cannot be read: {_reason(error)}")
                continue
            # A network that was taught is of pictures, not of features.
            if kind != "finetuned" and told not in fingerprints:
                notes.find(f"{path} was made of an embedding that no run tells of: {str(told)[:8]}")
            if facts.get(ROWS[kind]) is not None:
                # In a chain a network may answer first.
                parts = () if facts.get("first") else own
                steps = facts.get("chain", {}).get("steps", ())
                parts = (*parts, *(f"{step['model']}/metadata" for step in steps if step["model"]))
                _check_parts(store, path.rpartition("/")[0], parts, notes)
                if not facts.get("interrupted"):
                    _check_rows(store, output, path, kind, facts, notes)


def _check_parts(store: Store, folder: str, parts: Sequence[str], notes: Notes) -> None:
    for part in parts:
        if not store.exists(join(folder, part)):
            notes.find(f"{join(folder, part)} is missing; run the stage that makes it again")


def _check_rows(store: Store, output: str, path: str, kind: str, facts: dict[str, Any], notes: Notes) -> None:
    """The reduced rows, or the predictions: readable, and as many as the facts tell of."""
    own = path.rpartition("/")[0]
    if kind == "pca":
        # With a split of its own it reduces more rows than it was fitted on.
        folder, expected = join(own, "reduced"), None if facts.get("fit_split") else facts["rows"]
    else:
        folder, expected = join(output, "predictions", own.rpartition("/")[2]), facts["test_rows"]
    if not store.exists(folder):
        if kind != "pca":
            notes.find(f"{folder} is missing; run `mirabelle {VERBS[kind]}` again")
        return
    rows = [_rows_of(store, e.path, notes) for e in store.walk(folder) if e.path.endswith(".parquet")]
    if None not in rows and expected is not None and (found := sum(filter(None, rows))) != expected:
        notes.find(f"{folder} has {found:,} rows, and {path} tells of {expected:,}")


def _rows_of(store: Store, path: str, notes: Notes) -> int | None:
    try:
        with store.open(path) as source:
            return sum(len(batch) for batch in pq.ParquetFile(source).iter_batches(use_threads=False))
    except UNREADABLE as error:
        notes.find(f"{path} cannot be read: {_reason(error)}")
        return None


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
