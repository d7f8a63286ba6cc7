"""How the work is cut: images into chunks, a chunk into tasks of even cost. Pure numpy; driver only."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

# The network costs the same for every image; fetching and decoding cost by the byte. Measured with ResNet50 and VGG16
# in bf16, one image through the network takes as long as decoding about this much JPEG.
BYTES_WORTH_ONE_EMBEDDING = 1_000_000


class Pace:
    """How many images make a chunk, and a task, at the speed seen so far.

    A chunk takes its share of the seconds that a killed run may lose. A task takes long enough that its file is worth
    reading, but towards the end of a run both get smaller and smaller, so that no core waits long for another's last.

    Args:
        seconds: of work under way at any time.
        chunks: that this work is shared among.
        slots: tasks that run at once.
        most: images in a chunk, whatever the speed.
        task_most: images in a task, likewise.
    """

    # Of a slot, before anything was measured; low, so that the first chunk comes early and tells the speed.
    FIRST_IMAGES_PER_SECOND = 4.0
    # Between two tasks a core loses some 20 ms, and a quick network would lose much by smaller ones; at one picture a
    # second the first progress shows after a minute and a half.
    FIRST_TASK_IMAGES = 96
    FEWEST_A_SLOT = 16
    TASK_SECONDS = 20.0
    LEAST_TASK_SECONDS = 1.5
    # Of the work that is left; what can be done in so many seconds is not parted any more.
    CHUNK_SHARE, TASK_SHARE = 3 / 4, 1 / 8
    LAST_CHUNK_SECONDS = 10.0

    def __init__(self, seconds: float, chunks: int, slots: int, most: int, task_most: int) -> None:
        self._seconds, self._slots, self._most, self._task_most = seconds / chunks, slots, most, task_most
        self._speed, self._is_measured = self.FIRST_IMAGES_PER_SECOND * slots, False

    def measured(self, images: int, seconds: float) -> None:
        """So many images took so long, all chunks together."""
        if images and seconds > 0:
            self._speed, self._is_measured = images / seconds, True

    def chunk_images(self, left: int) -> int:
        """Images for the next chunk, where so many are left to do."""
        images = min(self._speed * self._seconds, max(left * self.CHUNK_SHARE, self._speed * self.LAST_CHUNK_SECONDS))
        return min(self._most, max(self.FEWEST_A_SLOT * self._slots, round(min(self._most, images))))

    def task_images(self, left: int) -> int:
        """Images for each task, where so many are left to do, those of this chunk among them."""
        if not self._is_measured:
            return min(self._task_most, self.FIRST_TASK_IMAGES)
        least, most = self._speed * self.LEAST_TASK_SECONDS, self._speed * self.TASK_SECONDS
        images = min(most, max(left * self.TASK_SHARE, least)) / self._slots
        return min(self._task_most, max(self.FEWEST_A_SLOT, round(images)))


def plan_tasks(
    size_bytes: npt.NDArray[np.int64], slots: int, task_images: int, twins: npt.NDArray[np.bool_] | None = None
) -> list[npt.NDArray[np.int64]]:
    """Share images out so that tasks take even time.

    Longest processing time first (Graham 1969): the costliest image left goes to the least loaded task. The number of
    tasks is a multiple of ``slots``, so that no core idles through a last, half-empty wave.

    Args:
        size_bytes: int64 (n,), the listed sizes.
        slots: tasks that run at once.
        task_images: most images a task should have, roughly: costs are evened, not counts.
        twins: bool (n,), whether an image is the same as the one before it; such stay together and cost once.

    Returns:
        For each task, the int64 positions of its images in ascending order; no task is empty, each image is in one.
    """
    heads = np.arange(len(size_bytes)) if twins is None else np.flatnonzero(~twins)
    families = np.split(np.arange(len(size_bytes)), heads[1:])
    size_bytes = size_bytes[heads]
    images = len(heads)
    waves = max(1, -(-images // (task_images * slots)))
    tasks = min(images, waves * slots)
    shares: list[list[int]] = [[] for _ in range(tasks)]
    load = [(0, task) for task in range(tasks)]
    for position in np.argsort(-size_bytes, kind="stable"):
        cost, task = heapq.heappop(load)
        shares[task].append(int(position))
        heapq.heappush(load, (cost + int(size_bytes[position]) + BYTES_WORTH_ONE_EMBEDDING, task))
    return [np.concatenate([families[i] for i in sorted(share)]).astype(np.int64) for share in shares]


def engine_threads(task_cpus: int, slots: int, cores: int) -> int:
    """Threads each worker's engine may use: ``threads * slots`` never exceeds the cores of an executor's machine.

    Args:
        task_cpus: ``spark.task.cpus``, what Spark sets aside for a task.
        slots: tasks that run at once on that machine.
        cores: that the machine has.
    """
    return max(1, min(task_cpus, cores // max(1, slots)))
