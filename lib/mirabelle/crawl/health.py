"""Whether a site is still the one that was described: shares of fields and ways, page by page. Touches nothing.

Shares are of the last few list pages, so that a change shows soon, and a share counts as too low only where chance does
not explain it: of few photographs, some without a constructor say nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from math import comb
from typing import Any

from mirabelle.crawl.description import Description
from mirabelle.crawl.reading import Found

# A share this much below what is expected happens by chance once in so many.
UNLIKELY = 1e-4
# A way of the last good crawl that found this share of a field must still find this part of that.
COUNTED_SHARE = 0.2
KEPT_PART = 0.2


@dataclass
class Tally:
    """Of some photographs.

    Attributes:
        photos: how many.
        filled: by field: how many have it.
        ways: by field and way: how many were found by it.
        agree, several: by field: of how many all ways agree, and for how many several ways found something.
        odd: by field: values that did not look as expected.
    """

    photos: int = 0
    filled: Counter[str] = field(default_factory=Counter)
    ways: Counter[tuple[str, int]] = field(default_factory=Counter)
    agree: Counter[str] = field(default_factory=Counter)
    several: Counter[str] = field(default_factory=Counter)
    odd: Counter[str] = field(default_factory=Counter)

    def add(self, found: Found) -> None:
        """Count a photograph."""
        self.photos += 1
        self.filled.update(name for name, value in found.values.items() if value)
        self.ways.update(found.ways.items())
        self.several.update(found.agree.keys())
        self.agree.update(name for name, all_agree in found.agree.items() if all_agree)
        self.odd.update(found.odd)

    def merge(self, other: Tally) -> None:
        """Add another's counts."""
        self.photos += other.photos
        for name in ("filled", "ways", "agree", "several", "odd"):
            getattr(self, name).update(getattr(other, name))

    def summary(self, description: Description) -> dict[str, Any]:
        """For the manifest: by field its share, and that of each way."""
        total = max(1, self.photos)
        return {
            name: {
                "filled": round(self.filled[name] / total, 4),
                "ways": [round(self.ways[name, i] / total, 4) for i in range(len(described.ways))],
                "odd": self.odd[name],
            }
            for name, described in description.fields.items()
        }


class Health:
    """Watches a crawl."""

    def __init__(self, description: Description, pages: int, last: dict[str, Any] | None = None) -> None:
        """Args: the description; how many list pages are looked at together; the last good crawl's ``summary``."""
        self._description, self._last = description, last or {}
        self._recent: deque[Tally] = deque(maxlen=pages)
        self._empty = 0
        self._pages = pages
        self.whole = Tally()

    def page(self, photos: int) -> None:
        """A list page was read, with so many photographs or links to them on it."""
        self._recent.append(Tally())
        self._empty = 0 if photos else self._empty + 1

    def photo(self, found: Found) -> None:
        """A photograph was read."""
        if not self._recent:
            self._recent.append(Tally())
        self._recent[-1].add(found)
        self.whole.add(found)

    def complaint(self) -> str | None:
        """What is no longer as described, and where; None: all is well."""
        if self._empty >= self._pages:
            return (
                f"the last {self._empty} list pages have no photograph where the description looks for them"
                f" ({' or '.join(map(str, self._places()))})"
            )
        recent = Tally()
        for tally in self._recent:
            recent.merge(tally)
        for name, described in self._description.fields.items():
            expected = self._description.expect.get(name)
            tried = ", ".join(map(str, described.ways))
            if expected and _too_low(recent.filled[name], recent.photos, expected.filled):
                return (
                    f"{name} was found for {recent.filled[name]} of the last {recent.photos} photographs, and"
                    f" {expected.filled:.0%} are expected to have it; looked for by {tried}"
                )
            if expected and _too_low(recent.agree[name], recent.several[name], expected.agrees):
                return (
                    f"the ways to {name} agree for {recent.agree[name]} of the last {recent.several[name]} photographs"
                    f" where several find it, and {expected.agrees:.0%} are expected to; they are {tried}"
                )
            for number, share in enumerate(self._last.get(name, {}).get("ways", [])[: len(described.ways)]):
                found = recent.ways[name, number]
                if share >= COUNTED_SHARE and _too_low(found, recent.photos, share * KEPT_PART):
                    return (
                        f"{described.ways[number]} found {name} for {share:.0%} of the photographs of the last good"
                        f" crawl, and for {found} of the last {recent.photos} (crawl.compare=false does not compare)"
                    )
        return None

    def _places(self) -> tuple[Any, ...]:
        return self._description.follow.photo or self._description.photos or ("the whole page",)


def _too_low(found: int, of: int, expected: float) -> bool:
    """Whether so few, or fewer, are unlikely where the share is as expected (the binomial's lower tail)."""
    if expected <= 0 or not of or found / of >= expected:
        return False
    of_these = range(found + 1)
    tail = sum(comb(of, k) * expected**k * (1 - expected) ** (of - k) for k in of_these) if expected < 1 else 0.0
    return tail < UNLIKELY
