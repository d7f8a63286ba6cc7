"""Pictures by their paths, and what a bundle says of them as lines, as JSON or as Parquet. [Store; pyarrow, lazily]"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mirabelle import schema
from mirabelle.bundle.answers import Answer, BundleInfo, Prediction, Rejected
from mirabelle.bundle.opened import Bundle
from mirabelle.bundle.predicting import predictions
from mirabelle.errors import ListingError
from mirabelle.storage import S3Options, absolute, is_s3, open_store
from mirabelle.storage.litter import is_litter
from mirabelle.storage.opening import AS_AWS_SAYS

TOP_SHOWN = 3
BUNDLE_METADATA_KEY = "mirabelle.bundle"
PROBABILITY = "probability"
# Of a column in lines, so that one long name does not push all others off the screen.
MOST_WIDE = 60

Row = tuple[str, Prediction]


def pictures_at(places: Sequence[str], s3: S3Options = AS_AWS_SAYS) -> list[str]:
    """Whole paths of the pictures that files, folders and prefixes name, each folder's in order of name.

    What is hidden or left by systems is passed over, as the batch job does, but not a file that is named itself.

    Raises:
        ListingError: there is no such file or folder, or it cannot be read or holds nothing.
    """
    return [_spelt_out(path) for place in places for path in _at(absolute(place), s3)]


def _at(place: str, s3: S3Options) -> list[str]:
    store = open_store(place, s3)
    if not store.exists(place):
        raise ListingError(f"there is no picture or folder {place}; give one that is there")
    if not is_s3(place) and not os.path.isdir(place):
        return [place]
    start = len(place.rstrip("/")) + 1
    found = sorted(entry.path for entry in store.walk(place) if not is_litter(entry.path[start:]))
    if not found and is_s3(place):
        # An object: nothing lies below it.
        return [place]
    if not found:
        raise ListingError(f"{place} holds no pictures; hidden files and what systems leave do not count")
    return found


def _spelt_out(path: str) -> str:
    """Bytes that are not UTF-8 as the listing has them; such a file is a reject there, too."""
    return path.encode("utf-8", "backslashreplace").decode()


def ask(bundle: Bundle, paths: Sequence[str], top: int | None, told: Callable[[bool], None]) -> Iterator[Row]:
    """What a bundle says of each picture, in order; ``told`` is called after each with whether it was rejected."""
    for path, found in zip(paths, predictions(bundle, paths, top), strict=True):
        told(isinstance(found.answer, Rejected))
        yield path, found


def as_lines(rows: Iterator[Row], paths: Sequence[str], info: BundleInfo) -> Iterator[str]:
    """A table, a line each as soon as it is known: wide enough for what is to come."""
    base = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths and not any(map(is_s3, paths)) else ""
    shown = {path: os.path.relpath(path, base) if base else path for path in paths}
    wide = min(MOST_WIDE, max([len("picture"), *map(len, shown.values())]))
    unsure = [f"not sure: {one}" for one in info.coarse_labels]
    label = min(MOST_WIDE, max(map(len, ["answer", *info.labels, *unsure])))
    yield f"{'picture':<{wide}}  {'answer':<{label}}  probability  then"
    for path, found in rows:
        answer = found.answer
        if isinstance(answer, Rejected):
            told = f"{answer.code}: {answer.detail}" if answer.detail else answer.code
            yield f"{shown[path]:<{wide}}  {'-':<{label}}  rejected     {told}"
            continue
        said = answer if answer.sure or answer.coarse is None else answer.coarse
        others = [one for one in said.probabilities if one.label != said.label]
        then = ", ".join(f"{one.label} {one.probability:.3f}" for one in others)
        given = answer.given or f"not sure: {said.label}"
        yield f"{shown[path]:<{wide}}  {given:<{label}}  {said.probability:<11.3f}  {then}".rstrip()


def as_json(path: str, found: Prediction) -> dict[str, Any]:
    """One picture as plain values: its answer, or why there is none."""
    answer = found.answer
    if isinstance(answer, Rejected):
        return {
            schema.PATH: path,
            schema.STAGE: answer.stage,
            schema.CODE: answer.code,
            schema.DETAIL: answer.detail,
        }
    return {
        schema.PATH: path,
        schema.WIDTH_PX: found.width_px,
        schema.HEIGHT_PX: found.height_px,
        **_answer_json(answer),
    }


def _answer_json(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = {
        schema.PREDICTED: answer.label,
        PROBABILITY: answer.probability,
        schema.PROBABILITIES: {one.label: one.probability for one in answer.probabilities},
        "sure": answer.sure,
    }
    return told if answer.coarse is None else {**told, "coarse": _answer_json(answer.coarse)}


def as_parquet(rows: Sequence[Row], info: BundleInfo) -> bytes:
    """One Parquet file: ``path, width_px, height_px, predicted, probability, probabilities, stage, code, detail``.

    Of a chain ``chain_answer``, too: what is sure enough. Probabilities are in the order of the labels, which are in
    the file's metadata with what the bundle is.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"id": info.id, "name": info.name, "sha256": info.sha256, "fingerprint": info.fingerprint}
    facts = {BUNDLE_METADATA_KEY: json.dumps({**about, "labels": list(info.labels)})}
    strings = (schema.STAGE, schema.CODE, schema.DETAIL)
    columns = pa.schema(
        [
            pa.field(schema.PATH, pa.string(), nullable=False),
            pa.field(schema.WIDTH_PX, pa.int32()),
            pa.field(schema.HEIGHT_PX, pa.int32()),
            pa.field(schema.PREDICTED, pa.string()),
            pa.field(PROBABILITY, pa.float32()),
            pa.field(schema.PROBABILITIES, pa.list_(pa.field("element", pa.float32(), nullable=False))),
            *(pa.field(name, pa.string()) for name in strings),
            *([pa.field(schema.CHAIN_ANSWER, pa.string())] if info.coarse_labels else []),
        ],
        metadata=facts,
    )
    values = []
    for path, found in rows:
        one = as_json(path, found)
        probabilities = None if found.probabilities is None or schema.CODE in one else found.probabilities.tolist()
        given = None if isinstance(found.answer, Rejected) else found.answer.given
        values.append({**one, schema.PROBABILITIES: probabilities, schema.CHAIN_ANSWER: given})
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(values, columns), sink, compression="zstd")
    return sink.getvalue()
