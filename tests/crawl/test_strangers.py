"""Redesigns that nobody had in mind who wrote the repair, and pages that mean ill."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler

import pytest

from crawl import layouts, strangers
from crawl.conftest import Place
from crawl.site import FAULTS, Site, document, planes, send
from crawl.site import HOSTILE as HOSTILE_NAMES
from crawl.truth import seen

# Each crawls twice, and looks at pages that are meant to take long.
pytestmark = pytest.mark.long

NUMBER = 112
FIELDS = ("constructor", "model_type", "airline")
# Without a type the crumbs move up, and what stands third is the registration.
POSITION = {("press", "model_type")}


@pytest.fixture(autouse=True)
def designs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, written in strangers.LISTS.items():
        monkeypatch.setitem(layouts.LISTS, name, written)
        monkeypatch.setitem(layouts.PAGES, name, strangers.PAGES[name])


# Two of them always, the others by name.
@pytest.mark.parametrize(
    "later",
    [pytest.param(name, marks=[pytest.mark.full] if i > 1 else []) for i, name in enumerate(strangers.LISTS)],
)
def test_a_strange_redesign_is_repaired(later: str, place: Place, drawn: list[bytes]) -> None:
    shown = planes(NUMBER, faulty=True)
    described = place.describe("planespotters-2020")
    with Site(drawn, shown, per_page=16, later=later, switch=3) as site:
        done = place.run(site, described)
        assert done.code == 1, done.stderr
        kept = set(place.photos["id"])
        site.layout = later
        repaired = place.run(site, described, "--repair", "--quiet")
        assert repaired.code == 0, repaired.stderr
        for name in FIELDS:
            assert re.search(rf"^{name}: .*precision 100.0%, recall (100|9)", repaired.stdout, re.MULTILINE), name
        # Three of the "related" ones are no longer there.
        proposal = described.with_name("planespotters-2020.repaired.yaml")
        done = place.run(site, proposal, "crawl.max_failure_share=0.1")
        assert done.code == 0, done.stderr
    photos = place.photos
    assert not photos["id"].duplicated().any()
    truth = {plane.id: plane for plane in shown if not plane.fault}
    assert set(photos["id"]) == set(truth)
    for name in FIELDS:
        told = {i: value for i, value in zip(photos["id"], photos[name], strict=True) if i not in kept}
        is_whole = {i: all(getattr(truth[i], each) for each in FIELDS) for i in told}
        right = {i: value == seen(getattr(truth[i], name)) for i, value in told.items()}
        whole = [right[i] for i in told if is_whole[i]]
        assert sum(whole) >= 0.99 * len(whole) > 40, name
        # Where the site does not tell all, nothing is better than something else.
        wrong = [i for i, value in told.items() if value and not right[i]]
        assert not wrong or (later, name) in POSITION
    lost = place.failures[place.failures["url"].str.contains(r"/1\d{5}\.jpg", regex=True)]
    assert sorted(lost["code"]) == sorted(FAULTS[plane.fault] for plane in shown if plane.fault)


def cards() -> bytes:
    return document(layouts.LISTS["2024"](planes(24, faulty=False)), None).encode()


HOSTILE = {
    "deep": b"<div>" * 50_000 + cards(),
    "large": cards() + b'<p class="x">Boeing 747 of KLM, 100003</p>' * 110_000,
    "nothing": b"",
    "nul": cards().replace(b"a", b"a\x00"),
    "bytes": cards().replace(b"e", b"\xff\xfe\xe9"),
    "attribute": b'<p title="' + b"x y " * 300_000 + b'" data-all="' + b"100001 " * 150_000 + b'">' + cards(),
    "brackets": b"<" * 100_000 + cards(),
    "json": b'<script type="application/json" id="x">' + b"[" * 200_000 + b"</script>" + cards(),
    "addresses": cards().replace(b'href="/', b'href="http://[::1'),
    "classes": cards().replace(b'class="', b"class=\"&quot;'\\]) .* "),
    "script": cards().replace(b"<figcaption", b"<script>document.write('<figure>')</script><figcaption"),
}


@dataclass
class Hostile(Site):
    """Answers with something else, once it has a mind to."""

    bodies: list[bytes] = field(default_factory=list)

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        if self.bodies and to.path.startswith("/photo"):
            number = int(re.findall(r"\d+", to.path)[0])
            return send(to, 200, self.bodies[number % len(self.bodies)], "text/html; charset=utf-8")
        return super().answer(to)


@pytest.mark.parametrize("follows", [False, True])
def test_hostile_pages_are_looked_at_and_one_sentence_is_said(follows: bool, place: Place, drawn: list[bytes]) -> None:
    described = place.describe("planespotters-2020")
    named = [replace(p, airline=HOSTILE_NAMES[p.number % 6]) if p.number % 4 == 1 else p for p in planes(24, False)]
    with Hostile(drawn, named, per_page=2) as site:
        done = place.run(site, described)
        assert done.code == 0, done.stderr
        site.bodies = list(HOSTILE.values())
        if follows:
            described.write_text(described.read_text() + '\nfollow:\n  photo: [{css: "a::attr(href)"}]\n')
        for option in ("--check", "--repair"):
            done = place.run(site, described, option, f"crawl.canary_pages={len(HOSTILE)}", "--quiet")
            assert done.code in (0, 1, 2)
            assert done.seconds < 30, option
            errors = [line for line in done.stderr.splitlines() if not line.startswith(("warning: ", "  "))]
            assert len(errors) == (done.code > 0), done.stderr
