"""How long the benchmark takes, roughly, and how much of that is left. Pure, but for a clock.

The constants are of two cores of an AMD EPYC (Zen 5); what a machine turns out to take corrects them as it goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# Images a second of the engine alone.
SPEEDS = {
    ("resnet50", "float32"): 55.0,
    ("resnet50", "bf16"): 115.0,
    ("resnet50", "int8"): 200.0,
    ("vgg16", "float32"): 15.0,
    ("vgg16", "bf16"): 29.0,
    ("vgg16", "int8"): 50.0,
}
CORES = 2
# Core-seconds to decode a picture of each input.
DECODE_SECONDS = {"a": 0.0005, "b": 0.01, "c": 0.2}
# Seconds of a process beside its pictures, and times the engine's time for these; by program.
STARTS = {
    "mirabelle": 5,
    "daft_job": 2,
    "keras_tfdata": 8,
    "notebook": 40,
    "openvino_pool": 2,
    "predict_batch_udf": 15,
    "ray_data": 10,
    "synapseml": 20,
}
START_SECONDS = 15
SLOWER = {"notebook": 2.5, "synapseml": 1.5}
# Starting the processes that measure a bound, and warming them up.
BOUND_START_SECONDS = 4
BOUND_SEARCH_SECONDS = 24
OTHER_PARTS = {"decode": 25, "files": 20, "pca": 310, "serve": 230}
# Of the plan, for how long the constants count as much as what was found.
PRIOR_SECONDS = 300


def start_seconds(program: str) -> float:
    """Of a process on hardly any pictures."""
    return STARTS.get(program, START_SECONDS)


def round_seconds(
    program: str, network: tuple[str, str], letter: str, sizes: Sequence[int], cores: int, bound_seconds: float
) -> float:
    """A side's round: a process for each of some sizes, and the bound before and after the last, where it has one.

    Args:
        program: the side's.
        network: backbone and precision.
        letter: of the input.
        sizes: pictures, few and many.
        cores: to use.
        bound_seconds: for one figure of the bound; 0 for none.
    """
    picture = (SLOWER.get(program, 1) * CORES / SPEEDS[network] + DECODE_SECONDS[letter]) / cores
    bounds = 2 * (bound_seconds + BOUND_START_SECONDS) if bound_seconds else 0
    return bounds + sum(start_seconds(program) + images * picture for images in sizes)


@dataclass
class Progress:
    """What is done of a plan, in the plan's own seconds.

    Attributes:
        planned_seconds: all of it.
        done_seconds: of these.
        clock: seconds, from any start.
    """

    planned_seconds: float
    done_seconds: float = 0
    clock: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def left(self) -> str:
        """In words: the rest of the plan, at the pace so far."""
        pace = (self.clock() - self.began + PRIOR_SECONDS) / (self.done_seconds + PRIOR_SECONDS)
        minutes = max(0.0, self.planned_seconds - self.done_seconds) * pace / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "about a minute left"
