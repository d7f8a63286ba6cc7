"""What is done to a value that was found, step by step. Touches nothing."""

from __future__ import annotations

import re
from datetime import datetime
from html import unescape
from typing import Any

from pydantic import Field, model_validator
from w3lib.html import remove_tags

from mirabelle.config.section import Section

WORDS = {
    "strip": lambda value: " ".join(value.split()),
    "text": lambda value: " ".join(unescape(remove_tags(value)).split()),
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
}


class Step(Section):
    """One step: a word by itself, or one key with what it takes."""

    word: str | None = Field(
        None, description="strip: no blanks around and one within; text: markup away; lower, upper, title."
    )
    regex: str | None = Field(None, description="The first group of the first match, or all of it; none: no value.")
    replace: dict[str, str] | None = Field(None, description="Each text by another, in this order.")
    map: dict[str, str] | None = Field(None, description="A whole value by another; any other stays.")
    only: dict[str, str] | None = Field(None, description="A whole value by another; any other is no value.")
    date: str | None = Field(None, description="Read by this format of strptime, written as 2020-12-31.")

    @model_validator(mode="before")
    @classmethod
    def _of_a_word(cls, given: Any) -> Any:
        if isinstance(given, str):
            if given not in WORDS:
                raise ValueError(f"no step {given!r}: there are {', '.join(WORDS)}, regex, replace, map, only, date")
            return {"word": given}
        if isinstance(given, dict) and sum(value is not None for value in given.values()) != 1:
            raise ValueError("one key a step")
        return given

    @model_validator(mode="after")
    def _compiles(self) -> Step:
        if self.regex is not None:
            try:
                re.compile(self.regex)
            except re.error as error:
                raise ValueError(f"{self.regex!r} is no regular expression: {error}") from None
        return self

    def __call__(self, value: str) -> str | None:
        """The value after the step; None: it is none."""
        if self.word:
            return str(WORDS[self.word](value))
        if self.regex is not None:
            found = re.search(self.regex, value)
            return found and (found[1] if found.re.groups else found[0])
        if self.replace is not None:
            for old, new in self.replace.items():
                value = value.replace(old, new)
            return value
        if self.map is not None:
            return self.map.get(value, value)
        if self.only is not None:
            return self.only.get(value)
        return _iso(value, str(self.date))


def clean(value: str, steps: tuple[Step, ...]) -> str | None:
    """A value after all steps, without blanks around it; None: nothing is left of it."""
    current: str | None = value
    for step in steps:
        if current is None:
            return None
        current = step(current)
    current = (current or "").strip()
    return current or None


def _iso(value: str, pattern: str) -> str | None:
    try:
        return datetime.strptime(value.strip(), pattern).date().isoformat()
    except ValueError:
        return None
