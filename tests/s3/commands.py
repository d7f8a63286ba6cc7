"""Commands as a user types them, in processes of their own, beside a server with pictures in a bucket."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from object_store import Server

COMMAND = str(Path(sys.executable).with_name("mirabelle"))
BUCKET = "pictures"
SPARK = ["spark.master=local[2]", "spark.sql.shuffle.partitions=2", "spark.driver.memory=2g"]


@dataclass
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def sentence(self) -> str:
        """The last line, which is the error where there is one."""
        return self.stderr.strip().splitlines()[-1] if self.stderr.strip() else ""


@dataclass
class Place:
    """A server with pictures in a bucket, and a cache that all runs share."""

    server: Server
    client: Any
    folder: Path
    cache: Path

    def run(
        self,
        *arguments: str,
        settings: Sequence[str] = (),
        endpoint: str | None = None,
        watcher: "Watcher | None" = None,
        **environment: str,
    ) -> Done:
        """The command in a process of its own, with nothing of AWS about it but the way to the server."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and "proxy" not in k.lower()}
        told = {**clean, **self.server.environment, "AWS_ENDPOINT_URL": endpoint or self.server.endpoint, **environment}
        given = [f"cache={self.cache}", *settings]
        command = [COMMAND, *arguments, *(part for setting in given for part in ("--set", setting))]
        started = time.monotonic()
        with (
            subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
            watcher or nullcontext(),
        ):
            stdout, stderr = process.communicate(timeout=400)
        if "unresolved dependency" in stderr or "download failed" in stderr:
            pytest.skip(f"Spark's packages for buckets cannot be resolved here: {stderr[-300:]}")
        assert self.server.secret_key not in stdout + stderr
        assert "Traceback" not in stderr, stderr
        return Done(process.returncode, stdout, stderr, time.monotonic() - started)

    def keys(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def fetch(self, prefix: str, to: Path) -> Path:
        """A copy of everything below a prefix."""
        for key in self.keys(f"{prefix}/"):
            if key.endswith("/"):  # a "folder" of S3A's
                continue
            (to / key).parent.mkdir(parents=True, exist_ok=True)
            self.client.download_file(BUCKET, key, str(to / key))
        return to / prefix

    def manifest(self, output: str) -> dict[str, Any]:
        """The newest run's."""
        key = max(key for key in self.keys(f"{output}/runs/") if key.endswith(".json"))
        return json.loads(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())


@dataclass
class Watcher:
    """While a command runs: every process's command line, and what Spark's own page tells."""

    ui_port: int
    lines: set[bytes] = field(default_factory=set)
    pages: list[str] = field(default_factory=list)

    def __enter__(self) -> None:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):  # it has ended meanwhile
                    self.lines.add(file.read_bytes())
            page = f"http://127.0.0.1:{self.ui_port}/environment/"
            with suppress(OSError), urllib.request.urlopen(page, timeout=2) as answer:  # while Spark is up
                self.pages.append(answer.read().decode())
