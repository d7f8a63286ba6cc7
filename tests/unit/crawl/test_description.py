"""What is known of a site as data: start addresses, ways, steps, and what is told of mistakes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY
from mirabelle.crawl.cleaning import Step, clean
from mirabelle.crawl.crawling import description_folders
from mirabelle.crawl.description import description_of, find_description, read_description
from mirabelle.crawl.explaining import EXAMPLE, explain
from mirabelle.crawl.finding import FINDERS
from mirabelle.crawl.templates import Address, expand
from mirabelle.errors import ConfigError

SMALL: dict[str, Any] = {
    "site": {"name": "site"},
    "start": ["https://example.org/?page={page:1..2}"],
    "fields": {"image_url": [{"css": "img::attr(src)"}]},
}


def test_ranges_are_one_list_and_each_choice_is_one() -> None:
    assert list(expand("https://x.org/{page:3..1}")) == [
        [Address(f"https://x.org/{n}", {"page": str(n)}) for n in (3, 2, 1)]
    ]
    found = list(expand("https://x.org/{maker:a|b}?p={p:1..2}"))
    assert [[address.url for address in one] for one in found] == [
        ["https://x.org/a?p=1", "https://x.org/a?p=2"],
        ["https://x.org/b?p=1", "https://x.org/b?p=2"],
    ]
    assert found[1][0].told == {"maker": "b", "p": "1"}
    assert list(expand("https://x.org/")) == [[Address("https://x.org/", {})]]


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("https://x.org/{page}", "write a place as"),
        ("https://x.org/{a:1..2}/{b:1..2}", "one range an address, and there are 2"),
        ("https://x.org/{a:1..9999999}", "a range of more than 1,000,000"),
    ],
)
def test_a_start_address_that_makes_no_sense(template: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        list(expand(template))


@pytest.mark.parametrize(
    ("steps", "value", "cleaned"),
    [
        (["strip"], "  Air \n France ", "Air France"),
        (["text"], '<a href="/x">Ada &amp; <b>Bob</b></a>', "Ada & Bob"),
        ([{"regex": r"/airline/([^/]+)"}], "https://x.org/airline/klm/", "klm"),
        ([{"regex": r"\d+"}], "no number", None),
        ([{"replace": {"-": " "}}, "title"], "air-france", "Air France"),
        ([{"map": {"B": "Boeing"}}], "B", "Boeing"),
        ([{"map": {"B": "Boeing"}}], "C", "C"),
        ([{"only": {"B": "Boeing"}}], "C", None),
        ([{"date": "%d.%m.%Y"}], "31.12.2020", "2020-12-31"),
        ([{"date": "%d.%m.%Y"}], "32.12.2020", None),
        (["upper"], "a320", "A320"),
        ([], " \t ", None),
    ],
)
def test_steps(steps: list[Any], value: str, cleaned: str | None) -> None:
    assert clean(value, tuple(Step.model_validate(step) for step in steps)) == cleaned


def changed(**parts: Any) -> dict[str, Any]:
    return {**SMALL, **parts}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (changed(fields={"airline": [{"css": "a"}]}), "fields has no image_url"),
        (changed(fields={**SMALL["fields"], "sha256": [{"css": "a"}]}), "fields.sha256: lower-case words, and none of"),
        (changed(fields={**SMALL["fields"], "Up": [{"css": "a"}]}), "fields.Up: lower-case words"),
        (changed(fields={"image_url": [{"css": "a["}]}), "css 'a\\[' cannot be read"),
        (changed(fields={"image_url": [{"xpath": "//["}]}), "xpath '//\\[' cannot be read"),
        (changed(fields={"image_url": [{"json": "a["}]}), "json 'a\\[' cannot be read"),
        (changed(fields={"image_url": [{"url": "("}]}), "url '\\(' cannot be read"),
        (changed(fields={"image_url": [{"css": "a", "xpath": "//a"}]}), "a way is one of css, xpath"),
        (changed(fields={"image_url": [{"css": "a", "clean": ["shout"]}]}), "no step 'shout': there are strip"),
        (changed(fields={"image_url": [{"css": "a", "clean": [{"regex": "("}]}]}), "is no regular expression"),
        (changed(fields={"image_url": []}), "fields.image_url.ways: .* at least 1"),
        (changed(expect={"airline": {}}), "expect names what fields has not: airline"),
        (changed(expect={"image_url": {"matches": "("}}), "expect.image_url.matches is no regular expression"),
        (changed(site={"name": "../x"}), "site.name"),
        (changed(start=["https://x.org/{p}"]), "write a place as"),
        (changed(strat=[]), "strat"),
        ([], "has no site, start and fields"),
    ],
)
def test_mistakes_are_told_with_their_place(given: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        description_of(given, "x.yaml")


def test_files_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_description(tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match="cannot read the site description"):
        read_description(tmp_path)
    with pytest.raises(ConfigError, match="no description 'none'; give a file, or one of bad"):
        find_description("none", (tmp_path,))
    assert find_description("bad", (tmp_path,)) == tmp_path / "bad.yaml"


@pytest.mark.parametrize("file", sorted((REPOSITORY / "conf" / "sites").glob("*.yaml")), ids=lambda file: file.stem)
def test_what_is_shipped_is_whole(file: Path) -> None:
    description = read_description(file)
    assert {"image_url", "constructor", "model_type"} <= set(description.fields)
    assert all(list(expand(template)) for template in description.start)
    assert bool(description.site.terms) == file.stem.startswith("planespotters")
    assert bool(description.site.governed_by) == (file.stem == "commons")


def test_the_explanation_has_all_that_may_be_said() -> None:
    text = explain()
    for word in (*FINDERS, "regex", "governed_by", "parameters", "agrees", "required", "commons"):
        assert f"  {word}" in text or f" {word}" in text
    assert description_of(yaml.safe_load(EXAMPLE), "example").has_own_pages
    assert any(folder.is_dir() for folder in description_folders())
