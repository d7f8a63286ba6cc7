"""Sizes and times that manifests tell, and what is no size and no time."""

import tempfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mirabelle.errors import ListingError
from mirabelle.listing import Listing, read_manifest
from mirabelle.storage import DiskStore

NAN, INF = float("nan"), float("inf")
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def read(folder: Path, **columns: pa.Array) -> Listing:
    (values,) = columns.values()
    table = pa.table({"path": [f"/{i:02}.jpg" for i in range(len(values))], **columns})
    pq.write_table(table, folder / "m.parquet")
    return read_manifest(DiskStore(), str(folder / "m.parquet"), "", ["*"], [], scratch=tempfile.mkdtemp())


def told(listing: Listing, name: str) -> list:
    return listing.table.sort_by("path")[name].to_pylist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([NAN, INF, -INF, -5.0, 10.5, 10.0, 1e300, None, 0.0]), [None] * 5 + [10, None, None, 0]),
        (pa.array([NAN, 3.0], pa.float32()), [None, 3]),
        (pa.array([-5, 10, None]), [None, 10, None]),
        (pa.array([2**64 - 1, 10], pa.uint64()), [None, 10]),
        (pa.array([Decimal("10.00"), Decimal("10.50"), Decimal("-1.00")]), [10, None, None]),
        (
            pa.array(
                ["nan", "inf", "-inf", "-5", "10.5", "10.0", "1e3", " 7 ", "", "NaN", "123456789012345678", "9" * 30]
            ),
            [None] * 5 + [10, 1000, 7, None, None, 123456789012345678, None],
        ),
        (pa.array(["5", "6"]).dictionary_encode(), [5, 6]),
        (pa.nulls(2), [None, None]),
    ],
    ids=["float64", "float32", "int64", "uint64", "decimal", "text", "dictionary", "null"],
)
def test_sizes_that_can_be_none_are_unknown(tmp_path: Path, values: pa.Array, expected: list) -> None:
    found = read(tmp_path, size=values)
    assert told(found, "size_bytes") == expected
    assert found.size_bytes == sum(size or 0 for size in expected)


@pytest.mark.parametrize("values", [["10 KB"], ["large"], ["1,000"]])
def test_a_size_that_is_no_number_is_one_sentence(tmp_path: Path, values: list[str]) -> None:
    with pytest.raises(ListingError, match=r"mend that row or column") as raised:
        read(tmp_path, size=pa.array(values))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([MOMENT, None], pa.timestamp("us", tz="UTC")), [MOMENT, None]),
        (pa.array([MOMENT, None], pa.timestamp("s", tz="Europe/Paris")), [MOMENT, None]),
        (pa.array([MOMENT.replace(tzinfo=None), None], pa.timestamp("us")), [None, None]),
        (pa.array([date(2026, 1, 2)]), [None]),
        (pa.array([NAN, None]), [None, None]),
        (
            pa.array(
                ["2026-01-02T03:04:05Z", "2026-01-02 04:04:05+01:00", "2026-01-02T03:04:05", "2026-01-02", "NaT", ""]
            ),
            [MOMENT, MOMENT, None, None, None, None],
        ),
    ],
    ids=["us", "s of a zone", "no zone", "date", "nan", "text"],
)
def test_times_without_a_zone_are_unknown(tmp_path: Path, values: pa.Array, expected: list) -> None:
    assert told(read(tmp_path, modified=values), "modified") == expected


@pytest.mark.parametrize(
    "values",
    [pa.array([1_700_000_000]), pa.array([1.7e9]), pa.array(["yesterday"]), pa.array([2**50], pa.timestamp("s"))],
)
def test_what_is_no_time_is_one_sentence(tmp_path: Path, values: pa.Array) -> None:
    with pytest.raises(ListingError, match=r"mend that row or column") as raised:
        read(tmp_path, modified=values)
    assert "\n" not in str(raised.value)


def test_a_time_without_a_zone_tells_a_change_all_the_same(tmp_path: Path) -> None:
    def etag(when: str) -> str:
        return told(read(tmp_path, modified=pa.array([when])), "etag")[0]

    assert etag("2026-01-02T03:04:05") == etag("2026-01-02T03:04:05") != etag("2026-01-02T03:04:06")
