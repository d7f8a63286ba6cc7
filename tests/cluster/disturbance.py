"""Runs on a cluster that are killed at random moments and started again; what a run left behind."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cluster.programs import Program, wait_until
from cluster.standalone import Cluster

# Of twenty kills eight hit the driver: it is the one that comes back by starting the run again.
VICTIMS = ("driver", "executor", "worker", "driver", "python")


@dataclass(frozen=True)
class Quiet:
    """A run on the cluster that nobody disturbed.

    Attributes:
        images: that can be embedded; beside them lie ``BROKEN`` others.
        settings: of the job, but for the output.
        pace_s: from one committed chunk to the next.
        start_s: from the command to the first picture.
        executors: tasks done, by executor.
    """

    images: int
    settings: tuple[str, ...]
    output: Path
    pace_s: float
    start_s: float
    executors: Counter[str]


@dataclass(frozen=True)
class Kill:
    """``victim`` dies when ``chunks`` are committed and ``wait`` of the time to the next has passed."""

    victim: str
    chunks: int
    wait: float


def plan_kills(kills: int, chunks: int, chance: random.Random) -> list[Kill]:
    """Spread over the run's work; the last two chunks are left, as they may be done together."""
    victims = [VICTIMS[i % len(VICTIMS)] for i in range(kills)]
    chance.shuffle(victims)
    moments = sorted(chance.uniform(0, chunks - 2) for _ in victims)
    return [Kill(victim, int(moment), moment % 1) for victim, moment in zip(victims, moments, strict=True)]


class Disturbed:
    """A run that is killed and started again until it is done."""

    def __init__(self, cluster: Cluster, quiet: Quiet, output: Path, chance: random.Random) -> None:
        self._cluster = cluster
        self._quiet = quiet
        self._output = output
        self._chance = chance
        self._began = time.monotonic()
        self.story: list[str] = []
        self.committed: dict[Path, int] = {}
        self._submit()

    def kill(self, kill: Kill) -> None:
        """Wait for the moment, kill, and start again what doesn't come back by itself."""
        self._wait(lambda: len(markers(self._output)) >= kill.chunks)
        # The waits of a driver that has just begun are as long as a start, so that it dies anywhere in one.
        moment = time.monotonic() + kill.wait * self._quiet.pace_s
        moment = max(moment, self._submitted + kill.wait * self._quiet.start_s)
        self._wait(lambda: time.monotonic() >= moment)
        for path in markers(self._output):
            self.committed.setdefault(path, path.stat().st_mtime_ns)
        if kill.victim == "driver":
            self._note("driver", self._program.pid)
            self._program.end()
            self._submit()
        elif kill.victim == "worker":
            name = self._chance.choice(sorted(self._cluster.workers))
            self._note(name, self._cluster.workers[name].pid)
            self._cluster.workers[name].kill()
            time.sleep(self._chance.uniform(0, self._quiet.pace_s))
            self._cluster.start_worker(name)
        else:
            command = {"executor": "CoarseGrainedExecutorBackend", "python": "pyspark.daemon"}[kill.victim]
            process = self._chance.choice(self._wait(lambda: self._cluster.processes(command)))
            self._note(kill.victim, process.pid)
            process.kill()

    def finish(self) -> None:
        """Let it come to its end."""
        finish(self._program)

    def end(self) -> None:
        """Whatever happened; the story stays beside the logs."""
        (self._cluster.folder / f"{self._output.name}.kills").write_text("\n".join(self.story))
        self._program.end()

    def _submit(self) -> None:
        self._program = self._cluster.submit((*self._quiet.settings, f"output={self._output}"))
        self._submitted = time.monotonic()

    def _wait(self, ready: Callable[[], object]) -> object:
        def ready_or_dead() -> object:
            assert self._program.exit_code() is None, f"the run ended by itself\n{self._program.text()}"
            return ready()

        return wait_until(ready_or_dead, 240, "the moment of a kill", pause_s=0.05)

    def _note(self, victim: str, pid: int) -> None:
        seconds = time.monotonic() - self._began
        into = time.monotonic() - self._submitted
        chunks = len(self.committed)
        self.story.append(f"{seconds:6.1f} s: {victim} {pid}, {into:.1f} s into its run, {chunks} chunks committed")


def finish(program: Program, seconds: float = 300) -> None:
    """A run that must go well."""
    wait_until(lambda: program.exit_code() is not None, seconds, f"{program.log} to end")
    assert program.exit_code() == 0, program.text()


def tasks_by_executor(log: Path) -> Counter[str]:
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return Counter(e["Task Info"]["Executor ID"] for e in events if e["Event"] == "SparkListenerTaskEnd")


def markers(output: Path) -> dict[Path, dict]:
    """Every committed chunk."""
    return {path: json.loads(path.read_text()) for path in output.glob("features/*/*/*/_chunk.json")}


def table(output: Path, kind: str) -> pd.DataFrame:
    """Every row in a folder, as a reader who knows nothing of chunks sees it."""
    frame = pd.read_parquet(output / kind)
    twice = frame["path"][frame["path"].duplicated()].tolist()
    assert not twice, f"{len(twice)} paths are there twice, such as {twice[:3]}"
    return frame


def features(output: Path) -> dict[str, bytes]:
    frame = table(output, "features")
    return {path: row.tobytes() for path, row in zip(frame["path"], frame["features"], strict=True)}
