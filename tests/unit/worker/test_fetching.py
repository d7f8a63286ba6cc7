"""Reading ahead, with reads that these tests let go one by one."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirabelle.errors import FetchError, ListingError, RejectCode
from mirabelle.storage import S3Options
from mirabelle.worker.fetching import AHEAD_BYTES, UNKNOWN_BYTES, Fetched, ImageSource, Source, fetch, read_ahead

GONE = FetchError(RejectCode.MISSING, "gone")


def sources(number: int, size_bytes: int | None = 1) -> list[ImageSource]:
    return [ImageSource(str(i), size_bytes) for i in range(number)]


class Reads:
    """Counts the reads that are under way, and remembers the most there were of them."""

    def __init__(self, seconds: float = 0.002) -> None:
        self._lock = threading.Lock()
        self._seconds = seconds
        self.under_way = self.most = self.begun = 0

    def __call__(self, source: Source) -> Fetched:
        assert isinstance(source, ImageSource)
        with self._lock:
            self.begun += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        time.sleep(self._seconds)
        with self._lock:
            self.under_way -= 1
        if source.path == "fatal":
            raise ListingError("the bucket is closed")
        return GONE if source.path == "gone" else source.path.encode()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_the_order_is_kept_however_long_each_takes(pool: ThreadPoolExecutor) -> None:
    def read(source: Source) -> Fetched:
        assert isinstance(source, ImageSource)
        time.sleep((7 * int(source.path) % 5) / 1000)
        return source.path.encode()

    assert list(read_ahead(sources(60), read, pool, 8)) == [str(i).encode() for i in range(60)]


def test_as_many_are_under_way_as_were_asked_for_and_no_more(pool: ThreadPoolExecutor) -> None:
    reads = Reads()
    assert len(list(read_ahead(sources(40), reads, pool, 5))) == 40
    assert reads.most <= 5
    assert reads.begun == 40


def test_reads_go_on_while_their_taker_works(pool: ThreadPoolExecutor) -> None:
    reads = Reads(0)
    fetched = read_ahead(sources(40), reads, pool, 5)
    next(fetched)
    deadline = time.monotonic() + 5
    while reads.begun < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    # The one that was taken makes room for another only when the next is asked for.
    assert reads.begun == 5
    fetched.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("size_bytes", "most"), [(AHEAD_BYTES // 3, 3), (2 * AHEAD_BYTES, 1), (1, 8)])
def test_large_ones_are_fewer_at_once(pool: ThreadPoolExecutor, size_bytes: int, most: int) -> None:
    reads = Reads()
    assert len(list(read_ahead(sources(20, size_bytes), reads, pool, 8))) == 20
    assert reads.most <= most


@pytest.mark.parametrize("unknown", [None, 0])
def test_a_size_that_is_not_known_counts_as_some(unknown: int | None) -> None:
    reads, at_once = Reads(), 2 * AHEAD_BYTES // UNKNOWN_BYTES
    with ThreadPoolExecutor(at_once) as pool:
        list(read_ahead(sources(2 * at_once, unknown), reads, pool, at_once))
    assert reads.most <= AHEAD_BYTES // UNKNOWN_BYTES


def test_one_images_error_stands_in_its_place(pool: ThreadPoolExecutor) -> None:
    wanted = [ImageSource("a"), ImageSource("gone"), ImageSource("b")]
    assert list(read_ahead(wanted, Reads(), pool, 4)) == [b"a", GONE, b"b"]


@pytest.mark.parametrize("at_once", [1, 4])
def test_what_concerns_all_of_them_is_raised(pool: ThreadPoolExecutor, at_once: int) -> None:
    reads = Reads()
    fetched = read_ahead([ImageSource("a"), ImageSource("fatal"), *sources(1000)], reads, pool, at_once)
    assert next(fetched) == b"a"
    with pytest.raises(ListingError, match="the bucket is closed"):
        next(fetched)
    assert reads.begun < 20
    assert list(fetched) == []


@settings(max_examples=50)
@given(st.lists(st.integers(0, AHEAD_BYTES), max_size=40), st.integers(1, 9))
def test_each_comes_once_whatever_the_sizes(sizes: list[int], at_once: int) -> None:
    wanted = [ImageSource(str(i), size) for i, size in enumerate(sizes)]
    with ThreadPoolExecutor(4) as pool:
        found = list(read_ahead(iter(wanted), Reads(0), pool, at_once))
    assert found == [str(i).encode() for i in range(len(sizes))]


def test_what_a_source_may_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")

    def code_of(source: Source, max_bytes: int = 100) -> str:
        found = fetch(source, max_bytes, S3Options())
        assert isinstance(found, FetchError)
        return str(found.code)

    for source in (str(tmp_path / "a"), f"file://{tmp_path}/a", b"content", bytearray(b"content")):
        assert fetch(source, 100, S3Options()) == b"content"
    # A disk's etag is of the listing's moment; what is there now is taken.
    assert fetch(ImageSource(str(tmp_path / "a"), 1, "another"), 100, S3Options()) == b"content"
    assert code_of(None) == "missing"
    assert code_of(str(tmp_path / "b")) == "missing"
    assert code_of(str(tmp_path / "a"), 6) == "too_many_bytes"


def test_uris_as_spark_gives_them(tmp_path: Path) -> None:
    for name in ("Apple Red.jpg", "a%20b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
        for written in (f"file:{tmp_path}/{name}", (tmp_path / name).as_uri()):
            assert fetch(written, 100, S3Options()) == name.encode()
