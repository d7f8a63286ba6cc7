"""Who may write to an output: one run at a time, by a file that is only ever put conditionally. [Store; driver only]

The holder renews ``_lease.json`` every few seconds; a lease not renewed for a while is dead, by the store's own clock.
A holder on this very machine whose process is gone is dead at once, and so is an earlier attempt of the same YARN
application, which YARN repeats only when that attempt has ended. A run that lost its lease commits nothing more.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mirabelle.errors import MirabelleError, OutputInUse, RunFailed
from mirabelle.storage import Store, Version, join

FILE = "_lease.json"
# What YARN tells a driver that runs in one of its containers: application, attempt and container by number.
CONTAINER = "CONTAINER_ID"
RENEW_SECONDS = 10.0
# Long enough for a laptop's short sleep or a store's bad minute.
EXPIRES_SECONDS = 90.0


class Lease:
    """A lease that is held, and renewed by a thread of its own."""

    def __init__(self, store: Store, path: str, facts: dict[str, Any], version: Version) -> None:
        self._store, self._path, self._facts, self._version = store, path, facts, version
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._taken = False
        self._thread = threading.Thread(target=self._keep, name="mirabelle-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Renew it now.

        Raises:
            RunFailed: another run took it.
        """
        with self._lock:
            if not self._taken:
                facts = {**self._facts, "renewed": _now()}
                version = self._store.put_if(self._path, _json(facts), self._version)
                self._taken = version is None
                self._version = version or self._version
            if self._taken:
                raise RunFailed(
                    f"another run took the lease {self._path}; this one commits nothing more, and what it committed is"
                    " kept"
                )

    def release(self) -> None:
        """Give it back; where the store fails in that, it expires by itself, and what a run failed of stays in view."""
        self._done.set()
        self._thread.join()
        with self._lock, suppress(MirabelleError):
            found = None if self._taken else self._store.read_version(self._path)
            if found and found[1] == self._version:
                self._store.remove(self._path)

    def _keep(self) -> None:
        while not self._done.wait(RENEW_SECONDS):
            try:
                self.check()
            except RunFailed:
                return
            except MirabelleError:
                # The store has a bad moment. If it lasts, the commit will say so.
                continue


@contextmanager
def hold(store: Store, output: str, run_id: str, command: str, break_lease: bool = False) -> Iterator[Lease]:
    """Hold the lease of an output for the block.

    Args:
        store: where the output is.
        output: its root.
        run_id: of the run that wants it.
        command: what that run does.
        break_lease: take it from whoever has it.

    Raises:
        OutputInUse: another run has it.
        OutputError: the output cannot be written to.
        ListingError: it is in a bucket that cannot be reached.
    """
    path = join(output, FILE)
    facts: dict[str, Any] = {
        "run": run_id,
        "command": command,
        "started": _now(),
        "user": _user(),
        "host": socket.gethostname(),
    }
    facts |= {"pid": os.getpid(), "process": _process(os.getpid()), "machine": _machine(), **_attempt()}
    # Said soon where nothing answers at all: this asks but a few times.
    store.check(output)
    found = store.read_version(path)
    if found and not break_lease:
        _refuse_if_alive(path, found[0], found[2])
    version = store.put_if(path, _json({**facts, "renewed": _now()}), found[1] if found else None)
    if version is None:
        raise OutputInUse(f"another run began on {output} at this very moment; wait for it to end, and run again")
    lease = Lease(store, path, facts, version)
    try:
        yield lease
    finally:
        lease.release()


@dataclass(frozen=True)
class Holder:
    """Who has an output's lease: in words, and whether it still counts."""

    words: str
    is_alive: bool


def holder(store: Store, output: str) -> Holder | None:
    """Who has an output's lease; None: nobody."""
    found = store.read_version(join(output, FILE))
    if not found:
        return None
    facts = _facts(found[0])
    return Holder(_describe(facts, found[2]), _is_alive(facts, found[2]))


def _is_alive(facts: dict[str, Any], age_seconds: float) -> bool:
    own = _attempt()
    if own and facts.get("application") == own["application"] and facts.get("attempt", 0) < own["attempt"]:
        return False
    if age_seconds > EXPIRES_SECONDS:
        return False
    # Or else its process is gone, or another has its number by now.
    return facts.get("machine") != _machine() or facts.get("process") == _process(int(facts.get("pid", 0)))


def _refuse_if_alive(path: str, content: bytes, age_seconds: float) -> None:
    facts = _facts(content)
    if not _is_alive(facts, age_seconds):
        return
    raise OutputInUse(
        f"{path.removesuffix(f'/{FILE}')} is in use by {_describe(facts, age_seconds)}; wait for it to end, or, if you"
        f" know that it is dead, give --break-lease (a dead one expires by itself in {EXPIRES_SECONDS:.0f} s)"
    )


def _describe(facts: dict[str, Any], age_seconds: float) -> str:
    return (
        f"run {facts.get('run', '?')} (mirabelle {facts.get('command', '?')}, {facts.get('user', '?')} on"
        f" {facts.get('host', '?')}, process {facts.get('pid', '?')}, since {facts.get('started', '?')}, last seen"
        f" {max(0.0, age_seconds):.0f} s ago)"
    )


def _facts(content: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(content)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _json(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, indent=2).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _machine() -> str:
    """This machine, since it was started, and the numbers it gives processes; the host's name alone is not unique."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # not Linux
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _attempt() -> dict[str, Any]:
    """Which application of YARN's this process is the driver of, and for which time; empty outside its containers."""
    found = re.fullmatch(r"container_(?:e\d+_)?(\d+_\d+)_(\d+)_\d+", os.environ.get(CONTAINER, ""))
    return {"application": f"application_{found[1]}", "attempt": int(found[2])} if found else {}


def _process(pid: int) -> str | None:
    """A process, told from an earlier one of the same number by when it began; None: there is none."""
    if not os.path.exists("/proc/self/stat"):  # not Linux: by its number alone
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return str(pid)
        return str(pid)
    try:
        # What follows the name, which is in brackets and may hold anything: state first, start as the 20th (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # One that is dead and not yet buried writes nothing more.
    return None if fields[0] == "Z" else f"{pid}-{fields[19]}"
