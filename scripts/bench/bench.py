"""What all measurements share: where, on how much, which networks; and a side's work on some pictures.

Starts processes; writes below the work folder alone.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from estimate import Progress
from inputs import Pictures
from sides import Side, Work

WARM_UP_IMAGES = 4


@dataclass(frozen=True)
class Bench:
    """What all measurements share.

    Attributes:
        work: folder that everything is written below; absolute.
        cores: to use.
        native: precisions that the machine computes natively, float32 first.
        weights: by backbone, as Mirabelle names them.
        rounds: of each comparison.
        bound_seconds: for one figure of the bound.
        quick: whether the bound is looked for among few layouts.
        say: what to do with a line of progress.
        progress: what is done of all that is planned.
    """

    work: Path
    cores: int
    native: tuple[str, ...]
    weights: dict[str, str]
    rounds: int
    bound_seconds: float
    quick: bool
    say: Callable[[str], None]
    progress: Progress

    @property
    def cache(self) -> Path:
        """Mirabelle's."""
        return self.work / "cache"

    def network(self, backbone: str) -> Path:
        """Folder of the converted network."""
        return self.work / "networks" / backbone


def export_network(bench: Bench, backbone: str) -> None:
    """Have the network converted into Mirabelle's cache, and the very files that it sends put where peers find them."""
    # In a process that ends, as Keras and its backend keep their memory and threads.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(convert, backbone, bench.weights[backbone], bench.cache, bench.network(backbone)).result()


def convert(backbone: str, weights: str, cache: Path, target: Path) -> None:
    """Write the converted network's files into ``target``, by way of the cache."""
    from mirabelle.config import load
    from mirabelle.network import preparing

    settings = [f"cache={cache}", f"backbone.name={backbone}", f"backbone.weights={weights}"]
    config = load(None, ["images.root=.", "output=.", *settings], {})
    # With what a peer made of other weights.
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, content in preparing.prepare_network(config, "float32").files.items():
        (target / name).write_bytes(content)


def warm_up(bench: Bench, side: Side, backbone: str, pictures: Pictures) -> None:
    """One run that nobody times, so that those that count find programs in memory, and jars and networks ready."""
    with tempfile.TemporaryDirectory(dir=bench.work) as scratch:
        some = pictures.spread(WARM_UP_IMAGES)
        side.run(work_for(bench, backbone, "float32", some, Path(scratch)))


def work_for(bench: Bench, backbone: str, precision: str, pictures: Pictures, scratch: Path) -> Work:
    """A side's work on these pictures, in ``scratch``."""
    return Work(
        pictures.link(scratch / "pictures"),
        len(pictures.paths),
        backbone,
        bench.weights[backbone],
        bench.network(backbone),
        precision,
        bench.cores,
        scratch,
        bench.cache,
    )
