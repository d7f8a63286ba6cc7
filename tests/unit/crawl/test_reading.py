"""What is found on a page: by each kind of way, on parts, as links; keys that tell photographs apart."""

import json
from typing import Any

import pytest

from mirabelle.crawl.description import Way, description_of
from mirabelle.crawl.finding import Part, all_values, parts
from mirabelle.crawl.page import Page
from mirabelle.crawl.reading import key_of_link, key_of_row, read_list, read_photo
from mirabelle.crawl.templates import Address

HTML = """<!doctype html><html><head>
<meta property="og:image" content="https://x.org/1.jpg"><meta name="author" content="Ada">
<script type="application/ld+json">{"@graph": [{"@type": "ImageObject", "contentUrl": "/2.jpg",
"author": {"@type": "Person", "name": "Bob"}}]}</script></head><body>
<div itemscope itemtype="https://schema.org/ImageObject"><span itemprop="author">Cleo</span></div>
<h1 class="t">Air <b>France</b></h1><ul><li>one</li><li>two</li></ul></body></html>"""
PAGE = Page("https://x.org/photo/12-f-gkxa%20b?size=l", HTML.encode(), "text/html", Address("", {"maker": "Airbus"}))


@pytest.mark.parametrize(
    ("way", "found"),
    [
        ({"css": "h1.t"}, ["Air France"]),
        ({"css": "h1.t::text"}, ["Air "]),
        ({"css": "li::text"}, ["one", "two"]),
        ({"css": "meta[name=author]::attr(content)"}, ["Ada"]),
        ({"xpath": "//li[2]/text()"}, ["two"]),
        ({"xpath": "count(//li)"}, ["2.0"]),
        ({"meta": "og:image"}, ["https://x.org/1.jpg"]),
        ({"meta": "author"}, ["Ada"]),
        ({"jsonld": "ImageObject.contentUrl"}, ["/2.jpg"]),
        ({"jsonld": "ImageObject.author.name"}, ["Bob"]),
        ({"jsonld": "Person.name"}, ["Bob"]),
        ({"microdata": "ImageObject.author"}, ["Cleo"]),
        ({"url": r"/photo/(\d+)"}, ["12"]),
        ({"url": "f-gkxa b"}, ["f-gkxa b"]),
        ({"start": "maker"}, ["Airbus"]),
        ({"json": "a"}, [None]),
        ({"css": "h2"}, []),
    ],
    ids=str,
)
def test_each_kind_of_way(way: dict[str, str], found: list[Any]) -> None:
    assert list(all_values(Part(PAGE), Way.model_validate(way))) == found


def test_json_pages_and_their_parts() -> None:
    page = Page("https://x.org/api", json.dumps({"q": [{"id": 1, "n": {"v": "a"}}, {"id": 2}]}).encode())
    found = parts(page, (Way.model_validate({"json": "q"}),))
    assert [list(all_values(part, Way.model_validate({"json": "n.v"}))) for part in found] == [["a"], [None]]
    assert parts(Page("https://x.org", b"{"), (Way.model_validate({"json": "q"}),)) == []


@pytest.mark.parametrize(
    "body", [b"", b"\x00\xff\xfe", b"<" * 5000, b"<p>" * 3000, b"{" * 3000, b"<meta charset=bogus>x"]
)
def test_a_page_may_hold_anything(body: bytes) -> None:
    page = Page("https://x.org/", body)
    for way in (
        {"css": "a"},
        {"jsonld": "X.y"},
        {"microdata": "X.y"},
        {"json": "a.b"},
        {"meta": "x"},
        {"xpath": "//a"},
    ):
        list(all_values(Part(page), Way.model_validate(way)))


def test_encodings() -> None:
    page = Page("https://x.org/", '<meta charset="iso-8859-1"><p>Björn</p>'.encode("latin-1"))
    assert list(all_values(Part(page), Way.model_validate({"css": "p"}))) == ["Björn"]


DESCRIPTION = description_of(
    {
        "site": {"name": "site"},
        "start": ["https://x.org/"],
        "photos": [{"css": ".photo"}],
        "follow": {"next": [{"css": "a.next::attr(href)"}]},
        "fields": {
            "image_url": [{"css": "img::attr(src)"}],
            "airline": {
                "ways": [
                    {"css": "b::text"},
                    {"css": "a::attr(href)", "clean": [{"regex": "/airline/(.+)"}, {"replace": {"-": " "}}]},
                ],
            },
            "year": [{"css": "i::text"}],
        },
        "expect": {"year": {"matches": r"\d{4}"}},
    },
    "test",
)
LIST = b"""<div class="photo"><img src="/1.jpg"><b>Air France</b><a href="/airline/air-france"></a><i>2019</i></div>
<div class="photo"><img src="/2.jpg"><a href="/airline/klm"></a><i>soon</i></div>
<div class="photo"><img src="/3.jpg"><b>ANA</b><a href="/airline/qantas"></a></div>
<div class="photo"><b>Nobody</b></div><a class="next" href="?page=2">next</a><a class="next" href="?page=2">next</a>"""


def test_a_list() -> None:
    listed = read_list(Page("https://x.org/photos?page=1", LIST), DESCRIPTION)
    assert listed.next == ["https://x.org/photos?page=2"]
    assert [found.values["airline"] for found in listed.photos] == ["Air France", "klm", "ANA", "Nobody"]
    assert [found.ways.get("airline") for found in listed.photos] == [0, 1, 0, 0]
    assert [found.agree.get("airline") for found in listed.photos] == [True, None, False, None]
    assert [found.values["year"] for found in listed.photos] == ["2019", None, None, None]
    assert [found.odd for found in listed.photos] == [(), ("year",), (), ()]
    assert [found.missing(DESCRIPTION) for found in listed.photos] == [[], [], [], ["image_url"]]
    assert listed.photos[0].key == "image=https://x.org/1.jpg"
    assert listed.photos[0].values["page_url"] == "https://x.org/photos?page=1"


def test_a_page_may_say_what_its_addresses_are_relative_to() -> None:
    body = b'<base href="https://cdn.x.org/a/"><div class="photo"><img src="1.jpg"></div><a class="next" href="2">n</a>'
    listed = read_list(Page("https://x.org/photos", body), DESCRIPTION)
    assert listed.photos[0].values["image_url"] == "https://cdn.x.org/a/1.jpg"
    assert listed.next == ["https://cdn.x.org/a/2"]


def test_keys() -> None:
    given = {
        "site": {"name": "site"},
        "start": ["https://x.org/"],
        "follow": {"photo": [{"css": "a::attr(href)"}], "parameters": [{"json": "more"}]},
        "fields": {"image_url": [{"css": "img::attr(src)"}], "id": [{"url": r"/photo/(\d+)"}]},
    }
    by_id = description_of(given, "test")
    listed = read_list(Page("https://x.org/", b'<a href="/photo/7-x">a</a><a href="/photo/8">b</a>'), by_id)
    assert listed.links == {"id=7": "https://x.org/photo/7-x", "id=8": "https://x.org/photo/8"}
    found = read_photo(Page("https://x.org/photo/7-x", b'<img src="../7.jpg">'), by_id, "id=7")
    assert (found.key, found.values["id"], found.values["image_url"]) == ("id=7", "7", "https://x.org/7.jpg")
    assert key_of_row({"id": "7"}, by_id) == "id=7"
    given["fields"].pop("id")
    without = description_of(given, "test")
    assert key_of_link("https://x.org/b?z=1&a=2", without) == key_of_link("https://x.org/b?a=2&z=1", without)
    assert key_of_row({"id": None, "page_url": "https://x.org/b"}, without) == key_of_link("https://x.org/b", without)
    onward = read_list(Page("https://x.org/api?a=1&c=0", b'{"more": {"c": "x|y", "n": 3}}'), by_id).next
    assert onward == ["https://x.org/api?a=1&c=x%7Cy&n=3"]
