"""Another user of this machine, and mounts that cannot be written: both need root, and tests skip without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Nobody's: it has no name and no home.
USER = 54321


def as_another_user(work: Callable[[], str]) -> str:
    """What ``work`` returns, or the error that it raises, in a child process of user ``USER``; HOME is not set there.

    What ``work`` imports must be imported before: that user may not be let into the folder of this Python.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)
            os.environ.pop("HOME", None)
            told = work()
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


def where_mounted_read_only(folder: Path, code: str) -> str:
    """What a script prints that sees ``folder`` mounted so that it cannot be written."""
    mounting = f"mount --bind '{folder}' '{folder}' && mount -o remount,bind,ro '{folder}'"
    if subprocess.run(["unshare", "-m", "sh", "-c", mounting], check=False, capture_output=True).returncode != 0:
        pytest.skip("only root can mount")
    run = ["unshare", "-m", "sh", "-c", f'{mounting} && exec "$@"', "sh", sys.executable, "-c", code]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
