"""The store for buckets against a real server: what is put there comes back, under every name that a key can have."""

import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mirabelle.errors import FetchError, ListingError, OutputError
from mirabelle.storage import S3Options
from mirabelle.storage.s3 import S3Store
from object_store import THREADS, Server, put
from s3.faults import FaultProxy

ODD = [
    "a b.jpg",
    "100%.jpg",
    "100%25.jpg",
    "1+1=2.jpg",
    "grün/日本/🍎.jpg",
    "e\u0301.jpg",  # as macOS writes é
    "a#b.jpg",
    "a?b&c=d.jpg",
    "~tilde.jpg",
    "back\\slash.jpg",
    "new\nline.jpg",
    "tab\tand\u00a0nbsp.jpg",
    "a'b\"c(d)!*.jpg",
    "a:b;c,d@e$f^g`h|i{j}[k]<l>.jpg",
    "a//b.jpg",
    "./dot.jpg",
    "a/../b.jpg",
    "trailing.",
    "-",
]
MAX_BYTES = 2**20

Make = Callable[..., S3Store]


@pytest.fixture
def make(aws: Server) -> Make:
    """A store that reaches the server; a new one each time, as a new process has it."""
    return lambda **options: S3Store(S3Options(**options))


@pytest.fixture
def store(make: Make) -> S3Store:
    return make()


def keys_below(store: S3Store, root: str) -> list[str]:
    start = len(root.rstrip("/")) + 1
    return sorted(entry.path[start:] for entry in store.walk(root))


def put_many(client: Any, bucket: str, keys: list[str]) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda key: put(client, bucket, key, b""), keys))


def fits_minio(key: str) -> bool:
    """MinIO keeps objects as files, and refuses names that no file can have; AWS takes them."""
    return not {"", ".", ".."} & set(key.split("/"))


def test_odd_keys_are_listed_and_read_as_they_are(store: S3Store, client: Any, bucket: str) -> None:
    keys = sorted(filter(fits_minio, ODD))
    for key in keys:
        put(client, bucket, f"in/{key}", key.encode())
    assert keys_below(store, f"s3://{bucket}/in") == keys
    for entry in store.walk(f"s3://{bucket}/in"):
        content = entry.path.removeprefix(f"s3://{bucket}/in/").encode()
        assert store.read(entry.path, MAX_BYTES, entry.etag) == content
        assert entry.size_bytes == len(content)
        with store.open(entry.path) as file:
            assert file.read() == content
        assert store.exists(entry.path)


def test_odd_keys_are_written_copied_and_removed(store: S3Store, client: Any, bucket: str) -> None:
    keys = sorted(filter(fits_minio, ODD))
    for key in keys:
        store.write(f"s3://{bucket}/out/{key}", key.encode())
        assert client.get_object(Bucket=bucket, Key=f"out/{key}")["Body"].read() == key.encode()
    flat = [key for key in keys if "/" not in key]
    store.publish(f"s3://{bucket}/out", f"s3://{bucket}/copy", flat)
    assert keys_below(store, f"s3://{bucket}/copy") == flat
    for key in keys:
        assert store.put_if(f"s3://{bucket}/if/{key}", b"1", None)
        assert store.read_version(f"s3://{bucket}/if/{key}")[0] == b"1"  # type: ignore[index]
    store.remove(f"s3://{bucket}/out/{keys[0]}")
    assert keys_below(store, f"s3://{bucket}/out") == keys[1:]
    store.remove(f"s3://{bucket}/out")
    assert keys_below(store, f"s3://{bucket}/out") == []
    assert keys_below(store, f"s3://{bucket}/copy") == flat


@pytest.mark.parametrize("key", ["a//b.jpg", "./dot.jpg", "a/../b.jpg"])
def test_keys_that_are_no_paths_are_asked_for_as_they_are(make: Make, aws: Server, key: str) -> None:
    """MinIO has no such objects; what counts is that the request names the key and nothing else."""
    asked: list[str] = []
    monkey = pytest.MonkeyPatch()
    with FaultProxy(aws.endpoint, only=lambda method, path: bool(asked.append(path))) as proxy, monkey.context() as m:
        m.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = make(attempts=1)
        for act in (
            lambda path: store.read(path, MAX_BYTES),
            store.open,
            lambda path: store.write(path, b""),
        ):
            asked.clear()
            with pytest.raises((FetchError, ListingError, OutputError)):
                act(f"s3://nobody/{key}")
            assert asked[0] == f"/nobody/{key}"


def test_a_walk_spares_folders_and_tells_times_and_etags(store: S3Store, client: Any, bucket: str) -> None:
    etag = put(client, bucket, "p/a.jpg", b"content")
    put(client, bucket, "p/", b"")
    put(client, bucket, "p/sub/", b"")
    put(client, bucket, "px/b.jpg", b"")
    (entry,) = store.walk(f"s3://{bucket}/p")
    told = client.head_object(Bucket=bucket, Key="p/a.jpg")
    assert (entry.path, entry.size_bytes, entry.etag) == (f"s3://{bucket}/p/a.jpg", 7, etag)
    assert abs(entry.modified_us / 1e6 - told["LastModified"].timestamp()) < 1
    assert [e.path for e in store.walk(f"s3://{bucket}/p/")] == [entry.path]
    assert keys_below(store, f"s3://{bucket}") == ["p/a.jpg", "px/b.jpg"]
    assert list(store.walk(f"s3://{bucket}/none")) == []


def test_a_walk_of_many_gives_each_once(store: S3Store, client: Any, bucket: str) -> None:
    keys = [f"many/flat/{number:05d}" for number in range(1100)]  # more than a page
    keys += [f"many/wide/{number:04d}/x" for number in range(1050)]  # more prefixes than a page
    keys += [f"many/deep/{a}/{b}/{c}/{d}" for a in range(4) for b in range(5) for c in range(5) for d in range(3)]
    keys += [f"many/{number}" for number in range(5)] + ["many/deep/0/x", "many/deep/00", "manya/x", "mana"]
    put_many(client, bucket, keys)
    for root in ("", "/many", "/many/flat", "/many/wide", "/many/deep"):
        below = [key for key in keys if f"/{key}".startswith(f"{root}/")]
        found = Counter(entry.path for entry in store.walk(f"s3://{bucket}{root}"))
        assert found == Counter(f"s3://{bucket}/{key}" for key in below), root


def test_a_walk_that_nobody_takes_to_its_end_ends(store: S3Store, client: Any, bucket: str) -> None:
    put_many(client, bucket, [f"{folder}/{number}" for folder in range(40) for number in range(3)])
    walk = store.walk(f"s3://{bucket}")
    next(walk)
    walk.close()  # type: ignore[attr-defined]
    assert len(keys_below(store, f"s3://{bucket}")) == 120


def code_of(store: S3Store, path: str, max_bytes: int = MAX_BYTES, etag: str | None = None) -> str:
    with pytest.raises(FetchError) as raised:
        store.read(path, max_bytes, etag)
    return f"{raised.value.code}: {raised.value.detail}"


def test_reads_that_fail_tell_why(store: S3Store, client: Any, bucket: str) -> None:
    etag = put(client, bucket, "a\nb", b"0123456789")
    for key in ("a", "a\nb"):  # one by each of the two clients
        etag = put(client, bucket, key, b"0123456789")
        path = f"s3://{bucket}/{key}"
        assert store.read(path, 10, etag) == b"0123456789"
        assert code_of(store, path, 9).startswith("too_many_bytes: more than decode.max_bytes, 9")
        put(client, bucket, key, b"other")
        assert store.read(path, 10) == b"other"
        assert code_of(store, path, 10, etag) == "unreadable: changed after it was listed; the next run takes it"
        client.delete_object(Bucket=bucket, Key=key)
        assert code_of(store, path, 10, etag).startswith("missing: ")
    with pytest.raises(FetchError, match="missing"):
        store.open(f"s3://{bucket}/none")


def test_exists_takes_no_name_for_another(store: S3Store, client: Any, bucket: str) -> None:
    for key in ("ab", "abc/d", "x-y", "x.z/1"):
        put(client, bucket, key, b"")
    there = {name: store.exists(f"s3://{bucket}/{name}") for name in ("a", "ab", "abc", "abc/d", "abc/", "x", "x-y")}
    assert there == {"a": False, "ab": True, "abc": True, "abc/d": True, "abc/": True, "x": False, "x-y": True}
    assert store.exists(f"s3://{bucket}")


def test_remove_takes_one_name_with_all_below_it(store: S3Store, client: Any, bucket: str) -> None:
    keys = ["a/1", "a/b/2", "a/", "a/b/", "ab", "abc/d", "a-b"]
    put_many(client, bucket, [*keys, *[f"a/many/{number}" for number in range(1100)]])
    for _ in range(2):
        store.remove(f"s3://{bucket}/a")
        assert keys_below(store, f"s3://{bucket}") == ["a-b", "ab", "abc/d"]
        # The "folders" that Spark and consoles make are gone as well.
        assert not store.exists(f"s3://{bucket}/a")
    store.remove(f"s3://{bucket}/ab")
    assert keys_below(store, f"s3://{bucket}") == ["a-b", "abc/d"]


def test_open_reads_the_parts_of_a_parquet_file_that_are_wanted(store: S3Store, client: Any, bucket: str) -> None:
    table = pa.table({"n": range(1000), "text": [os.urandom(500).hex() for _ in range(1000)]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=100)
    content = sink.getvalue().to_pybytes()
    put(client, bucket, "t.parquet", content)
    with store.open(f"s3://{bucket}/t.parquet") as file:
        parquet = pq.ParquetFile(file)
        assert parquet.read(["n"])["n"].to_pylist() == list(range(1000))
        assert parquet.read_row_group(7)["text"].to_pylist() == table["text"].to_pylist()[700:800]
    with store.open(f"s3://{bucket}/t.parquet") as file:
        assert file.read(4) == b"PAR1"
        assert file.seek(-4, os.SEEK_END) == len(content) - 4
        assert (file.read(), file.read(), file.tell()) == (b"PAR1", b"", len(content))
        file.seek(10)
        assert file.read(100) == content[10:110]
    put(client, bucket, "empty", b"")
    with store.open(f"s3://{bucket}/empty") as file:
        assert file.read() == b""


def test_files_of_any_size_are_uploaded(store: S3Store, client: Any, bucket: str, tmp_path: Path) -> None:
    for size in (0, 1000, 20 * 2**20):
        (tmp_path / "file").write_bytes(content := os.urandom(size))
        store.upload(str(tmp_path / "file"), f"s3://{bucket}/file")
        assert client.get_object(Bucket=bucket, Key="file")["Body"].read() == content
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")
    with pytest.raises(OSError, match="none"):
        store.upload(str(tmp_path / "none"), f"s3://{bucket}/file")


def test_publish_copies_the_marker_last_and_can_be_done_again(
    make: Make, client: Any, bucket: str, aws: Server
) -> None:
    names = ["_chunk.json", *(f"part-{number}" for number in range(40))]
    put_many(client, bucket, [f"staged/{name}" for name in [*names, "part-of-a-slow-twin"]])
    final = f"s3://{bucket}/final dir"
    seen: list[str] = []

    def watch(method: str, path: str) -> bool:
        if method == "PUT":
            seen.append(path.rpartition("/")[2])
        return False

    with FaultProxy(aws.endpoint, only=watch) as proxy, pytest.MonkeyPatch.context() as monkey:
        monkey.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = make(attempts=1)
        proxy.next("InternalError", method="PUT", key=f"{bucket}/final dir/part-7")
        with pytest.raises(OutputError, match=rf"cannot write to the bucket {bucket}: .*InternalError"):
            store.publish(f"s3://{bucket}/staged", final, names)
        assert "_chunk.json" not in keys_below(store, final)
        seen.clear()
        store.publish(f"s3://{bucket}/staged", final, names)
    assert sorted(seen) == sorted(names)
    assert seen[-1] == "_chunk.json"
    store = make()
    assert keys_below(store, final) == sorted(names)
    # What was published may be staged no more: a run was killed while it cleaned up.
    store.remove(f"s3://{bucket}/staged/part-3")
    store.publish(f"s3://{bucket}/staged", final, names)
    assert keys_below(store, final) == sorted(names)
    store.remove(f"{final}/part-3")
    with pytest.raises(OutputError, match=r"staged/part-3 .* is gone"):
        store.publish(f"s3://{bucket}/staged", final, names)


def test_a_bucket_open_to_all_is_read_without_credentials(
    make: Make, client: Any, bucket: str, aws: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not aws.is_minio:
        pytest.skip("moto lets anybody do anything")
    put(client, bucket, "open/a b.jpg", b"content")
    put(client, bucket, "closed/a.jpg", b"content")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    store = make(anonymous=(bucket,))
    with pytest.raises(ListingError, match=rf"cannot list the bucket {bucket}: these credentials may not"):
        list(store.walk(f"s3://{bucket}"))
    statements = [
        {"Effect": "Allow", "Principal": "*", "Action": f"s3:{action}", "Resource": f"arn:aws:s3:::{bucket}{what}"}
        for action, what in (("GetObject", "/open/*"), ("ListBucket", ""))
    ]
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    for each in (store, make(anonymous=("*",))):
        assert keys_below(each, f"s3://{bucket}/open") == ["a b.jpg"]
        assert each.read(f"s3://{bucket}/open/a b.jpg", MAX_BYTES) == b"content"
        assert code_of(each, f"s3://{bucket}/closed/a.jpg") == "denied: AccessDenied"
    with pytest.raises(ListingError, match=r"there are no credentials here: .*s3\.anonymous"):
        store.read("s3://another/key", MAX_BYTES)
