"""Copy a folder into a bucket, or out of one: `bucket.py put FOLDER s3://bucket/prefix`, `bucket.py get ...`.

For the demo and for trying things out; `put` makes the bucket if it is not there. Endpoint and credentials come from
AWS's own environment variables and files.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3

from mirabelle.errors import MirabelleError
from mirabelle.storage import open_store, split_s3

AT_ONCE = 16


def put(folder: Path, uri: str) -> int:
    """Every file below a folder; how many."""
    bucket, _ = split_s3(uri)
    client = boto3.client("s3")
    if bucket not in {found["Name"] for found in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)
    store = open_store(uri)
    files = [path for path in folder.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda path: store.upload(str(path), f"{uri}/{path.relative_to(folder).as_posix()}"), files))
    return len(files)


def get(uri: str, folder: Path) -> int:
    """Every object below a prefix; how many."""
    store = open_store(uri)

    def fetch(path: str) -> None:
        target = folder / path[len(uri) + 1 :]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.read(path, 2**40))

    paths = [entry.path for entry in store.walk(uri)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(fetch, paths))
    return len(paths)


def main() -> int:
    """Copy as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("put", "get"))
    parser.add_argument("source", help="FOLDER for put, s3://bucket/prefix for get")
    parser.add_argument("target", help="the other")
    options = parser.parse_args()
    try:
        if options.what == "put":
            count = put(Path(options.source), options.target.rstrip("/"))
        else:
            count = get(options.source.rstrip("/"), Path(options.target))
    except MirabelleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{count:,} files from {options.source} to {options.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
