"""Sizes and times as manifests tell them: those that can be none are unknown, never made into others. Pure."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from mirabelle import schema

TIME = schema.listing_schema().field(schema.MODIFIED).type
NAIVE = pa.timestamp("us")
_WHOLE = r"^\+?(?P<digits>\d{1,18})(?:\.0*)?$"
_ZONED = r"\d\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"
_MISSING = r"(?i)^(nan|nat|null|none)?$"


def sizes(column: pa.Array) -> pa.Array:
    """Bytes, int64; null where a number is NaN, infinite, negative, fractional or too large.

    Raises:
        pa.ArrowInvalid: a text that is no number.
    """
    if pt.is_floating(column.type):
        return _whole_numbers(column.cast(pa.float64()))
    if pt.is_integer(column.type):
        about = column.cast(pa.float64(), safe=False)
        is_size = pc.and_(pc.greater_equal(about, 0.0), pc.less_equal(about, 1e18))
        return pc.if_else(is_size, column, None).cast(pa.int64())
    text = _text(column)
    # Digits as they are, since a float has too few of them; other ways to write a number as floats.
    is_plain = pc.match_substring_regex(text, _WHOLE)
    plain = pc.if_else(is_plain, pc.struct_field(pc.extract_regex(text, _WHOLE), "digits"), None).cast(pa.int64())
    return pc.coalesce(plain, _whole_numbers(pc.if_else(is_plain, None, text).cast(pa.float64())))


def times(column: pa.Array, is_utc: bool = False) -> tuple[pa.Array, pa.Array]:
    """Moments, null where no zone is told; and what tells one time from another, zone or not, as microseconds.

    Args:
        column: as a manifest has it.
        is_utc: that times without a zone are UTC's is known.

    Raises:
        pa.ArrowInvalid: a text that is no time, a number, or one out of range.
    """
    kind = column.type
    if pt.is_floating(kind):
        column = pc.if_else(pc.is_nan(column.cast(pa.float64())), None, column)
    if column.null_count == len(column):
        return pa.nulls(len(column), TIME), pa.nulls(len(column), pa.int64())
    if pt.is_floating(kind) or pt.is_integer(kind):
        raise pa.ArrowInvalid(f"the times are numbers ({kind}), and nothing tells of what unit since when")
    if pt.is_timestamp(kind) or pt.is_date(kind):
        # What nanoseconds there are beyond microseconds is let go.
        is_exact = not (pt.is_timestamp(kind) and kind.unit == "ns")
        has_zone = is_utc or (pt.is_timestamp(kind) and kind.tz is not None)
        moments = column.cast(TIME if has_zone else NAIVE, safe=is_exact)
        return (moments if has_zone else pa.nulls(len(column), TIME)), moments.cast(pa.int64())
    text = _text(column)
    is_zoned = pc.match_substring_regex(text, _ZONED)
    moments = pc.if_else(is_zoned, text, None).cast(TIME)
    naive = pc.if_else(is_zoned, None, text).cast(NAIVE)
    return moments, pc.coalesce(moments.cast(pa.int64()), naive.cast(pa.int64()))


def _whole_numbers(column: pa.Array) -> pa.Array:
    is_size = pc.and_(pc.and_(pc.greater_equal(column, 0.0), pc.less(column, 1e18)), pc.equal(pc.floor(column), column))
    return pc.if_else(is_size, column, None).cast(pa.int64(), safe=False)


def _text(column: pa.Array) -> pa.Array:
    """Trimmed, and null where it says that there is nothing."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.match_substring_regex(text, _MISSING), None, text)
