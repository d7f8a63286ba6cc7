"""``/docs``: the OpenAPI document as one page of HTML, without a script. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from mirabelle.serve.documenting import CODES

Members = dict[str, Any]


def page(document: Members) -> str:
    """The page: what can be asked, how, with examples to copy, and what each problem's code means.

    Args:
        document: the OpenAPI document.
    """
    operations = [
        _operation(method, path, told)
        for path, methods in document["paths"].items()
        for method, told in methods.items()
    ]
    codes = [
        f'<tr id="{escape(code)}"><th scope="row"><code>{escape(code)}</code></th>'
        f"<td>{status}</td><td>{escape(meaning)}</td></tr>"
        for code, (status, meaning) in CODES.items()
    ]
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}: the API</title>",
            '<link rel="icon" href="/static/icon.svg" type="image/svg+xml">',
            '<link rel="stylesheet" href="/static/page.css"></head><body class="docs">',
            f'<header><p class="kicker">{title}</p><h1>How to ask from a program</h1>',
            *_prose(document["info"]["description"]),
            '<p><a href="/">The page for people</a> · <a href="/openapi.json">OpenAPI document</a></p></header><main>',
            *operations,
            '<section><h2>Problems</h2><div class="wide"><table><thead><tr><th scope="col">Code</th>',
            '<th scope="col">Status</th><th scope="col">What it means</th></tr></thead><tbody>',
            *codes,
            "</tbody></table></div></section></main></body></html>",
        ]
    )


def _prose(text: str) -> Iterator[str]:
    """Paragraphs, and what is indented as it stands."""
    for block in text.split("\n\n"):
        lines = block.split("\n")
        if all(line.startswith("    ") for line in lines):
            yield f"<pre>{escape(chr(10).join(line[4:] for line in lines))}</pre>"
        else:
            yield f"<p>{_with_code(' '.join(lines))}</p>"


def _with_code(text: str) -> str:
    """Escaped, what stands between backticks as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))


def _operation(method: str, path: str, told: Members) -> str:
    parts = [
        f"<section><h2><b>{escape(method.upper())}</b> {escape(path)}</h2>",
        f"<p>{_with_code(told.get('description') or told.get('summary', ''))}</p>",
        *_parameters(told.get("parameters", [])),
    ]
    kinds = told.get("requestBody", {}).get("content", {})
    if kinds:
        parts.append(f"<p>Body: {', '.join(f'<code>{escape(kind)}</code>' for kind in kinds)}.</p>")
    parts += [f"<pre>{escape(sample['source'])}</pre>" for sample in told.get("x-codeSamples", [])]
    good = escape(told["responses"]["200"]["description"]) if "200" in told["responses"] else ""
    others = ", ".join(status for status in told["responses"] if status != "200")
    refused = f" Otherwise {others}, as below." if others else ""
    return "\n".join([*parts, f"<p><small>200: {good}{refused}</small></p></section>"])


def _parameters(parameters: list[Members]) -> Iterator[str]:
    if not parameters:
        return
    yield '<div class="wide"><table><thead><tr><th scope="col">Parameter</th><th scope="col">Default</th>'
    yield '<th scope="col">Meaning</th></tr></thead><tbody>'
    for one in parameters:
        default = json.dumps(one["schema"]["default"]) if "default" in one["schema"] else ""
        yield f'<tr><th scope="row"><code>{escape(one["name"])}</code></th><td>{escape(default)}</td>'
        yield f"<td>{_with_code(one.get('description', ''))}</td></tr>"
    yield "</tbody></table></div>"
