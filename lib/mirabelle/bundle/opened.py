"""A bundle, opened: from a picture's bytes to an answer. [OpenVINO; Store, through paths]

Any process: it needs neither Spark nor Keras nor a configuration. Decoder, network, projection and classifier are those
of the batch job, so that answers are the same to 1e-5.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mirabelle.bundle.answers import Answer, BundleInfo, Likely, Neighbour, Outputs, Prediction, Rejected
from mirabelle.bundle.chaining import Chain, read_chain
from mirabelle.bundle.classifying import read_arrays
from mirabelle.bundle.index import Index
from mirabelle.bundle.looking import Looker, Scores
from mirabelle.bundle.networks import Networks
from mirabelle.bundle.predicting import predictions
from mirabelle.bundle.sealing import read_sealed
from mirabelle.decode import DecodedImage
from mirabelle.errors import BundleError, EmbedError, RejectCode
from mirabelle.network.engines import Features, Pixels
from mirabelle.reduction import Projection
from mirabelle.storage import S3Options
from mirabelle.storage.opening import AS_AWS_SAYS

# Of a bundle of one network, and of one of several, which an older Mirabelle would take for one of the first.
FORMAT, FORMAT_OF_SEVERAL = 1, 2
CARD = "MODEL_CARD.md"
NOT_FINITE = EmbedError(RejectCode.NOT_FINITE, "the network answered NaN or infinity")


class Bundle:
    """A network and what was learnt of it, ready to answer. For several threads at once; made by ``open_bundle``.

    Attributes:
        info: what it is.
        threads: that the engine may use, and that ``predict`` decodes with.
    """

    def __init__(self, facts: dict[str, Any], files: dict[str, bytes], threads: int, s3: S3Options) -> None:
        """Build it of what ``read_sealed`` gave; raises ``BundleError`` where that does not fit together."""
        self.threads, self.s3 = threads, s3
        if facts.get("format") not in (FORMAT, FORMAT_OF_SEVERAL):
            raise BundleError(
                f"the bundle has the form {facts.get('format')}, and this Mirabelle reads {FORMAT} and"
                f" {FORMAT_OF_SEVERAL}; update it"
            )
        try:
            reduction = facts["reduction"]
            self._projection = _projection(reduction["file"], files) if reduction else None
            self._chain = read_chain(facts, files)
            self._networks = Networks([facts, *facts.get("networks", [])], files, threads)
            self.info = _info(facts, files, self._chain, self._networks)
            index = facts["index"]
            self._index = Index.from_files(index, files) if index else None
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, EOFError) as error:
            raise BundleError(f"the bundle's facts do not fit together ({error!r}); bundle it again") from error
        others = [embedding.width for embedding in self._networks.embeddings[1:]]
        self._chain.check([self.info.components or self.info.width, *others], "the bundle's classifier")
        self._looker: Looker | None = None

    @property
    def max_bytes(self) -> int:
        """A larger picture is rejected unread."""
        return self._networks.max_bytes

    def decode(self, data: bytes) -> DecodedImage:
        """A picture's bytes as the networks see them: uint8 of ``info.pixels``, and the picture's own size.

        Raises:
            DecodeError: with the code that the batch job's rejects have.
        """
        return self._networks.decode(data)

    def infer(self, pixels: Pixels, half: int | None = None) -> Outputs:
        """Run networks, PCA and classifiers on pictures, uint8 (n, *info.pixels), all at once.

        Args:
            pixels: of the pictures.
            half: 0 or 1: of the threads, so that another call can run beside this one on the other; None: on all.

        Raises:
            ValueError: they are of another shape or type.
            RuntimeError: the engine failed.
        """
        wanted = self.info.pixels
        if pixels.dtype != np.uint8 or pixels.shape[1:] != wanted:
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, and must be uint8 (n, *{wanted})")
        if not len(pixels):
            return self.classify(*(np.zeros((0, one.width), np.float32) for one in self._networks.embeddings))
        return self.classify(*self._networks.embed(pixels, half))

    def classify(self, features: Features, *others: Features) -> Outputs:
        """PCA and classifiers alone, of features float32 (n, width) that this bundle's network made.

        Args:
            features: of its own network.
            others: of the further networks of a chain, in the manifest's order.
        """
        finite = np.logical_and.reduce([np.isfinite(one.sum(axis=1, dtype=np.float64)) for one in (features, *others)])
        if finite.all():
            known, *more = features, *others
        else:
            known, *more = (np.where(finite[:, None], one, np.float32(0)) for one in (features, *others))
        reduced = self._projection.apply(known) if self._projection else None
        said = self._chain.say(known if reduced is None else reduced, *more)
        return Outputs(
            features,
            reduced,
            said.probabilities.astype(np.float32),
            said.predicted,
            finite,
            said.coarse.astype(np.float32),
            said.coarse_predicted,
            said.sure,
            said.coarse_sure,
        )

    def answer(self, outputs: Outputs, top: int | None = None) -> list[Answer | Rejected]:
        """What ``infer`` gave in words, a picture each.

        Args:
            outputs: of n pictures.
            top: so many labels, likeliest first; None: all.
        """
        return [
            self._answer(outputs, row, top) if outputs.finite[row] else Rejected.of(NOT_FINITE)
            for row in range(len(outputs))
        ]

    def _scores(self, features: Features) -> Scores:
        """Of what an explanation is about, by the network that is asked for it."""
        number = self._chain.source(None)
        rows = self._projection.apply(features) if self._projection and not number else features
        if len(self._networks.embeddings) > 1:
            probabilities = self._chain.first.probabilities(rows)
            return probabilities, self._chain.first.chosen(probabilities)
        said = self._chain.say(rows)
        return said.probabilities, said.predicted

    def _answer(self, outputs: Outputs, row: int, top: int | None) -> Answer:
        coarse = None
        if self.info.coarse_labels:
            chosen, sure = outputs.coarse_predicted[row], bool(outputs.coarse_sure[row])
            coarse = _answer(self.info.coarse_labels, outputs.coarse[row], chosen, top, sure, None)
        chosen, sure = outputs.predicted[row], bool(outputs.sure[row])
        return _answer(self.info.labels, outputs.probabilities[row], chosen, top, sure, coarse)

    def predict(self, images: Sequence[bytes | str | Path], top: int | None = None) -> list[Answer | Rejected]:
        """What the bundle says of some pictures; a bad one fails alone, in its place.

        Args:
            images: files' bytes, or paths, ``s3://`` too.
            top: so many labels each, likeliest first; None: all.
        """
        return [one.answer for one in self.predictions(images, top)]

    def predictions(self, images: Sequence[bytes | str | Path], top: int | None = None) -> list[Prediction]:
        """The same with the features and probabilities that the answers were made of."""
        return list(predictions(self, images, top))

    def explain(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Which parts of a picture its answer rests on; of a chain of several networks, its first answer.

        Args:
            pixels: uint8 of ``info.pixels``.

        Returns:
            float32 (rows, columns), 0 to 1, from the top left: how much the answer's odds against the next one fall
            where what the network's last maps have of that part is taken for their mean, as a share of the most that
            any part makes; 0 all over: no part alone counts.
        """
        networks, number = self._networks, self._chain.source(None)
        with networks.lock:
            if self._looker is None:
                precision = networks.embeddings[number].precision
                self._looker = Looker(networks.files[number], precision, self.threads)
            return self._looker.look(networks.seen(pixels[None], number)[0], self._scores)

    def neighbours(self, features: Features, k: int) -> list[Neighbour]:
        """The training set's pictures whose features are closest, closest first.

        Args:
            features: float32 (width,), from ``infer``.
            k: how many, at most.

        Raises:
            BundleError: the bundle has no index.
        """
        if self._index is None:
            raise BundleError(
                "this bundle has no index of its training pictures; make one with `mirabelle bundle --index`"
            )
        row = features[None]
        return self._index.nearest(self._projection.apply(row)[0] if self._projection else row[0], k)


def open_bundle(path: str, threads: int | None = None, s3: S3Options = AS_AWS_SAYS) -> Bundle:
    """Open a bundle, its files checked against their hashes; no code of it is run.

    Args:
        path: what ``mirabelle bundle`` wrote: the folder or the ``.tar``, on a disk or ``s3://``.
        threads: the engine may use. Default: all cores that this process may.
        s3: how buckets are reached.

    Raises:
        BundleError: there is none, or it was changed, or this Mirabelle is too old for it.
        PreflightError: OpenVINO is not installed.
    """
    facts, files = read_sealed(path, s3)
    return Bundle(facts, files, threads or available_cores(), s3)


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _answer(
    labels: Sequence[str],
    row: npt.NDArray[np.float32],
    chosen: np.int64,
    top: int | None,
    sure: bool,
    coarse: Answer | None,
) -> Answer:
    likely = tuple(Likely(labels[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:top])
    return Answer(labels[int(chosen)], float(row[chosen]), likely, sure, coarse)


def _projection(file: str, files: Mapping[str, bytes]) -> Projection:
    read_arrays(files[file], file)  # which refuses what is none of ours
    return Projection.from_bytes(files[file])


def _info(facts: dict[str, Any], files: dict[str, bytes], chain: Chain, networks: Networks) -> BundleInfo:
    embedding = networks.embeddings[0]
    reduction = facts["reduction"]
    return BundleInfo(
        id=facts["id"],
        name=facts["name"],
        estimator=facts["estimator"],
        labels=chain.labels,
        coarse_labels=chain.coarse_labels if chain.steps else (),
        fingerprint=embedding.fingerprint,
        embedding=embedding.to_json(),
        input_px=embedding.input_px,
        pixels=networks.shape,
        width=embedding.width,
        components=reduction["components"] if reduction else 0,
        precision=embedding.precision,
        has_index=bool(facts["index"]),
        created=facts["created"],
        versions=facts["versions"],
        checks=facts["checks"],
        card=files[CARD].decode(),
        sha256=facts["sha256"],
    )
