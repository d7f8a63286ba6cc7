"""How the photo site writes its pages: the markup of each design, by name."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from crawl.redesign import list_2024, page_2024
from crawl.site import Plane, link, slug


def list_2020(shown: Sequence[Plane]) -> str:
    """All of a photograph in its list: links whose addresses say what they are."""
    return "".join(
        f'<div id="{p.id}" class="photo"><div class="photo__intrinsic"><div class="photo__intrinsic_item">'
        f'<img src="{p.image}" alt=""></div></div>'
        f'<a href="/photo/{p.id}">photo</a>'
        f"{link(f'/airline/{slug(p.airline)}', p.airline)}"
        f"{link(f'/photos/manufacturer/{slug(p.constructor)}', p.constructor)}"
        f"{link(f'/photos/aircraft/{slug(p.constructor)}/{slug(p.model_type)}', p.model_type)}"
        f"{link(f'/photos/reg/{slug(p.registration)}', p.registration)}"
        f"{link(f'/photographer/{slug(p.photographer)}', p.photographer)}</div>"
        for p in shown
    )


def list_2021(shown: Sequence[Plane]) -> str:
    """Cards that lead to a page for each photograph."""
    cards = "".join(
        f'<a href="/photo/{p.id}/{slug(p.registration)}-{slug(p.airline)}-{slug(p.model_type)}">'
        f'<img src="/thumbs/{p.id}.jpg" alt="{html.escape(p.registration)}"></a>'
        for p in shown
    )
    return f'<section class="photo_card__grid">{cards}</section>'


def page_2021(p: Plane) -> str:
    return (
        f'<h1 class="photo_card__title">{html.escape(p.registration)}</h1>'
        f'<div class="photo_large__container"><img src="{p.image}" alt="{html.escape(p.airline)} {p.model_type}"></div>'
        f'<div class="photo_card__data_airline"><a href="/airline/{slug(p.airline)}">{html.escape(p.airline)}</a></div>'
        f'<ul><li><b>Built by</b> <a href="/production-list/{slug(p.constructor)}">{p.constructor}</a></li>'
        f'<li><b>Type</b> <a href="/production-list/{slug(p.constructor)}/{slug(p.model_type)}">{p.model_type}</a></li>'
        "</ul>"
        f'<span class="photo_card__data_photographer">{html.escape(p.photographer)}</span>'
    )


LISTS: dict[str, Callable[[Sequence[Plane]], str]] = {"2020": list_2020, "2021": list_2021, "2024": list_2024}
PAGES: dict[str, Callable[[Plane], str]] = {"2020": page_2021, "2021": page_2021, "2024": page_2024}
