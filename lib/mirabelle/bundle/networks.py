"""The networks of a bundle: one, or several of a chain that look at the same picture. [OpenVINO]

Each sees a picture at its own size, decoded by its own choices. Where these are not the same for all, a picture's
pixels are a sheet: a square for each of them, below each other, black beside the smaller ones.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mirabelle.decode import PREPROCESSING_VERSION, DecodedImage, DecodeOptions, decode
from mirabelle.errors import BundleError, DecodeError, PreflightError, RejectCode
from mirabelle.network.embedding import Embedding, Precision
from mirabelle.network.engines import (
    Features,
    Files,
    OpenVinoEngine,
    Pixels,
    compile_files,
    has_fast_int8,
    native_precisions,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sight:
    """How a picture is seen: the side of the square in pixels, and the decoder's choices."""

    side: int
    options: DecodeOptions


class Networks:
    """All networks of a bundle, compiled. For several threads at once; each runs on all threads, or two on a half each.

    Attributes:
        embeddings: of each; the first is the bundle's own.
        files: of each.
        shape: of a picture's pixels.
    """

    def __init__(self, told: Sequence[Mapping[str, Any]], files: Mapping[str, bytes], threads: int) -> None:
        """Open them.

        Args:
            told: of each ``embedding``, ``decode`` and ``network``, as a manifest has them.
            files: of the bundle.
            threads: that each may use.

        Raises:
            BundleError: one does not open, or needs another decoder.
            PreflightError: OpenVINO is not installed.
            KeyError, TypeError, ValueError, AttributeError: the facts are none of ours.
        """
        self.embeddings = [_embedding(one["embedding"]) for one in told]
        seen = [Sight(e.input_px, _options(one["decode"])) for e, one in zip(self.embeddings, told, strict=True)]
        self._sights = list(dict.fromkeys(seen))
        ends = np.cumsum([sight.side for sight in self._sights]).tolist()
        self._rows = [slice(end - sight.side, end) for end, sight in zip(ends, self._sights, strict=True)]
        self._places = [self._sights.index(sight) for sight in seen]
        self.shape = (ends[-1], max(sight.side for sight in self._sights), 3)
        self.files: list[Files] = [
            {name: files[path] for name, path in one["network"]["files"].items()} for one in told
        ]
        self._threads = threads
        (self._engines,) = self._open(1)
        for embedding in self.embeddings:
            _warn_of(embedding.precision)
        self.lock = threading.Lock()
        # Compiled once they are asked for, as most never are.
        self._halves: list[list[OpenVinoEngine]] = []
        self._half_locks = (threading.Lock(), threading.Lock())
        # Pillow's switch for truncated files holds for all threads.
        is_patient = any(sight.options.accept_truncated for sight in self._sights)
        self._decode_lock: Any = threading.Lock() if is_patient else nullcontext()

    @property
    def max_bytes(self) -> int:
        """A larger picture is rejected unread."""
        return min(sight.options.max_bytes for sight in self._sights)

    def decode(self, data: bytes) -> DecodedImage:
        """A picture's bytes as the networks see them, uint8 of ``shape``; raises ``DecodeError``."""
        if len(data) > self.max_bytes:
            raise DecodeError(RejectCode.TOO_MANY_BYTES, f"more than decode.max_bytes, {self.max_bytes:,}")
        with self._decode_lock:
            found = [decode(data, sight.side, sight.options) for sight in self._sights]
        if len(found) == 1:
            return found[0]
        sheet = np.zeros(self.shape, np.uint8)
        for rows, sight, picture in zip(self._rows, self._sights, found, strict=True):
            sheet[rows, : sight.side] = picture.pixels
        return replace(found[0], pixels=sheet)

    def seen(self, pixels: Pixels, number: int) -> Pixels:
        """What one network sees of pictures, uint8 (n, side, side, 3), of uint8 (n, *shape)."""
        if len(self._sights) == 1:
            return np.ascontiguousarray(pixels)
        place = self._places[number]
        return np.ascontiguousarray(pixels[:, self._rows[place], : self._sights[place].side])

    def embed(self, pixels: Pixels, half: int | None = None) -> list[Features]:
        """What each network says of pictures, float32 (n, width); raises ``RuntimeError`` where an engine fails.

        Args:
            pixels: uint8 (n, *shape).
            half: 0 or 1: of the threads; None: on all.
        """
        if half is None:
            with self.lock:
                return self._run(self._engines, pixels)
        with self.lock:
            self._halves = self._halves or self._open(2)
        with self._half_locks[half]:
            return self._run(self._halves[half], pixels)

    def _run(self, engines: Sequence[OpenVinoEngine], pixels: Pixels) -> list[Features]:
        return [engine.embed(self.seen(pixels, number)) for number, engine in enumerate(engines)]

    def _open(self, count: int) -> list[list[OpenVinoEngine]]:
        """All networks so many times, the threads shared out."""
        compiled = [
            _compiled(network, embedding.precision, self._threads, count)
            for network, embedding in zip(self.files, self.embeddings, strict=True)
        ]
        return [[OpenVinoEngine(one) for one in compiled] for _ in range(count)]


def _options(told: Mapping[str, Any]) -> DecodeOptions:
    choices: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in told.items()}
    return DecodeOptions(**choices)


def _embedding(told: dict[str, Any]) -> Embedding:
    embedding = Embedding.from_json(told)
    decoder = embedding.preprocessing.partition(" ")[0]
    if decoder != f"v{PREPROCESSING_VERSION}":
        raise BundleError(
            f"the bundle was made with decoder {decoder}, and here is v{PREPROCESSING_VERSION}, which makes other"
            " pixels of the same file; install the Mirabelle that made it, or bundle a new run"
        )
    return embedding


def _compiled(network: Files, precision: Precision, threads: int, streams: int) -> Any:
    """The network, compiled; only OpenVINO's own form is taken, which runs nothing and names no other file."""
    if not network["model.xml"].lstrip().startswith(b"<?xml"):
        raise BundleError("the bundle's network is not in OpenVINO's form; do not trust this bundle")
    try:
        return compile_files(network, precision, threads, streams=streams)
    except ImportError as error:
        raise PreflightError(
            f"opening a bundle needs OpenVINO, which cannot be imported ({error}); install mirabelle[openvino]"
        ) from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"the bundle's network does not open ({reason}); update openvino, or bundle it again"
        ) from error


def _warn_of(precision: Precision) -> None:
    """Say what this CPU has not."""
    if precision == "bf16" and precision not in native_precisions():
        log.warning("this CPU has no bf16: the network runs in float32, and answers are close to the batch job's alone")
    if precision == "int8" and not has_fast_int8():
        log.warning(
            "this CPU has neither VNNI nor AMX: int8 is slow here, and answers are close to the batch job's alone"
        )
