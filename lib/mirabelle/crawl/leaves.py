"""Values in what a page says of itself in JSON, JSON-LD and microdata, and the ways to them. Touches nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from mirabelle.crawl.description import Kind
from mirabelle.crawl.finding import Part, as_text

# A page's state may be megabytes of JSON; one with more values than this is passed over, as each is tried many times.
MAX_LEAVES = 10_000
MAX_DEPTH = 30


def leaves(part: Part) -> Iterator[tuple[Kind, str, str]]:
    """Kind, expression and text of each value that this part's JSON has, or its page's where the page is the part."""
    if part.values is not None:
        yield from (("json", path, text) for path, text in _below(part.values))
    elif part.tree is None:
        yield from (("json", path, text) for path, text in _below(part.page.values))
        for node in _typed(part.page.embedded.get("json-ld", []), "@type"):
            yield from _of_type("jsonld", node.get("@type"), node)
        for node in _typed(part.page.embedded.get("microdata", []), "type"):
            yield from _of_type("microdata", node.get("type"), node.get("properties"))


def _of_type(kind: Kind, types: Any, values: Any) -> Iterator[tuple[Kind, str, str]]:
    names = [str(one).rstrip("/").rpartition("/")[2] for one in (types if isinstance(types, list) else [types])]
    for path, text in _below(values):
        yield from ((kind, f"{name}.{path}", text) for name in names if re.fullmatch(r"\w+", name))


def _below(values: Any) -> list[tuple[str, str]]:
    """Each text or number below a value, by its path in JMESPath; of a list's entries all have the same path."""
    found: list[tuple[str, str]] = []
    left: list[tuple[str, Any, int]] = [("", values, 0)]
    while left:
        path, value, depth = left.pop()
        if isinstance(value, dict | list) and depth < MAX_DEPTH:
            inner = value.items() if isinstance(value, dict) else ((None, one) for one in value)
            left += [(_onward(path, key), one, depth + 1) for key, one in inner]
        elif path and not path.endswith("type") and (text := as_text(value)):
            found.append((path, text))
        if len(found) + len(left) > MAX_LEAVES:
            return []
    return found


def _onward(path: str, key: Any) -> str:
    if key is None:
        return f"{path}[]"
    name = key if re.fullmatch(r"[A-Za-z_]\w*", str(key), re.ASCII) else json.dumps(str(key))
    return f"{path}.{name}" if path else name


def _typed(values: Any, key: str) -> Iterator[dict[str, Any]]:
    """Every object with a type, those within others too."""
    left = [values]
    for _ in range(MAX_LEAVES):
        if not left:
            return
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
            if value.get(key):
                yield value
        elif isinstance(value, list):
            left += value
