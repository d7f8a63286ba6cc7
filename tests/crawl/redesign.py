"""A third design of the photo site: utility classes, a list of facts, JSON-LD, boxes about something else."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

from crawl.site import AIRLINES, Plane, slug


def list_2024(shown: Sequence[Plane]) -> str:
    """Cards with hashed classes; a registration and an airline on each, and counters."""
    cards = "".join(
        f'<li class="flex flex-col _card_1x9dz"><figure class="relative">'
        f'<a class="block" href="/photo/{p.id}/{slug(p.registration)}">'
        f'<img loading="lazy" src="/thumbs/{p.id}_s.webp" alt=""></a>'
        f'<figcaption class="p-2"><strong class="text-lg">{html.escape(p.registration)}</strong>'
        f'<span class="_muted_8sj2k">{html.escape(p.airline)}</span>'
        f'<span class="_count_11a">{p.number * 7 % 400} likes</span></figcaption></figure></li>'
        for p in shown
    )
    return f'<div class="ad">Fly cheap</div><ul class="grid grid-cols-4 _grid_1x9dz">{cards}</ul>'


def page_2024(p: Plane) -> str:
    """A photograph's own page."""
    about = {"@context": "https://schema.org", "@type": "ImageObject", "contentUrl": p.image, "author": p.photographer}
    told = json.dumps(about).replace("<", "\\u003c")
    rows = {"Registration": p.registration, "Manufacturer": p.constructor, "Type": p.model_type, "Operator": p.airline}
    facts = "".join(
        f'<div class="row"><dt class="_k_77">{name}</dt><dd class="_v_77">{html.escape(value)}</dd></div>'
        for name, value in rows.items()
        if value or name == "Type"
    )
    others = "".join(f'<li><a class="chip" href="/operators/{slug(one)}">{one}</a></li>' for one in AIRLINES[:3])
    return (
        f'<script type="application/ld+json">{told}</script>'
        f'<nav class="crumbs"><a href="/">Home</a> / <a href="/photos">Photos</a></nav>'
        f'<figure class="_hero_5d"><img class="w-full" src="{p.image}" alt="photo {p.id}"></figure>'
        f'<dl class="facts">{facts}</dl>'
        f'<p class="by">Photographed by <a class="user" href="/u/{slug(p.photographer)}">'
        f"{html.escape(p.photographer)}</a></p>"
        f'<aside><h2>Other operators</h2><ul>{others}</ul></aside><span class="_count_11a">{p.number * 7 % 400}</span>'
    )
