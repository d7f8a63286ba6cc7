"""int8: a converted network quantised after training, on some of the user's own pictures. [NNCF, lazily; Store]

Driver only; workers open the result as they open any network of OpenVINO's. An output keeps the network that its
features are of, so that new pictures, another machine or another NNCF leave the embedding what it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mirabelle.errors import FetchError, OutputError, PreflightError
from mirabelle.network.cached import FACTS, find_made, put_into_cache, read_cached
from mirabelle.network.embedding import Normalisation
from mirabelle.network.engines import Files, Pixels, open_engine, open_model
from mirabelle.storage import Store, join

log = logging.getLogger(__name__)

# Raised when what is quantised, or how, changes.
QUANTISATION_VERSION = 1
MAX_BYTES = 2**31
# Pictures that a network just quantised is tried on, and the mean cosine below which it is broken, not coarse.
CHECKED = 16
LEAST_COSINE = 0.5


@dataclass(frozen=True)
class Calibration:
    """The pictures that decide which range of values eight bits stand for.

    Attributes:
        pixels: uint8 (n, side, side, 3), n one or more.
        digest: sha256 over the pictures' files, in their order.
    """

    pixels: Pixels
    digest: str


Draw = Callable[[], Calibration]


@dataclass(frozen=True)
class Made:
    """A quantised network: what stands in its ``network.json``, its files, and whether it was there already."""

    facts: dict[str, Any]
    files: Files
    was_there: bool


def kept_in(store: Store, output: str, choices: dict[str, Any], weights: str) -> Made | None:
    """The network that an output keeps for these choices, or None.

    Raises:
        OutputError: it is damaged.
    """
    folder = kept_folder(output, choices, weights)
    if not store.exists(join(folder, FACTS)):
        return None
    try:
        facts: dict[str, Any] = json.loads(store.read(join(folder, FACTS), MAX_BYTES))
        files = {name: store.read(join(folder, name), MAX_BYTES) for name in facts["files"]}
        if facts["sha256"] != _sha256(files):
            raise ValueError("its files are not those that network.json tells of")
    except (FetchError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"the int8 network in {folder} is damaged ({error}); remove that folder, and the next run quantises anew"
        ) from error
    return Made(facts, files, was_there=True)


def keep(store: Store, output: str, facts: dict[str, Any], files: Files) -> None:
    """Have an output keep a quantised network; the one that is there already stays if it is the same."""
    folder = kept_folder(output, _choices_of(facts), facts["weights"])
    there = join(folder, FACTS)
    told = json.dumps({**facts, "sha256": _sha256(files)}, indent=2).encode()
    if store.exists(there) and store.read(there, MAX_BYTES) == told:
        return
    for name, content in files.items():
        store.write(join(folder, name), content)
    # Last, as a network counts by it.
    store.write(there, told)


def kept_folder(output: str, choices: dict[str, Any], weights: str) -> str:
    """Where an output keeps the network for these choices."""
    key = json.dumps([choices, weights], sort_keys=True)
    return join(output, "networks", f"int8-{hashlib.sha256(key.encode()).hexdigest()[:12]}")


def make(
    folder: Path,
    recipe: dict[str, Any],
    weights: str,
    plain: Callable[[], tuple[dict[str, Any], Files]],
    draw: Draw | None,
) -> Made:
    """A quantised network out of the cache, or made of the float one and put there.

    Args:
        folder: of quantised networks, in the cache.
        recipe: all that decides what it is, but for the pictures; with ``choices``, and ``versions`` of libraries.
        weights: as the user named them.
        plain: gives the converted network in float32, its facts and files.
        draw: gives the pictures; None: there are none to be had, so that one that is there must do.

    Raises:
        PreflightError: NNCF is needed and is not installed, or there are no pictures.
    """
    missing = find_spec("nncf") is None
    if missing or draw is None:
        found = find_made(folder, recipe["choices"], weights)
        if found is not None:
            return Made(*read_cached(found), was_there=True)
        raise PreflightError(
            "int8 is quantised by NNCF on the driver, and it is not installed; install mirabelle[int8], set"
            " engine.precision to bf16 or float32, or set cache to one that `mirabelle pack` made of this network"
            if missing
            else "int8 is quantised on pictures, and none were given; run `mirabelle extract`, whose output keeps it"
        )
    pictures = draw()
    key = {**recipe, "pictures": pictures.digest}
    own = folder / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    if (own / FACTS).is_file():
        return Made(*read_cached(own), was_there=True)
    facts, files = plain()
    log.info("quantising to int8 on %d pictures; some minutes for a large network", len(pictures.pixels))
    made = quantise(files, pictures.pixels)
    _check(files, made, pictures.pixels[:CHECKED])
    by = f"nncf {version('nncf')} v{QUANTISATION_VERSION}"
    told = {
        **facts,
        "made_from": {**recipe["choices"], "versions": recipe["versions"]},
        "files": sorted(made),
        "calibration": f"{by} on {len(pictures.pixels)} pictures, sha256 {pictures.digest}",
    }
    put_into_cache(own, told, made)
    return Made(told, made, was_there=False)


def quantise(files: Files, pixels: Pixels) -> Files:
    """A network of OpenVINO's with weights and activations in eight bits, all layers of it.

    Which way, and why none stays in float: docs/decisions/0014.

    Args:
        files: ``model.xml`` and ``model.bin``, input uint8 (n, side, side, 3). Not changed.
        pixels: uint8 (n, side, side, 3), to see what values come up.
    """
    nncf = _nncf()
    import openvino

    # NNCF draws a bar on the terminal, whose line is the console's.
    with redirect_stdout(sys.stderr):
        quantised = nncf.quantize(
            open_model(files),
            nncf.Dataset([one[None] for one in pixels]),
            subset_size=len(pixels),
            target_device=nncf.TargetDevice.CPU,
        )
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as folder:
        openvino.save_model(quantised, Path(folder) / "model.xml", compress_to_fp16=False)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _check(plain: Files, made: Files, pixels: Pixels) -> None:
    """Raise ``PreflightError`` for a network that says next to nothing of what it said in float32."""
    none = Normalisation("none")  # it is in the network
    before, after = (
        np.concatenate([engine.embed(one[None]) for one in pixels]).astype(np.float64)
        for engine in (open_engine("openvino", files, none, "float32", 1) for files in (plain, made))
    )
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    # Values that vanish are nothing in common, too.
    cosine = float(np.mean((before * after).sum(axis=1) / np.where(lengths > 0, lengths, np.inf)))
    log.info("quantised: mean cosine %.4f to float32 on pictures that it was quantised on", cosine)
    if not cosine >= LEAST_COSINE:
        raise PreflightError(
            f"in int8 this network says next to nothing of what it says in float32 (mean cosine {cosine:.2f}), as its"
            " values span too much for eight bits; set engine.precision to bf16 or float32"
        )


def calibration_digest(contents: list[bytes]) -> str:
    """sha256 over the sha256 of each of the pictures' files, in their order."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _choices_of(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts["made_from"].items() if key != "versions"}


def _sha256(files: Files) -> dict[str, str]:
    return {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}


def _nncf() -> Any:
    """NNCF without its usage reports, which would call out, and without its remarks."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf
