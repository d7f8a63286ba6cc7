"""Which client should the workers read objects with? boto3, obstore and pyarrow's S3, side by side.

Each client reads the same objects in a process of its own, with the same number of requests in flight, in alternating
rounds; figures are requests a second, and CPU milliseconds of the client's process a request, which is what the network
has to share its cores with. `scripts/minio run python scripts/bench/object_stores.py` gives it a server to talk to;
endpoint and credentials come from AWS's own environment variables.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import boto3

BUCKET = "mirabelle-bench"
CLIENTS = ("boto3", "obstore", "pyarrow")
SIZES = {"5 KB": 5_000, "300 KB": 300_000}
OBJECTS = 200


def reader(client: str) -> Callable[[str], int]:
    """A function that reads one key and returns how many bytes came; each client as its documentation advises."""
    if client == "boto3":
        from botocore.config import Config

        s3 = boto3.client("s3", config=Config(max_pool_connections=64))
        return lambda key: len(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    if client == "obstore":
        import obstore
        from obstore.store import S3Store

        endpoint = os.environ["AWS_ENDPOINT_URL"]
        store = S3Store(BUCKET, endpoint=endpoint, client_options={"allow_http": endpoint.startswith("http://")})
        return lambda key: len(obstore.get(store, key).bytes())
    from pyarrow.fs import S3FileSystem

    scheme, _, host = os.environ["AWS_ENDPOINT_URL"].partition("://")
    files = S3FileSystem(endpoint_override=host, scheme=scheme, region=os.environ.get("AWS_REGION", "us-east-1"))

    def read(key: str) -> int:
        with files.open_input_file(f"{BUCKET}/{key}") as file:
            return len(file.read())

    return read


def measure(client: str, size: str, requests: int, threads: int) -> dict[str, float]:
    """Read ``requests`` objects of a size with one client; run in a fresh process."""
    read = reader(client)
    keys = [f"{SIZES[size]}/{i % OBJECTS}" for i in range(requests)]
    read(keys[0])
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        total = sum(pool.map(read, keys, chunksize=1))
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert total == requests * SIZES[size], (client, total)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"requests_per_second": requests / seconds, "cpu_ms": 1000 * cpu / requests}


def prepare() -> None:
    """Put the objects there."""
    s3 = boto3.client("s3")
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET)
    for size in SIZES.values():
        for i in range(OBJECTS):
            s3.put_object(Bucket=BUCKET, Key=f"{size}/{i}", Body=os.urandom(size))


def main() -> None:
    """Measure all clients and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="reads a round (default 2000)")
    parser.add_argument("--threads", type=int, default=16, help="requests in flight (default 16)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the table has medians (default 3)")
    parser.add_argument("--one", nargs=2, metavar=("CLIENT", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        client, size = options.one
        print(json.dumps(measure(client, size, options.requests, options.threads)))
        return
    if "AWS_ENDPOINT_URL" not in os.environ:
        parser.exit(2, "set AWS_ENDPOINT_URL, or run me by `scripts/minio run`\n")
    prepare()
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for size in SIZES:
            for client in CLIENTS:
                given = ["--requests", str(options.requests), "--threads", str(options.threads)]
                command = [sys.executable, __file__, *given, "--one", client, size]
                text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found.setdefault((size, client), []).append(json.loads(text))
    versions = ", ".join(f"{name} {version(name)}" for name in CLIENTS)
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    print(f"{options.threads} requests in flight, medians of {options.rounds} rounds of {options.requests}\n")
    print("| objects | client | requests/s | CPU ms a request | CPU, times obstore's |\n|---|---|---|---|---|")
    for size in SIZES:
        base = statistics.median(row["cpu_ms"] for row in found[size, "obstore"])
        for client in CLIENTS:
            speed = statistics.median(row["requests_per_second"] for row in found[size, client])
            cpu = statistics.median(row["cpu_ms"] for row in found[size, client])
            print(f"| {size} | {client} | {speed:,.0f} | {cpu:.2f} | {cpu / base:.1f} |")


if __name__ == "__main__":
    main()
