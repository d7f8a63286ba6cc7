"""Places where known values stand: the most stable one that is right, and silent where nothing is."""

import pytest

from mirabelle.crawl.finding import Part
from mirabelle.crawl.mining import Known, plain, propose
from mirabelle.crawl.page import Page

AIRLINES = ["Air France", "KLM Royal Dutch", "ANA", None, "Qantas", "Emirates"]


def known(*bodies: str) -> list[Known]:
    parts = [Part(Page(f"https://x.org/photo/{number}", body.encode())) for number, body in enumerate(bodies)]
    return [Known(part, {"airline": airline}) for part, airline in zip(parts, AIRLINES, strict=False)]


def pages(template: str) -> list[Known]:
    bodies = []
    for airline in AIRLINES:
        value = airline or ""
        bodies.append(template.replace("NAME", value).replace("SLUG", value.lower().replace(" ", "-")))
    return known(*bodies)


@pytest.mark.parametrize(
    ("template", "way"),
    [
        ('<i>x</i><span itemprop="operator" class="q1">NAME</span>', 'css: span[itemprop="operator"]'),
        ('<a href="/airline/SLUG" class="x9">NAME</a>', "css: a[href*='/airline/']"),
        ('<p id="operator">NAME</p>', "css: #operator"),
        ('<b class="op">NAME</b>', "css: .op"),
        (
            "<dl><dt>Type</dt><dd>A320</dd><dt>Operator</dt><dd>NAME</dd></dl>",
            'xpath: .//dt[normalize-space()="Operator"]/following-sibling::dd[1]',
        ),
        (
            "<table><tr><th>Type</th><td>A320</td></tr><tr><th>Operator</th><td>NAME</td></tr></table>",
            'xpath: .//th[normalize-space()="Operator"]/following-sibling::td[1]',
        ),
        ('<meta name="operator" content="NAME"><p>text</p>', "meta: operator"),
        ('<div class="card" data-operator="NAME">x</div>', "css: [data-operator]::attr(data-operator)"),
        ('<p class="by">flown by NAME</p>', "css: .by"),
    ],
)
def test_each_kind_of_place(template: str, way: str) -> None:
    best = propose(pages(template), "airline")[0]
    assert (best.right, best.wrong, best.of, best.exact, best.amiss) == (5, 0, 5, 5, 0.0)
    assert str(best.way) == way


def test_a_slug_is_the_last_resort_and_its_spelling_is_learnt() -> None:
    first, *others = propose(pages('<a href="/airline/SLUG" class="x"><img src="x.png"></a>'), "airline")
    assert (first.right, first.exact) == (5, 5)
    assert first.way.clean[0].regex == "/airline/([^/?#]+)"
    assert first.way.clean[-1].map == {"Ana": "ANA", "Klm Royal Dutch": "KLM Royal Dutch"}
    assert {one.exact for one in others} == {0}


def test_what_is_there_for_every_photograph_says_nothing() -> None:
    assert propose(pages("<p>no airline here</p>"), "airline") == []
    others = propose(pages('<a class="op">NAME</a><a class="op">Qantas</a>'), "airline")[0]
    assert others.amiss == 1.0, "where there is none it finds another"


def test_names_are_compared_with_their_form_in_addresses() -> None:
    assert plain("KLM Royal-Dutch") == plain("klm%20royal_dutch")
