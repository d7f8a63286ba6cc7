"""What a verification has seen so far. Touches nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

EXAMPLES = 3


class Notes:
    """Findings, each a sentence, and counts of what was looked at."""

    def __init__(self) -> None:
        self.findings: list[str] = []
        self.counts: Counter[str] = Counter()

    def find(self, sentence: str) -> None:
        """Something is wrong."""
        self.findings.append(sentence)


def examples(names: Sequence[str], total: int | None = None) -> str:
    """The first few of some names, and how many more there are."""
    shown = ", ".join(names[:EXAMPLES])
    more = (len(names) if total is None else total) - min(EXAMPLES, len(names))
    return f"{shown} and {more:,} more" if more > 0 else shown
