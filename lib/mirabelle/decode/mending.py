"""JPEGs that lack their last two bytes, the mark of their end, and are whole but for it.

Works on bytes alone, without Pillow, and touches nothing else. Runs on executors, and on the driver for thumbnails.

Viewers show such files whole, but Pillow takes them for truncated, and with the mark behind them it would take any
truncated file for whole. What tells them apart: to a decoder that has all it needs, what stands between the last data
and the mark is nothing; one that still waits for data takes it for that, and gives another picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

END = b"\xff\xd9"
# Bits that begin differently, and neither as the zeros that decoders fill up with: no code that was cut goes on alike.
_JUNK = (b"\xfe" * 32, b"\x55" * 32)
_SEGMENT = re.compile(rb"\xff+([\x01-\xfe])")
# Within a scan zeros are stuffed after ff, and restart marks are data.
_MARK = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
_PADDING = 16
_SEQUENTIAL, _PROGRESSIVE = frozenset(b"\xc0\xc1\xc9"), frozenset(b"\xc2\xca")


def ended(content: bytes) -> Iterator[bytes]:
    """A JPEG with its end put behind it, and then with different things before that end.

    It is whole if all of them are one picture. Nothing comes for a file that has its end, whose scans are not all
    there, or that may be filled up with padding.
    """
    data = content.rstrip(b"\xff")
    if len(set(data[-_PADDING:])) > 1 and _has_all_scans(data):
        yield data + END
        # A decoder may also wait for the next of the restart marks, which are numbered in turn, 0 to 7.
        last_mark = max(range(8), key=lambda number: data.rfind(_restart(number)))
        is_in_scan = data.rfind(_restart(last_mark)) > data.rfind(b"\xff\xda")
        due = last_mark + 1 if is_in_scan else 0
        for junk in _JUNK:
            yield data + junk + b"".join(_restart(due + number) + junk for number in range(8)) + END


def _restart(number: int) -> bytes:
    return bytes((0xFF, 0xD0 + number % 8))


def _has_all_scans(data: bytes) -> bool:
    """Whether each component's coefficients have been told to the last bit, by the headers, and no end was met."""
    missing: dict[int, list[bool]] = {}
    is_progressive = False
    position, mark = 2, _SEGMENT
    while found := mark.search(data, position):
        kind, position = found[1][0], found.end()
        if kind == END[1]:
            return False
        body = data[position + 2 : position + int.from_bytes(data[position : position + 2])]
        position, mark = position + 2 + len(body), _SEGMENT
        if kind in _SEQUENTIAL | _PROGRESSIVE:
            is_progressive = kind in _PROGRESSIVE
            missing = {component: [True] * 64 for component in body[6::3]}
        elif kind == 0xDA and len(body) > 5:
            mark = _MARK
            first, last, bits = (body[-3], body[-2], body[-1] & 15) if is_progressive else (0, 63, 0)
            for component in body[1 : 1 + 2 * body[0] : 2]:
                for number in range(first, min(last, 63) + 1):
                    missing.setdefault(component, [True] * 64)[number] = bits > 0
    return bool(missing) and mark is _MARK and not any(map(any, missing.values()))
