"""The server by a `current.json` in a bucket: another bundle without a restart."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from typing import Any

from bundles import made
from object_store import Server, put


def test_a_pointer_in_a_bucket_is_followed(aws: Server, client: Any, bucket: str) -> None:
    for name in ("one", "two"):
        for path, content in made(id=name).items():
            put(client, bucket, f"bundle/{name}/{path}", content)
    put(client, bucket, "bundle/current.json", b'{"bundle": "one"}')
    address = f"s3://{bucket}/bundle/current.json"
    settings = ["--set", "watch_seconds=0.2", "--set", "linger_seconds=0"]
    command = [sys.executable, "-m", "mirabelle", "serve", address, "--port", "0", *settings]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert "serving one" in line, line + process.stderr.read()
            port = int(line.rpartition(":")[2])
            put(client, bucket, "bundle/current.json", b'{"bundle": "gone"}')
            time.sleep(1)
            assert serves(port) == "one"
            put(client, bucket, "bundle/current.json", b'{"bundle": "two"}')
            end = time.monotonic() + 20
            while serves(port) != "two":
                assert time.monotonic() < end
                time.sleep(0.1)
        finally:
            process.terminate()
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    events = [(line["event"], line.get("bundle")) for line in map(json.loads, out.splitlines())]
    assert [event for event in events if event[0].startswith("bundle")] == [
        ("bundle", "one"),
        ("bundle refused", None),
        ("bundle", "two"),
    ]


def serves(port: int) -> str:
    """Which bundle answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/colours", timeout=10) as answer:
        return str(json.load(answer)["parameters"]["bundle"])
