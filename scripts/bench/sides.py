"""The sides of a comparison, each a whole process from a folder of pictures to features: Mirabelle and its peers.

A peer is a program in `peers/`; `--describe` says what it can do. Every side is timed from outside, from its start to
its end, and nobody's own figures count. Starts processes.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

HERE = Path(__file__).parent
PEERS = HERE / "peers"
# By the name that a peer asks for; what is needed beside Mirabelle's own lies in environments that make builds.
REPOSITORY = HERE.parents[1]
PYTHONS = {
    "main": Path(sys.executable),
    "bench": REPOSITORY / ".venv-bench" / "bin" / "python",
    "synapseml": REPOSITORY / ".venv-bench-synapseml" / "bin" / "python",
}
NOT_INSTALLED = "its packages are not installed; make bench-peers installs them"
# A side that takes longer hangs.
LIMIT_SECONDS = 3600


class CannotRun(Exception):
    """A side can't run here; its text says why."""


@dataclass(frozen=True)
class Work:
    """What a side is to do.

    Attributes:
        pictures: folder that holds so many pictures and nothing else.
        images: how many.
        backbone, weights: as Mirabelle names them.
        network: folder of the converted network, model.xml and model.bin.
        precision: ``float32``, ``bf16`` or ``int8``.
        cores: to use.
        scratch: an empty folder, where the output goes too.
        cache: Mirabelle's, warm.
    """

    pictures: Path
    images: int
    backbone: str
    weights: str
    network: Path
    precision: str
    cores: int
    scratch: Path
    cache: Path

    @property
    def output(self) -> Path:
        """Where the features go."""
        return self.scratch / "output"


@dataclass(frozen=True)
class Run:
    """One whole process: wall seconds, what it said of itself, and Mirabelle's core-seconds by part."""

    seconds: float
    told: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    worker_seconds: dict[str, float] = field(default_factory=dict)


class Side(Protocol):
    """A program to time, by its name in tables and that of its file."""

    name: str
    program: str

    def precisions(self, native: tuple[str, ...]) -> tuple[str, ...]:
        """Those it can do, of the machine's own."""

    def run(self, work: Work) -> Run:
        """Do the work, in processes that have all ended; raises CannotRun."""


class Mirabelle:
    """`mirabelle extract`, as a user types it, with its defaults; the converted network is in its cache."""

    name = "Mirabelle"
    program = "mirabelle"

    def precisions(self, native: tuple[str, ...]) -> tuple[str, ...]:
        """All."""
        return native

    def run(self, work: Work) -> Run:
        """See ``Side``."""
        settings = {
            "images.root": work.pictures,
            "output": work.output,
            "cache": work.cache,
            "backbone.name": work.backbone,
            "backbone.weights": work.weights,
            "engine.precision": work.precision,
            "spark.master": f"local[{work.cores}]",
        }
        flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
        seconds = timed([str(Path(sys.executable).with_name("mirabelle")), "extract", "--quiet", *flags])
        (manifest,) = (json.loads(path.read_text()) for path in (work.output / "runs").glob("*.json"))
        return Run(
            seconds,
            "`mirabelle extract` with its defaults, the converted network in its cache",
            stages=manifest["seconds"],
            worker_seconds=core_seconds(manifest),
        )


class MirabelleInt8(Mirabelle):
    """The same in int8. The network is quantised before and kept in the output, as it is from a user's first run on."""

    name = "Mirabelle, int8"

    def precisions(self, native: tuple[str, ...]) -> tuple[str, ...]:
        """Its own alone, and only where it is fast and NNCF is there."""
        from mirabelle.network.engines import has_fast_int8

        return ("int8",) if has_fast_int8() and find_spec("nncf") else ()

    def run(self, work: Work) -> Run:
        """See ``Side``; quantising is not timed."""
        kept = work.cache.parent / f"int8-{work.backbone}"
        if not kept.is_dir():
            first = replace(work, scratch=work.scratch / "first")
            super().run(first)
            shutil.copytree(first.output / "networks", kept)
            shutil.rmtree(first.scratch)
        shutil.copytree(kept, work.output / "networks")
        return super().run(work)


def core_seconds(manifest: dict[str, Any]) -> dict[str, float]:
    """What the workers' cores did, by part.

    Decoding goes on beside the engine, on the same core where that has but one: what it took of the core is taken off
    the time that the engine ran or waited for it.
    """
    clock, decode = manifest["worker_seconds"], manifest["decode_core_seconds"]
    return {
        "engine": clock["inference"] + clock["waiting_for_decoding"] - decode,
        "decode": decode,
        "waiting for the store": clock["waiting_for_store"],
        "write": clock["writing"],
    }


class Peer:
    """A program of `peers/`, in the environment that it asks for."""

    def __init__(self, program: Path) -> None:
        self.program = program.stem
        self._path = program
        described = json.loads(output_of([sys.executable, str(program), "--describe"]))
        self.name = str(described["name"])
        self._precisions = tuple(described["precisions"])
        self._python = PYTHONS[described["python"]]

    def precisions(self, native: tuple[str, ...]) -> tuple[str, ...]:
        """Those that both it and the machine have."""
        return tuple(precision for precision in native if precision in self._precisions)

    def run(self, work: Work) -> Run:
        """See ``Side``."""
        if not self._python.is_file():
            raise CannotRun(NOT_INSTALLED)
        target = work.scratch / "told.json"
        given = {
            "images": work.pictures,
            "output": work.output,
            "backbone": work.backbone,
            "weights": work.weights,
            "network": work.network,
            "precision": work.precision,
            "cores": work.cores,
            "limit": work.images,
            "json": target,
        }
        flags = [word for key, value in given.items() for word in (f"--{key}", str(value))]
        seconds = timed([str(self._python), str(self._path), *flags])
        try:
            told = json.loads(target.read_text())
        except (OSError, ValueError) as error:
            raise CannotRun(f"it left no account of itself: {error}") from error
        if told["images"] != work.images:
            raise CannotRun(f"it says that it did {told['images']} of {work.images} pictures")
        return Run(seconds, told.get("told", ""), told.get("versions", {}))


@functools.cache
def find_peers() -> tuple[list[Peer], dict[str, str]]:
    """The programs of `peers/`, and those that can't say what they are, with why."""
    found, broken = [], {}
    programs = [path for path in sorted(PEERS.glob("*.py")) if "__main__" in path.read_text(encoding="utf-8")]
    for program in programs:
        try:
            found.append(Peer(program))
        except (CannotRun, ValueError, KeyError) as error:
            broken[program.stem] = str(error)
    return found, broken


def timed(command: list[str]) -> float:
    """Wall seconds of a whole process. Raises CannotRun, with its last line, where it fails or hangs."""
    start = time.perf_counter()
    output_of(command)
    return time.perf_counter() - start


def output_of(command: list[str], more: dict[str, str] | None = None, allowed: tuple[int, ...] = (0,)) -> str:
    """What a process prints; whatever it started ends with it.

    Args:
        command: its program and arguments.
        more: added to the environment.
        allowed: exit codes that are no failure.

    Raises:
        CannotRun: it failed, with its last line, or was not done in time.
    """
    python = command[0] if "python" in Path(command[0]).name else sys.executable
    environment = {**os.environ, "PYSPARK_PYTHON": python, **(more or {})}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=LIMIT_SECONDS)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise CannotRun(f"it was not done after {LIMIT_SECONDS} seconds") from error
        raise
    if process.returncode not in allowed:
        lines = [line.strip() for line in (err or out).splitlines() if line.strip()]
        raise CannotRun(f"exit code {process.returncode}: {lines[-1][:300] if lines else 'nothing was said'}")
    return out
