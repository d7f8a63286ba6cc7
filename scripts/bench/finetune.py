"""An epoch of teaching beside plain Keras: `fit` over `image_dataset_from_directory`, the same network and pictures.

    python scripts/bench/finetune.py PICTURES                     # label folders below it
    python scripts/bench/finetune.py PICTURES --network vgg16 --unfreeze-from block5_conv1 --epochs 3

Both sides in one run, by turns, an epoch each after one that is not counted; the ratio of the medians is what counts.
Plain Keras decodes in every epoch, with its own cache off, as its documentation's examples do; we decode once, before.
The time of that is printed, too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from machine import facts
from mirabelle.config.finetuning import Finetune
from mirabelle.decode import DecodeOptions
from mirabelle.finetune import Lesson, build, read_pictures
from mirabelle.finetune.teaching import compile_for, one_round
from mirabelle.network import backbones
from mirabelle.network.embedding import NORMALISATIONS
from mirabelle.network.engines import normalise
from mirabelle.storage import S3Options
from mirabelle.worker.fetching import ImageSource

SUFFIXES = (".jpg", ".jpeg", ".png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--network", default="small")
    parser.add_argument("--unfreeze-from", default="all")
    parser.add_argument("--input-px", type=int, default=150)
    parser.add_argument("--images", type=int, default=640, help="of all labels, at most")
    parser.add_argument("--epochs", type=int, default=3, help="of each side that count")
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    given = parser.parse_args()
    settings = Finetune(
        network=given.network,
        weights="random:0",
        input_px=given.input_px,
        unfreeze_from=given.unfreeze_from,
        precision=given.precision,
        dropout=0.5,
    )
    print("\n".join(f"{name}: {fact}" for name, fact in facts().items()))
    with tempfile.TemporaryDirectory(prefix="mirabelle-bench-") as scratch:
        folder, paths, classes = few(given.pictures, given.images, Path(scratch))
        labels = len(set(classes))
        print(f"{len(paths)} pictures, {labels} labels, {settings.network} at {settings.input_px} px")
        began = time.perf_counter()
        sources = [ImageSource(str(path)) for path in paths]
        pictures = read_pictures(
            sources, given.input_px, DecodeOptions(), S3Options(), scratch, lambda _done, _bad: None
        )
        print(f"decoding them once: {time.perf_counter() - began:.1f} s")
        ours, plain = our_side(settings, pictures.rows, classes, labels), keras_side(settings, folder, labels)
        seconds: dict[str, list[float]] = {"mirabelle": [], "keras": []}
        waited = 0.0
        for number in range(given.epochs + 1):
            epoch = ours(number)
            began = time.perf_counter()
            plain()
            if number:
                seconds["mirabelle"].append(epoch.seconds)
                seconds["keras"].append(time.perf_counter() - began)
                waited += epoch.waiting_seconds
            print(f"  epoch {number}: mirabelle {epoch.seconds:.1f} s, keras {time.perf_counter() - began:.1f} s")
    medians = {side: statistics.median(found) for side, found in seconds.items()}
    ratio = medians["mirabelle"] / medians["keras"]
    share = waited / sum(seconds["mirabelle"])
    print(f"an epoch: mirabelle {medians['mirabelle']:.2f} s, keras {medians['keras']:.2f} s, ratio {ratio:.2f}")
    print(f"waiting for pictures: {share:.1%} of ours")


def few(pictures: Path, most: int, scratch: Path) -> tuple[Path, list[Path], list[int]]:
    """As many pictures of each label, in a folder of links that both sides read."""
    labels = sorted(path.name for path in pictures.iterdir() if path.is_dir())
    paths: list[Path] = []
    classes: list[int] = []
    for number, label in enumerate(labels):
        found = sorted(
            path for path in (pictures / label).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
        )
        for path in found[: max(1, most // len(labels))]:
            link = scratch / "pictures" / label / f"{len(paths):06d}{path.suffix.lower()}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
            paths.append(link)
            classes.append(number)
    return scratch / "pictures", paths, classes


def our_side(settings: Finetune, rows: Any, classes: list[int], labels: int) -> Any:
    """An epoch as ``teach`` has it, without keeping it."""
    taught = build(settings, labels, Path(tempfile.gettempdir()))
    positions = np.arange(len(classes))
    normalisation = NORMALISATIONS[taught.row.normalisation]
    nothing = np.array([], np.int64)
    lesson = Lesson(settings, rows, np.array(classes), positions, nothing, labels, normalisation, (255, 255, 255))
    optimizer = compile_for(taught.model, settings, labels)
    history: list[Any] = []

    def epoch(_: int) -> Any:
        history.append(one_round(taught.model, lesson, optimizer, history))
        return history[-1]

    return epoch


def keras_side(settings: Finetune, folder: Path, labels: int) -> Any:
    """What Keras's documentation has people write."""
    keras = backbones.import_keras()
    import tensorflow as tf

    taught = build(settings, labels, Path(tempfile.gettempdir()))
    normalisation = NORMALISATIONS[taught.row.normalisation]
    side = settings.input_px
    dataset = keras.utils.image_dataset_from_directory(
        folder,
        label_mode="binary" if labels == 2 else "int",
        image_size=(side, side),
        batch_size=settings.batch_images,
        shuffle=True,
        seed=0,
    )
    probe = normalise(np.zeros((1, 1, 1, 3), np.uint8), normalisation)
    scale = float(normalise(np.full((1, 1, 1, 3), 1, np.uint8), normalisation).flat[0] - probe.flat[0])

    def prepared(images: Any, classes: Any) -> Any:
        images = images[..., ::-1] if normalisation.reverse_channels else images
        return images * scale + tf.constant(probe.reshape(3)), classes

    dataset = dataset.map(prepared, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    loss = "binary_crossentropy" if labels == 2 else "sparse_categorical_crossentropy"
    taught.model.compile(keras.optimizers.RMSprop(1e-5), loss, metrics=["accuracy"], jit_compile=False)
    return lambda: taught.model.fit(dataset, epochs=1, verbose=0)


if __name__ == "__main__":
    main()
