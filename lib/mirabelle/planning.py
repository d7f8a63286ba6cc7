"""How the work is cut: images into chunks, a chunk into tasks of even cost. Pure numpy; driver only."""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np
import numpy.typing as npt

# The network costs the same for every image; fetching and decoding cost by the byte. Measured with ResNet50 and VGG16
# in bf16, one image through the network takes as long as decoding about this much JPEG.
BYTES_WORTH_ONE_EMBEDDING = 1_000_000


def plan_chunks(images: int, chunk_images: int) -> list[range]:
    """Cut ``images`` rows into chunks of nearly one size, none above ``chunk_images``."""
    chunks = -(-images // chunk_images)
    bounds = [round(i * images / chunks) for i in range(chunks + 1)] if chunks else [0]
    return [range(a, b) for a, b in pairwise(bounds)]


def plan_tasks(size_bytes: npt.NDArray[np.int64], slots: int, task_images: int) -> list[npt.NDArray[np.int64]]:
    """Share images out so that tasks take even time.

    Longest processing time first (Graham 1969): the costliest image left goes to the least loaded task. The number of
    tasks is a multiple of ``slots``, so that no core idles through a last, half-empty wave.

    Args:
        size_bytes: int64 (n,), the listed sizes.
        slots: tasks that run at once.
        task_images: most images a task should have, roughly: costs are evened, not counts.

    Returns:
        For each task, the int64 positions of its images in ascending order; no task is empty, each image is in one.
    """
    images = len(size_bytes)
    waves = max(1, -(-images // (task_images * slots)))
    tasks = min(images, waves * slots)
    shares: list[list[int]] = [[] for _ in range(tasks)]
    load = [(0, task) for task in range(tasks)]
    for position in np.argsort(-size_bytes, kind="stable"):
        cost, task = heapq.heappop(load)
        shares[task].append(int(position))
        heapq.heappush(load, (cost + int(size_bytes[position]) + BYTES_WORTH_ONE_EMBEDDING, task))
    return [np.sort(np.array(share, dtype=np.int64)) for share in shares]


def engine_threads(task_cpus: int, slots: int, cores: int) -> int:
    """Threads each worker's engine may use: ``threads * slots`` never exceeds the cores of an executor's machine.

    Args:
        task_cpus: ``spark.task.cpus``, what Spark sets aside for a task.
        slots: tasks that run at once on that machine.
        cores: that the machine has.
    """
    return max(1, min(task_cpus, cores // max(1, slots)))
