"""The store through a proxy that misbehaves: everything is done, once, or said to be not."""

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import obstore
import pyarrow.parquet as pq
import pytest

from mirabelle.errors import FetchError, ListingError, OutputError, RunFailed
from mirabelle.storage import S3Options
from mirabelle.storage.requests import MANY_DENIALS
from mirabelle.storage.s3 import S3Store
from mirabelle.table.lease import FILE, hold, holder
from object_store import THREADS, Server, put
from s3.faults import ERRORS, KINDS, FaultProxy

MAX_BYTES = 2**24
Through = Callable[..., tuple[FaultProxy, S3Store]]


@pytest.fixture
def through(aws: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Through]:
    """A proxy with some faults before the server, and a store whose every request goes through it."""
    made: list[FaultProxy] = []

    def make(options: S3Options | None = None, **faults: Any) -> tuple[FaultProxy, S3Store]:
        proxy = FaultProxy(aws.endpoint, **faults).__enter__()
        made.append(proxy)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = S3Store(options or S3Options(timeout_seconds=5))
        store.resolved()  # made now, while the environment leads here
        return proxy, store

    yield make
    for proxy in made:
        proxy.__exit__()


def content_of(number: int) -> bytes:
    return f"{number} ".encode() * (50 + number)


def test_hundreds_of_objects_come_whole_through_all_of_it(through: Through, client: Any, bucket: str) -> None:
    keys = {f"{folder}/{number}.jpg": content_of(number) for folder in "ab" for number in range(100)}
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda key: put(client, bucket, key, keys[key]), keys))
    shares = {"slow_down": 0.15, "resets": 0.1, "lost": 0.05, "truncated": 0.1, "slow": 0.02, "stalled": 0.01}
    proxy, store = through(S3Options(timeout_seconds=0.5), **shares, delay_seconds=0.1, seed=3)
    entries = {entry.path.removeprefix(f"s3://{bucket}/"): entry for entry in store.walk(f"s3://{bucket}")}
    assert set(entries) == set(keys)
    with ThreadPoolExecutor(16) as threads:
        read = threads.map(lambda entry: store.read(entry.path, MAX_BYTES, entry.etag), entries.values())
        assert dict(zip(entries, read, strict=True)) == keys
    assert all(proxy.counts[kind] for kind in KINDS if kind != "stalled"), proxy.counts


def test_what_is_written_through_all_of_it_is_there_once_and_whole(through: Through, client: Any, bucket: str) -> None:
    shares = {"slow_down": 0.15, "resets": 0.1, "lost": 0.15, "slow": 0.02}
    proxy, store = through(**shares, delay_seconds=0.1, seed=5)
    names = [f"part-{number}" for number in range(60)] + ["_chunk.json"]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda name: store.write(f"s3://{bucket}/staged/{name}", name.encode()), names))
    store.publish(f"s3://{bucket}/staged", f"s3://{bucket}/final", names)
    store.remove(f"s3://{bucket}/staged")
    found = {entry.path: store.read(entry.path, 100) for entry in store.walk(f"s3://{bucket}")}
    assert found == {f"s3://{bucket}/final/{name}": name.encode() for name in names}
    assert all(proxy.counts[kind] for kind in ("slow_down", "reset", "lost")), proxy.counts


def test_a_parquet_file_is_read_in_parts_through_all_of_it(through: Through, client: Any, bucket: str) -> None:
    import pyarrow as pa

    sink = io.BytesIO()
    pq.write_table(pa.table({"n": range(20_000)}), sink, row_group_size=1000)
    put(client, bucket, "t.parquet", sink.getvalue())
    shares = {"slow_down": 0.2, "resets": 0.1, "lost": 0.1, "truncated": 0.2}
    _, store = through(**shares, seed=1)
    with store.open(f"s3://{bucket}/t.parquet") as file:
        assert pq.ParquetFile(file).read()["n"].to_pylist() == list(range(20_000))


@pytest.mark.parametrize("key", ["plain", "line\nbreak"])
@pytest.mark.parametrize("what", ["ExpiredToken", "SlowDown", "InternalError", "reset", "lost", "truncated", "stalled"])
def test_one_fault_is_got_over(what: str, key: str, through: Through, client: Any, bucket: str) -> None:
    """By either of the two clients: boto3 takes the keys that obstore does not."""
    etag = put(client, bucket, key, b"0123456789")
    proxy, store = through(S3Options(timeout_seconds=0.5))
    path = f"s3://{bucket}/{key}"
    before = store.access.session
    acts: list[tuple[str, Callable[[], object], object]] = [
        ("GET", lambda: store.read(path, 100, etag), b"0123456789"),
        ("HEAD", lambda: store.open(path).read(), b"0123456789"),
        ("PUT", lambda: store.write(path, b"other"), None),
        ("HEAD", lambda: store.exists(path), True),
        ("GET", lambda: next(iter(store.walk(f"s3://{bucket}"))).size_bytes, 5),
        ("DELETE", lambda: store.remove(path), None),
        ("POST", lambda: store.remove(path), None),
        ("PUT", lambda: store.put_if(path, b"new", None) is not None, True),
        ("GET", lambda: store.read_version(path)[0], b"new"),  # type: ignore[index]
    ]
    for method, act, expected in acts:
        started = time.monotonic()
        proxy._scripted.clear()
        proxy.next(what, method=method)
        assert act() == expected
        assert time.monotonic() - started < 60
    if what == "ExpiredToken":
        assert store.access.session is not before


def test_credentials_that_are_not_renewed_are_one_sentence(through: Through, client: Any, bucket: str) -> None:
    put(client, bucket, "key", b"content")
    proxy, store = through(S3Options(attempts=3))
    proxy.next("ExpiredToken", 1000)
    with pytest.raises(ListingError, match="have expired and were not renewed; renew them"):
        store.read(f"s3://{bucket}/key", 100)
    with pytest.raises(OutputError, match=r"have expired .* what was finished is kept"):
        store.write(f"s3://{bucket}/key", b"")


def test_one_object_that_cannot_be_had_is_a_row_and_a_store_that_cannot_ends_the_run(
    through: Through, client: Any, bucket: str
) -> None:
    put(client, bucket, "key", b"content")
    proxy, store = through(S3Options(attempts=2))
    path = f"s3://{bucket}/key"
    proxy.next("SlowDown", 2, key=f"{bucket}/key")
    with pytest.raises(FetchError, match="unreadable: the store answered SlowDown after 2 attempts"):
        store.read(path, 100)
    # Who may not list may still read: that the store answers is all that is asked.
    proxy.next("SlowDown", 2, key=f"{bucket}/key")
    proxy.next("AccessDenied", 10, key=bucket)
    with pytest.raises(FetchError, match="unreadable: the store answered SlowDown"):
        store.read(path, 100)
    proxy._scripted.clear()
    proxy.next("SlowDown", 1000)
    with pytest.raises(ListingError, match=rf"cannot list the bucket {bucket}: the store answers SlowDown; try again"):
        store.read(path, 100)


def test_denials(through: Through, client: Any, bucket: str) -> None:
    path = f"s3://{bucket}/key"
    put(client, bucket, "key", b"content")
    proxy, store = through()

    def denied(times: int) -> None:
        for _ in range(times):
            with pytest.raises(FetchError, match="denied: AccessDenied"):
                store.read(path, 100)

    proxy.next("AccessDenied", 10**6, key=f"{bucket}/key")
    # However many: the bucket is listed and so open.
    denied(2 * MANY_DENIALS + 2)
    asked = proxy.counts["passed"]
    assert 1 <= asked <= 3
    proxy.next("AccessDenied", 10**6)
    sentences = []
    for _ in range(MANY_DENIALS + 1):
        with pytest.raises((FetchError, ListingError)) as raised:
            store.read(path, 100)
        sentences.append(str(raised.value))
    told = f"cannot read from the bucket {bucket}: these credentials may not; allow it in their policy"
    assert any(sentence.startswith(told) for sentence in sentences)


@pytest.mark.parametrize(
    ("code", "reason"),
    [("AccessDenied", "these credentials may not; allow it"), ("XMinioStorageFull", "the store is full; make room")],
)
def test_an_output_that_may_not_be_written_to_or_is_full(
    code: str, reason: str, through: Through, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ERRORS, "XMinioStorageFull", (507, "Storage backend has reached its minimum free drive."))
    proxy, store = through()
    acts: list[Callable[[], object]] = [
        lambda: store.write(f"s3://{bucket}/key", b""),
        lambda: store.put_if(f"s3://{bucket}/key", b"", None),
        lambda: hold(store, f"s3://{bucket}/out", "run-1", "run").__enter__(),
    ]
    for act in acts:
        proxy._scripted.clear()
        proxy.next(code, 100, method="PUT")
        with pytest.raises(OutputError, match=rf"cannot write to the bucket {bucket}: {reason}"):
            act()


@pytest.mark.parametrize("key", ["plain", "line\nbreak"])
def test_conditional_puts(key: str, through: Through, bucket: str) -> None:
    proxy, store = through()
    path = f"s3://{bucket}/{key}"
    assert store.read_version(path) is None
    first = store.put_if(path, b"1", None)
    assert first is not None
    assert store.put_if(path, b"another", None) is None
    second = store.put_if(path, b"2", first)
    assert second not in (None, first)
    assert store.put_if(path, b"3", first) is None
    content, version, age = store.read_version(path)  # type: ignore[misc]
    assert (content, version) == (b"2", second)
    assert 0 <= age < 5
    # The answer is lost, and the next attempt meets what this one wrote.
    store.remove(path)
    mine = None
    for content in (b"4", b"5"):
        proxy.next("lost", method="PUT", key=f"{bucket}/{key}")
        mine = store.put_if(path, content, mine)
        assert mine is not None
        assert store.read_version(path)[:2] == (content, mine)  # type: ignore[index]
    store.remove(path)
    assert store.put_if(path, b"7", first) is None
    assert not store.exists(path)


def test_of_two_that_begin_at_once_exactly_one_has_the_lease(aws: Server, bucket: str) -> None:
    for round_ in range(3):
        output, together, done = f"s3://{bucket}/{round_}", Barrier(4), Barrier(4)

        def begin(number: int, output: str = output, together: Barrier = together, done: Barrier = done) -> str:
            store = S3Store(S3Options())  # as another process has it
            store.resolved()
            together.wait()
            try:
                with hold(store, output, f"run-{number}", "run") as lease:
                    done.wait()
                    lease.check()
                    return "held"
            except OutputError as error:
                done.wait()
                return str(error)

        with ThreadPoolExecutor(4) as threads:
            outcomes = list(threads.map(begin, range(4)))
        assert outcomes.count("held") == 1, outcomes
        assert all("another run began on" in told or "is in use by run" in told for told in outcomes if told != "held")
        assert list(S3Store(S3Options()).walk(output)) == []


def test_a_lease_in_a_bucket_is_broken_lost_and_kept_through_faults(through: Through, client: Any, bucket: str) -> None:
    _, store = through(slow_down=0.1, resets=0.05, lost=0.15, seed=2)
    output = f"s3://{bucket}/out"
    with hold(store, output, "run-1", "run") as loser:
        for _ in range(4):
            loser.check()
        with pytest.raises(OutputError, match="is in use by run run-1"):
            hold(store, output, "run-2", "run").__enter__()
        with hold(store, output, "run-2", "run", break_lease=True) as winner:
            with pytest.raises(RunFailed, match="another run took the lease"):
                loser.check()
            loser.release()
            winner.check()
            assert "run run-2" in str(holder(store, output))
    assert not store.exists(f"{output}/{FILE}")


def test_obstore_tries_nothing_again_by_itself(through: Through, bucket: str) -> None:
    """Its retries would multiply with ours."""
    proxy, store = through(slow_down=1.0)
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.get(store.access.store(bucket), "key")
    assert proxy.counts["requests"] == 1
