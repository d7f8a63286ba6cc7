"""What is known of a site, as data: where photographs are listed, and where each of their fields stands. Disk only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import jmespath
import yaml
from cssselect import SelectorError
from lxml.etree import XPathError
from parsel import Selector
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from mirabelle.config.section import Section
from mirabelle.crawl.cleaning import Step
from mirabelle.crawl.templates import expand
from mirabelle.errors import ConfigError
from mirabelle.schema import PATH, PHOTO_FACTS

Kind = Literal["css", "xpath", "json", "jsonld", "meta", "microdata", "url", "start"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Way(Section):
    """One of the places where a value may be found."""

    kind: Kind
    expression: str
    clean: tuple[Step, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_its_kind(cls, given: Any) -> Any:
        """``css: "h1::text"``, with ``clean`` beside it where there is any."""
        if not isinstance(given, dict) or "kind" in given:
            return given
        named = [key for key in given if key in KINDS]
        if len(named) != 1 or set(given) - {*named, "clean"}:
            raise ValueError(
                f"a way is one of {', '.join(KINDS)}, and clean beside it, not {', '.join(map(str, given))}"
            )
        return {"kind": named[0], "expression": given[named[0]], "clean": given.get("clean", ())}

    @model_validator(mode="after")
    def _can_be_tried(self) -> Way:
        try:
            if self.kind == "css":
                Selector("<p/>").css(self.expression)
            elif self.kind == "xpath":
                Selector("<p/>").xpath(self.expression)
            elif self.kind == "json":
                jmespath.compile(self.expression)
            elif self.kind == "url":
                re.compile(self.expression)
        except (SelectorError, XPathError, ValueError, re.error, jmespath.exceptions.JMESPathError) as error:
            raise ValueError(f"{self.kind} {self.expression!r} cannot be read: {error}") from None
        return self

    def __str__(self) -> str:
        return f"{self.kind}: {self.expression}"


def _list(given: Any) -> Any:
    return [given] if isinstance(given, dict) else given


Ways = Annotated[tuple[Way, ...], BeforeValidator(_list)]


class Described(Section):
    """A field of a photograph."""

    ways: Ways = Field(min_length=1, description="Tried in this order; the first that finds a value is taken.")
    clean: tuple[Step, ...] = Field((), description="Done to what any of them finds, after its own steps.")
    required: bool = Field(False, description="A photograph without it is a failure, no row.")

    @model_validator(mode="before")
    @classmethod
    def _of_ways_alone(cls, given: Any) -> Any:
        return {"ways": given} if isinstance(given, list) else given


class Expectation(Section):
    """What must hold of a field for the site to be the one described."""

    filled: float = Field(0.0, ge=0, le=1, description="Share of the photographs that have it.")
    matches: str | None = Field(None, description="A pattern for the whole value; one that does not fit is no value.")
    agrees: float = Field(
        0.0, ge=0, le=1, description="Where several ways find a value: the share of photographs for which all agree."
    )


class Terms(Section):
    """What a site's own terms say."""

    sentence: str = Field(description="What they forbid, in one sentence.")
    url: str | None = None


class Site(Section):
    """A site, and its rules."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Of its folder, OUT/crawl/<name>.")
    layout: str = Field("1", description="Which of its designs is described; the column `layout`.")
    about: str = ""
    hosts: tuple[str, ...] = Field((), description="That may be asked, besides those of the start addresses.")
    at_once: int = Field(2, ge=1, le=2, description="Requests to a host at the same time.")
    terms: Terms | None = Field(None, description="Terms that forbid the use, unless crawl.permission says why not.")
    governed_by: str | None = Field(
        None,
        description="The policy that governs its use in robots.txt's place, in one sentence; that is then not asked.",
    )


class Follow(Section):
    """Links."""

    photo: Ways = Field((), description="To the photographs' own pages.")
    next: Ways = Field((), description="To the next page of the list.")
    parameters: Ways = Field((), description="An object whose entries ask for the next page: an API's `continue`.")


class Description(Section):
    """A whole description."""

    site: Site
    start: tuple[str, ...] = Field(min_length=1, description="Addresses of lists: {page:1..125}, {word:one|other}.")
    follow: Follow = Follow()
    photos: Ways = Field((), description="The parts of a page that are a photograph each; by default the page is one.")
    fields: dict[str, Described]
    expect: dict[str, Expectation] = Field(default_factory=dict)
    busy: Ways = Field((), description="What a page has when the site asks to come back later, as an API's maxlag.")
    error: Ways = Field((), description="What a page has when it is an error under the status 200.")

    @model_validator(mode="after")
    def _is_whole(self) -> Description:
        for template in self.start:
            list(expand(template))
        if "image_url" not in self.fields:
            raise ValueError("fields has no image_url, so no picture could be fetched")
        for name in self.fields:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in {PATH, *PHOTO_FACTS}:
                raise ValueError(
                    f"fields.{name}: lower-case words, and none of those that are found out: {PHOTO_FACTS}"
                )
        unknown = set(self.expect) - set(self.fields)
        if unknown:
            raise ValueError(f"expect names what fields has not: {', '.join(sorted(unknown))}")
        for name, expected in self.expect.items():
            if expected.matches is not None:
                try:
                    re.compile(expected.matches)
                except re.error as error:
                    raise ValueError(f"expect.{name}.matches is no regular expression: {error}") from None
        return self

    @property
    def has_own_pages(self) -> bool:
        """Whether each photograph has a page of its own, to which the lists link."""
        return bool(self.follow.photo)


def find_description(name: str, folders: tuple[Path, ...]) -> Path:
    """The file of a description that is named by its path, or by its name in one of the folders.

    Raises:
        ConfigError: there is none.
    """
    places = [Path(name), *(folder / f"{name}.yaml" for folder in folders)]
    for place in places:
        if place.is_file():
            return place
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise ConfigError(
        f"crawl.site: there is no description {name!r}; give a file, or one of {', '.join(known) or 'none'}"
    )


def read_description(file: Path) -> Description:
    """Read and validate it.

    Raises:
        ConfigError: with every mistake that was found.
    """
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the site description {file}: {error.strerror}; give another") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    return description_of(given, str(file))


def description_of(given: Any, name: str) -> Description:
    """A description of plain values, as YAML has them; ``name`` is for the sentence."""
    if not isinstance(given, dict):
        raise ConfigError(f"{name} has no site, start and fields; see conf/sites")
    try:
        return Description.model_validate(given)
    except ValidationError as error:
        told = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
        raise ConfigError(
            *(f"{name}: {place}: {text}" if place else f"{name}: {text}" for place, text in told)
        ) from None
