"""Many pictures through a bundle: read and decoded by threads while the network works on those before them. [Store]"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirabelle.bundle.answers import Prediction, Rejected
from mirabelle.decode import DecodedImage
from mirabelle.errors import EmbedError, ImageError, RejectCode
from mirabelle.worker.fetching import Source, fetch, read_ahead

if TYPE_CHECKING:
    from mirabelle.bundle.opened import Bundle

BATCH_IMAGES = 32
Prepared = DecodedImage | ImageError


def predictions(bundle: Bundle, images: Iterable[bytes | str | Path], top: int | None = None) -> Iterator[Prediction]:
    """What a bundle says of pictures, one by one, in their order.

    Args:
        bundle: opened.
        images: files' bytes, or paths; taken as they are needed.
        top: so many labels each.
    """

    def prepare(source: Source) -> Prepared:
        content = fetch(source, bundle.max_bytes, bundle.s3)
        if isinstance(content, ImageError):
            return content
        try:
            return bundle.decode(content)
        except ImageError as error:
            return error

    sources = (str(image) if isinstance(image, Path) else image for image in images)
    with ThreadPoolExecutor(bundle.threads, "mirabelle-pictures") as pool:
        ahead = read_ahead(sources, prepare, pool, 2 * BATCH_IMAGES)
        while some := tuple(islice(ahead, BATCH_IMAGES)):
            yield from _answered(bundle, some, top)


def _answered(bundle: Bundle, some: tuple[Prepared, ...], top: int | None) -> Iterator[Prediction]:
    pictures = [one for one in some if not isinstance(one, ImageError)]
    found = iter(_run(bundle, pictures, top))
    for one in some:
        yield Prediction(Rejected.of(one)) if isinstance(one, ImageError) else next(found)


def _run(bundle: Bundle, pictures: list[DecodedImage], top: int | None) -> list[Prediction]:
    """All at once; where the engine fails, picture by picture, so that one it cannot run fails alone."""
    if not pictures:
        return []
    try:
        outputs = bundle.infer(np.stack([picture.pixels for picture in pictures]))
    except RuntimeError as error:
        if len(pictures) == 1:
            failed = EmbedError(RejectCode.ENGINE_FAILED, " ".join(str(error).split())[:300])
            return [Prediction(Rejected.of(failed))]
        return [found for picture in pictures for found in _run(bundle, [picture], top)]
    return [
        Prediction(
            answer,
            picture.width_px,
            picture.height_px,
            outputs.features[i],
            None if outputs.reduced is None else outputs.reduced[i],
            outputs.probabilities[i],
        )
        for i, (answer, picture) in enumerate(zip(bundle.answer(outputs, top), pictures, strict=True))
    ]
