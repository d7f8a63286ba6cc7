"""`mirabelle crawl --explain`: what a site's description may say, out of its models, and which there are. [disk]"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mirabelle.crawl.cleaning import Step
from mirabelle.crawl.crawling import description_folders
from mirabelle.crawl.description import Described, Expectation, Follow, Site
from mirabelle.crawl.finding import FINDERS

WAYS = {
    "css": "CSS, with ::text or ::attr(name) at its end; without, an element's whole text",
    "xpath": "XPath",
    "json": "JMESPath, where pages are JSON, as an API's; else in their <script type=application/json id=...>, by id",
    "jsonld": "Type.path in the page's JSON-LD: ImageObject.contentUrl",
    "meta": "the content of <meta property=...> or <meta name=...>: og:image",
    "microdata": "Type.path in the page's microdata: ImageObject.author",
    "url": "regular expression on the page's address; its first group",
    "start": "the word that a start address has in a place: {maker:Airbus|Boeing}",
}
EXAMPLE = """\
site: {name: example, layout: "1", hosts: [images.example.org]}
start: ["https://example.org/photos?page={page:1..125}"]     # {word:one|other} is a list of its own for each word
follow:
  photo: [{css: "a.card::attr(href)"}]                        # lists lead to photographs' own pages; or
# photos: [{css: ".photo"}]                                   # each part of a list is a photograph
fields:
  id: {required: true, ways: [{url: '/photo/(\\d+)'}]}         # tells photographs apart, wherever they are listed
  image_url: {required: true, ways: [{meta: og:image}, {css: "img.large::attr(src)"}]}
  airline:
    ways:                                                     # the first that finds a value is taken
      - css: "a[href*='/airline/']::text"
      - css: "a[href*='/airline/']::attr(href)"
        clean: [{regex: '/airline/([^/?]+)'}, {replace: {"-": " "}}, title]
expect:
  airline: {filled: 0.5, agrees: 0.9}                         # below that the site is no longer the one described
"""


def explain() -> str:
    """All of it, as text."""
    lines = ["A site's description is a YAML file:", "", EXAMPLE, "Ways to a value:"]
    lines += [f"  {kind:<12}{WAYS[kind]}" for kind in FINDERS]
    for title, model in {
        "site": Site,
        "follow": Follow,
        "fields.<name>": Described,
        "expect.<name>": Expectation,
    }.items():
        lines += ["", f"{title}:", *_fields(model)]
    lines += ["", "Steps of clean:", *_fields(Step)]
    known = sorted({file.stem for folder in description_folders() for file in folder.glob("*.yaml")})
    lines += ["", f"Descriptions here: {', '.join(known) or 'none'}"]
    return "\n".join(lines)


def _fields(model: Any) -> Iterator[str]:
    for name, field in model.model_fields.items():
        told: Any = field.description
        if told:
            yield f"  {name:<12}{told}"
