"""A picture that a page can show. Pure; runs on the driver."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """One image that the page can show.

    Attributes:
        path: the image's URI, as the user would type it.
        label: what the image shows, or ``None`` when nobody said.
        thumbnail: the picture, small and encoded, or ``None`` when there is nothing to show.
    """

    path: str
    label: str | None
    thumbnail: bytes | None
