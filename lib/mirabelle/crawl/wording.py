"""How a known value stands in a longer text, and how found values are spelled. Touches nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from mirabelle.crawl.cleaning import Step, clean

# Around a value; more is prose, and prose is another on each page.
MAX_AROUND = 40
# Another field's words: bounded, so that no text, however long, is tried in all ways to divide it.
WORDS = r".{1,80}"
# Spellings that a description learns by heart; a field with more than these is spelled by rules alone.
MAX_SPELLINGS = 200
# Found and known values, the same but for case, blanks and signs.
Pairs = Sequence[tuple[str, str]]


def within(text: str, value: str, others: Sequence[str]) -> Iterator[str]:
    """Patterns for a value with other text before or after it, of which other fields' values may be a part.

    ``Airbus A320 of KLM``, of which all three are known, is ``^\\S+ (\\S+) of .{1,80}$`` for the type.
    """
    found = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE) if len(value) >= 3 else None
    if not found:
        return
    before, after = _around(text[: found.start()], others), _around(text[found.end() :], others)
    if (before or after) and before is not None and after is not None:
        yield f"^{before}(.+){after}$"
        if not re.search(r"\s", value):
            yield f"^{before}(\\S+){after}$"


def _around(text: str, others: Sequence[str]) -> str | None:
    """A pattern for what stands beside a value; None: it has numbers in it, or is long, so another on each page."""
    named = [re.escape(one) for one in sorted(others, key=len, reverse=True) if len(one) > 1]
    pieces = re.split(rf"(?<!\w)({'|'.join(named)})(?!\w)", text, flags=re.IGNORECASE) if named else [text]
    said = pieces[::2]
    if re.search(r"\d", "".join(said)) or len("".join(said)) > MAX_AROUND:
        return None
    return "".join(
        (WORDS if re.search(r"\s", piece) else r"\S+") if number % 2 else re.escape(piece)
        for number, piece in enumerate(pieces)
    )


def casing(pairs: Pairs) -> list[Step]:
    """The step by which all found values become the known ones; none if there is no such step."""
    for word in ("title", "upper"):
        step = Step.model_validate(word)
        if all(step(found) == known for found, known in pairs):
            return [step]
    return []


def by_heart(pairs: Pairs) -> list[Step]:
    """Steps by which found values become the known ones: what no rule spells is learnt by heart."""
    title = Step.model_validate("title")
    fewer = sum(title(found) == known for found, known in pairs) > sum(found == known for found, known in pairs)
    first = [title] if fewer else []
    told: dict[str, Counter[str]] = {}
    for found, known in pairs:
        told.setdefault(clean(found, tuple(first)) or "", Counter())[known] += 1
    learnt = {found: known.most_common(1)[0][0] for found, known in sorted(told.items())}
    learnt = {found: known for found, known in learnt.items() if found != known}
    return [*first, *([Step(map=learnt)] if 0 < len(learnt) <= MAX_SPELLINGS else [])]
