"""A description with what was found in the place of what no longer holds. Touches nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mirabelle.crawl.description import Description, Way, description_of
from mirabelle.crawl.mining import Proposal


@dataclass
class Repaired:
    """What was found.

    Attributes:
        photos: ways to a photograph's part of a page.
        links: ways from a list to photographs' own pages; empty: the lists have all.
        fields: ways by field, the best first.
        id_way: to a photograph's number.
        hosts: of pictures and pages, that the description does not have.
        pages, photographs: on how many pages how many known photographs were found.
    """

    photos: list[Way]
    links: list[Way]
    fields: dict[str, list[Proposal]]
    id_way: Way | None
    hosts: set[str]
    pages: int
    photographs: int


def rewritten(description: Description, found: Repaired) -> dict[str, Any]:
    """The description with what was found in the place of what no longer holds; as plain values."""
    plain = _as_yaml(description)
    plain["site"]["layout"] = f"{description.site.layout}-repaired"
    known = {*description.site.hosts}
    plain["site"]["hosts"] = sorted({*known, *(host for host in found.hosts if host)})
    plain.pop("photos", None)
    if found.photos:
        plain["photos"] = [_way(way) for way in found.photos]
    follow = plain.get("follow", {})
    follow.pop("photo", None)
    if found.links:
        follow["photo"] = [_way(way) for way in found.links]
    if follow:
        plain["follow"] = follow
    for name, proposals in found.fields.items():
        if not proposals:
            continue
        # A fallback speaks only where the first is silent, so it must be silent where there is nothing; one that is
        # right as the first of several, or cut out of an address or a longer text, seldom is.
        surer = (one for one in proposals[1:] if one.precision >= 0.98 and one.amiss < 0.2 and one.several < 0.2)
        surer = (one for one in surer if not any(step.regex for step in one.way.clean))
        chosen = [proposals[0], *(one for one in surer if one.recall > 0.5 and one.exact >= 0.9 * one.right)][:3]
        required = {"required": True} if name == "image_url" else {}
        plain["fields"][name] = {**required, "ways": [_way(one.way) for one in chosen]}
    if found.id_way and "id" in plain["fields"]:
        plain["fields"]["id"] = {"required": True, "ways": [_way(found.id_way)]}
    if found.links:
        plain["fields"].pop("page_url", None)
    description_of(plain, "the repaired description")
    return plain


def _as_yaml(description: Description) -> dict[str, Any]:
    """As a person writes it: ways by their kind, nothing that is not set."""
    plain: dict[str, Any] = description.model_dump(mode="json", exclude_defaults=True)
    plain["fields"] = {
        name: {
            **({"required": True} if described.required else {}),
            "ways": [_way(way) for way in described.ways],
            **({"clean": [_step(step) for step in described.clean]} if described.clean else {}),
        }
        for name, described in description.fields.items()
    }
    for kind in ("photos", "busy", "error"):
        if kind in plain:
            plain[kind] = [_way(way) for way in getattr(description, kind)]
    if "follow" in plain:
        plain["follow"] = {kind: [_way(way) for way in getattr(description.follow, kind)] for kind in plain["follow"]}
    plain["start"] = list(description.start)
    return plain


def _way(way: Way) -> dict[str, Any]:
    return {way.kind: way.expression, **({"clean": [_step(step) for step in way.clean]} if way.clean else {})}


def _step(step: Any) -> Any:
    told = step.model_dump(exclude_none=True)
    return told.get("word") or told
