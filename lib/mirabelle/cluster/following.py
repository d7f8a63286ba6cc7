"""A job on one of AWS's services, looked at until it is over. [AWS, buckets]

The service says where the job stands; how far it is, and what it ended with, is told by the run's own manifest.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from itertools import takewhile
from typing import Any

from mirabelle.cluster.job import Phase, State, Target
from mirabelle.config import Config
from mirabelle.config.stores import store_of
from mirabelle.console import Console
from mirabelle.errors import BarNotMet, MirabelleError, OutputInUse, RunFailed, UserError
from mirabelle.storage import absolute
from mirabelle.table.runlog import newest_manifests

# What a service may fail to answer in a row before a job is given up as lost sight of.
MISSES = 10


def follow(
    target: Target, identity: str, config: Config, before: frozenset[str], console: Console, poll_seconds: float
) -> State:
    """Look at a job until it is over; say what changes.

    Args:
        target: where it runs.
        identity: its own there.
        config: its output is where the manifest will be.
        before: runs that were there before it.
        console: for progress.
        poll_seconds: between looks.
    """
    said, misses = "", 0
    while True:
        try:
            state = target.state(identity)
            misses = 0
        except RunFailed:
            misses += 1
            if misses >= MISSES:
                raise
            time.sleep(poll_seconds)
            continue
        told = f"{state.told}{_progress(newest(config, before)) if state.phase is Phase.RUNNING else ''}"
        if told != said and not state.is_over:
            console.say(told)
            said = told
        if state.is_over:
            return state
        time.sleep(poll_seconds)


def run_ids(config: Config) -> frozenset[str]:
    """Those of the runs that an output has had."""
    output = absolute(config.output)
    store = store_of(config, output)
    folder = f"{output.rstrip('/')}/runs"
    found = store.walk(folder) if store.exists(folder) else iter(())
    return frozenset(os.path.basename(entry.path).removesuffix(".json") for entry in found)


def newest(config: Config, before: frozenset[str]) -> dict[str, Any] | None:
    """The manifest of the run that began since, if it has begun."""
    output = absolute(config.output)
    # How far it is may be asked again; the job goes on meanwhile.
    with suppress(MirabelleError):
        store = store_of(config, output)
        newer = takewhile(lambda m: m["run_id"] not in before, newest_manifests(store, output))
        return next(newer, None)
    return None


def _progress(manifest: dict[str, Any] | None) -> str:
    if manifest is None:
        return ""
    done = manifest.get("progress")
    if not done:
        return f", run {manifest['run_id']} has begun"
    embedded, rejected = done["embedded"], done["rejected"]
    return f", {embedded + rejected:,} of {done['to_do']:,} pictures ({rejected:,} rejected)"


def part(target: Target, identity: str, cancel: bool, console: Console) -> None:
    """Leave a job to itself, or end it with this command."""
    if cancel:
        target.cancel(identity)
        console.say(f"{identity} is being cancelled")
    else:
        console.say(f"{identity} goes on; --cancel would have ended it with this command")


def ended(state: State, manifest: dict[str, Any] | None) -> int:
    """The exit code of what the job said of itself, else of what the cluster said."""
    if state.phase is Phase.DONE:
        return 0
    known = manifest or {}
    told = str(known.get("error") or state.told)
    code = known.get("exit_code")
    if code is None and (found := re.search(r"(?:ExitCode: |exit code )(\d+)", state.told)):
        code = int(found[1])
    if state.phase is Phase.CANCELLED:
        raise RunFailed(f"the job was cancelled ({state.told}); what it had committed is kept")
    if bars := known.get("failed_bars"):
        raise BarNotMet("; ".join(bars))
    kinds: dict[int | None, type[MirabelleError]] = {2: UserError, 3: OutputInUse}
    raise kinds.get(code, RunFailed)(told.removeprefix("error: "))
