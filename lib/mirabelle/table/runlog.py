"""The run manifest: what ran, on what, how much of it, and how long each part took. [Store; driver only]

One JSON file a run, ``runs/<id>.json``; written when the run starts and again when it ends, so that a killed run shows
as one that never finished.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mirabelle import __version__
from mirabelle.errors import MirabelleError
from mirabelle.storage import Store, join

PACKAGES = (
    "pyspark",
    "openvino",
    "keras",
    "tensorflow",
    "numpy",
    "pandas",
    "pyarrow",
    "pillow",
    "pillow-heif",
    "scikit-learn",
    "boto3",
    "obstore",
)
MAX_MANIFEST_BYTES = 2**24
# How a run's id begins, so that ids sort as runs did.
MOMENT = "%Y%m%dT%H%M%S.%fZ"
READS_AT_ONCE = 16


class RunLog:
    """A run's manifest in the making."""

    def __init__(self, store: Store, output: str, command: str, config: dict[str, Any]) -> None:
        """Begin a run.

        Args:
            store: where the output is.
            output: its root.
            command: what was asked.
            config: as resolved, secrets masked.
        """
        self._store = store
        self.run_id = _next_run_id(store, output)
        self._path = join(output, "runs", f"{self.run_id}.json")
        self._started = time.perf_counter()
        self.manifest: dict[str, Any] = {
            "run_id": self.run_id,
            "status": "running",
            "command": command,
            "started": _now(),
            "output": output,
            "seconds": {},
            "config": config,
            "versions": {"mirabelle": __version__, "python": platform.python_version(), **installed(PACKAGES)},
            "git_revision": _git_revision(),
            "machine": {"host": socket.gethostname(), "system": platform.platform(), "cores": os.cpu_count()},
        }

    def write(self) -> None:
        """Put the manifest, as it stands, where it belongs."""
        text = json.dumps(self.manifest, indent=2, default=str)
        self._store.write(self._path, text.encode())

    def update(self, **facts: Any) -> None:
        """Set top-level entries."""
        self.manifest.update(facts)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the block's wall time to ``seconds``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = self.manifest["seconds"]
            seconds[stage] = round(seconds.get(stage, 0.0) + time.perf_counter() - start, 3)

    def finish(self, status: str, error: str | None = None, exit_code: int = 0) -> None:
        """End the run and write its manifest: ``done``, ``failed``, ``interrupted``, and the command's exit code."""
        seconds = round(time.perf_counter() - self._started, 3)
        self.update(status=status, exit_code=exit_code, finished=_now(), seconds_total=seconds)
        if error:
            self.update(error=error)
        self.write()


def _next_run_id(store: Store, output: str) -> str:
    """An id that sorts behind all there are, by the clock where it agrees: the newest run is the one that counts."""
    moment = datetime.now(UTC)
    ids: list[str] = []
    # What keeps the output from being looked at is told by whoever takes its lease.
    with suppress(MirabelleError):
        runs = join(output, "runs")
        ids = [entry.path.rpartition("/")[2] for entry in store.walk(runs)] if store.exists(runs) else []
    for name in ids:
        with suppress(ValueError):
            # Of a machine whose clock is ahead of this one's.
            taken = datetime.strptime(name.partition("-")[0], MOMENT).replace(tzinfo=UTC)
            moment = max(moment, taken + timedelta(microseconds=1))
    return f"{moment:{MOMENT}}-{secrets.token_hex(2)}"


def read_manifests(store: Store, output: str) -> list[dict[str, Any]]:
    """Every run's manifest under ``output``, oldest first."""
    folder = join(output, "runs")
    if not store.exists(folder):
        return []
    paths = _manifest_paths(store, folder)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        contents = list(pool.map(lambda path: store.read(path, MAX_MANIFEST_BYTES), paths))
    return [facts for content in contents if (facts := _parse(content)) is not None]


def newest_manifests(store: Store, output: str) -> Iterator[dict[str, Any]]:
    """Every run's manifest under ``output``, newest first, each read when it is asked for."""
    folder = join(output, "runs")
    for path in reversed(_manifest_paths(store, folder) if store.exists(folder) else []):
        facts = _parse(store.read(path, MAX_MANIFEST_BYTES))
        if facts is not None:
            yield facts


def _manifest_paths(store: Store, folder: str) -> list[str]:
    return sorted(e.path for e in store.walk(folder) if e.path.endswith(".json"))


def _parse(content: bytes) -> dict[str, Any] | None:
    """A manifest, or None for what is none of ours."""
    try:
        facts = json.loads(content)
    except ValueError:
        return None
    return facts if isinstance(facts, dict) and "run_id" in facts else None


def installed(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of the packages that are there."""
    versions = {}
    for package in packages:
        # tensorflow-cpu is the same library under another name.
        for name in (package, f"{package}-cpu"):
            try:
                versions[package] = version(name)
                break
            except PackageNotFoundError:
                continue
    return versions


def _git_revision() -> str | None:
    """Revision of the checkout this code runs from, or None where it was installed."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        here = Path(__file__).parent
        return subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        # An environment inside somebody's repository has a revision too, and it is not ours.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("describe", "--always", "--dirty") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
