"""A run's work, taken from the front: nothing twice, nothing left out, and twins never parted."""

import itertools
import tempfile
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from mirabelle import schema
from mirabelle.table.difference import STATUS, Difference, Work


def difference_of(twins: list[bool], file: str) -> Difference:
    """Work in which these rows are twins of the row before them."""
    number = len(twins)
    columns = {field.name: pa.nulls(number, field.type) for field in schema.listing_schema()}
    columns |= {"path": pa.array([f"s3://b/{i}" for i in range(number)]), "etag": pa.array(["e"] * number)}
    columns |= {STATUS: pa.array(["new"] * number), schema.TWIN: pa.array(twins, pa.bool_())}
    columns |= dict.fromkeys((schema.CARRY_FILE, schema.CARRY_PATH), pa.nulls(number, pa.string()))
    pq.write_table(pa.table(columns), file, row_group_size=100)
    return Difference(number, 0, 0, 0, 0, file, ())


def drained(work: Work, asks: Iterable[int]) -> list[pa.Table]:
    asks, parts = iter(asks), []
    while (part := work.next(next(asks, 3))) is not None:
        parts.append(part)
    return parts


@settings(max_examples=60)
@given(st.lists(st.booleans(), max_size=300), st.lists(st.integers(1, 50), max_size=30))
def test_every_row_comes_once_in_order_and_twins_stay_together(twins: list[bool], asks: list[int]) -> None:
    twins = [False, *twins]
    with tempfile.TemporaryDirectory() as folder:
        parts = drained(difference_of(twins, f"{folder}/todo.parquet").take(), asks)
    assert [path for part in parts for path in part["path"].to_pylist()] == [f"s3://b/{i}" for i in range(len(twins))]
    for asked, part in zip(itertools.chain(asks, itertools.repeat(3)), parts, strict=False):
        flags = part[schema.TWIN].to_pylist()
        assert not flags[0]
        # More than was asked for only where twins would be parted.
        assert all(flags[asked:])
