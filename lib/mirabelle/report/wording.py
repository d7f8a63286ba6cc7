"""Numbers, sizes, times and loosely shaped mappings to words. Pure; runs on the driver; imports nothing of ours.

Every function takes whatever a manifest may hold and answers with text, never with an exception: an absent or odd
value reads as an en dash or as itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

ABSENT = "\u2013"
# A number and its unit stay on one line.
NARROW = "\u202f"


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number (a truth value is not)."""
    if isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def whole(value: object) -> str:
    """A count with thousands separated: ``5,100``."""
    return f"{round(float(value)):,}" if is_number(value) else ABSENT  # type: ignore[arg-type]


def decimal(value: object, digits: int = 3) -> str:
    """A number with a fixed count of decimals: ``0.973``."""
    return f"{float(value):,.{digits}f}" if is_number(value) else ABSENT  # type: ignore[arg-type]


def percent(value: object, digits: int = 1) -> str:
    """A share, 0 to 1, as a percentage: ``97.3 %``. Less than all never rounds to 100, nor more than none to 0."""
    if not is_number(value):
        return ABSENT
    share = float(value)  # type: ignore[arg-type]
    text = f"{100 * share:.{digits}f}"
    step = 10.0**-digits
    if share < 1 and float(text) >= 100:
        text = f"{100 - step:.{digits}f}"
    elif share > 0 and float(text) == 0:
        return f"<{NARROW}{step:.{digits}f}{NARROW}%"
    return f"{text}{NARROW}%"


def size(value: object) -> str:
    """Bytes in decimal units: ``1.2 MB``."""
    if not is_number(value):
        return ABSENT
    amount = float(value)  # type: ignore[arg-type]
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 999.5:
            return f"{amount:.0f}{NARROW}{unit}" if unit == "B" or amount >= 99.5 else f"{amount:.1f}{NARROW}{unit}"
        amount /= 1000
    return f"{amount:,.1f}{NARROW}TB"


def seconds(value: object) -> str:
    """A time span: ``0.4 s``, ``12 s``, ``3 min 14 s``, ``2 h 05 min``."""
    if not is_number(value):
        return ABSENT
    span = float(value)  # type: ignore[arg-type]
    if span < 9.95:
        return f"{span:.1f}{NARROW}s" if span >= 0.05 or span == 0 else f"<{NARROW}0.1{NARROW}s"
    if span < 99.5:
        return f"{span:.0f}{NARROW}s"
    minutes, rest = divmod(round(span), 60)
    if minutes < 60:
        return f"{minutes}{NARROW}min {rest:02d}{NARROW}s"
    return f"{minutes // 60:,}{NARROW}h {minutes % 60:02d}{NARROW}min"


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment


def date(value: object) -> str:
    """An ISO moment as ``21 November 2026, 21:42 UTC``; what is no moment stays as it is."""
    moment = _moment(value)
    if moment is None:
        return ABSENT if value is None else str(value)
    return f"{moment.day} {moment:%B %Y, %H:%M}" + (" UTC" if moment.tzinfo else "")


def span_seconds(start: object, end: object) -> float | None:
    """Seconds between two ISO moments, or ``None`` when either is none or they run backwards."""
    first, last = _moment(start), _moment(end)
    if first is None or last is None or (first.tzinfo is None) != (last.tzinfo is None) or last < first:
        return None
    return (last - first).total_seconds()


def mapping(value: object) -> Mapping[str, Any]:
    """``value`` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def numbers(value: object) -> dict[str, float]:
    """The entries of a mapping that are finite numbers of zero or more, in its order."""
    return {
        str(key): float(number) for key, number in mapping(value).items() if is_number(number) and float(number) >= 0
    }


def pretty(value: object) -> str:
    """A nested value as indented JSON; what JSON does not know is written as its text."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def plain(value: object) -> str:
    """One value of a manifest on one line."""
    if value is None or value == "":
        return ABSENT
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return whole(value)
    if isinstance(value, float):
        return f"{value:,.4g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def plural(count: object, one: str, many: str | None = None) -> str:
    """A count and its noun: ``1 image``, ``5,100 images``."""
    return f"{whole(count)} {one if count == 1 else many or one + 's'}"
