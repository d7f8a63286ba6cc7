"""Further designs of the photo site, each after another kind of site, with boxes about other things in all of them."""

# ruff: noqa: E501  (markup, as it is sent)

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html import escape

from crawl.site import AIRLINES, MAKERS, Plane, planes, slug

# Photographs that stand beside others, as "related" or "trending"; their numbers are none of the site's.
OTHERS = [
    Plane(800_000 + p.number, p.constructor, p.model_type, p.airline, p.registration, p.photographer)
    for p in planes(9, False)
]
BLANK = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


def others(p: Plane) -> list[Plane]:
    """Two of them, others for each photograph."""
    return [OTHERS[p.number % 9], OTHERS[(p.number + 4) % 9]]


def named(p: Plane) -> str:
    return " ".join(part for part in (p.constructor, p.model_type) if part)


def embedded(what: object) -> str:
    """JSON within a page, as serialisers for pages write it."""
    return json.dumps(what, separators=(",", ":")).replace("<", "\\u003c")


def list_cards(shown: Sequence[Plane]) -> str:
    """Bootstrap: a grid of cards, hashed class names, lazy pictures, icons that say what a line is; one card is an ad."""
    cards = []
    for p in shown:
        award = '<p class="card-text"><span class="badge text-bg-warning">Photo of the day</span></p>'
        cards.append(
            f'<div class="col"><article class="card h-100 PhotoCard_root__x9F3a" data-photo-id="{p.id}"'
            f' data-manufacturer="{slug(p.constructor) if p.constructor else ""}" data-likes="{p.number * 7 % 747}">'
            f'<a class="PhotoCard_link__Q2c" href="/photo/{p.id}-{slug(p.registration)}"><img class="card-img-top lazyload"'
            f' src="{BLANK}" data-src="{p.image}?w=640" data-srcset="{p.image}?w=320 320w, {p.image}?w=640 640w"'
            f' alt="{escape(p.registration)}"></a><div class="card-body">'
            f'<h5 class="card-title PhotoCard_title__k3d">{escape(named(p))}</h5>{award if p.number % 7 == 3 else ""}'
            + (f'<p class="card-text"><i class="bi bi-building"></i> {escape(p.airline)}</p>' if p.airline else "")
            + f'<p class="card-text"><i class="bi bi-person"></i> {escape(p.photographer)}</p></div>'
            f'<div class="card-footer"><small>{p.number * 7 % 747} views</small></div></article></div>'
        )
    ad = (
        '<div class="col"><article class="card h-100 PhotoCard_root__x9F3a PhotoCard_sponsored__aa1">'
        '<a href="https://ads.example/emirates"><img class="card-img-top" src="https://ads.example/emirates.png" alt="Emirates">'
        '</a><div class="card-body"><h5 class="card-title PhotoCard_title__k3d">Fly Emirates A380</h5></div></article></div>'
    )
    cards.insert(len(cards) // 2, ad)
    makers = "".join(
        f'<label class="form-check-label" data-manufacturer="{slug(maker)}">{maker} <span>({len(types) * 401})</span></label>'
        for maker, types in MAKERS.items()
    )
    airlines = "".join(f'<option value="{slug(one)}">{one}</option>' for one in AIRLINES)
    trending = "".join(
        f'<div class="carousel-item" data-photo-id="{p.id}"><img class="d-block" data-src="{p.image}" alt="{p.registration}">'
        f'<div class="carousel-caption"><h5>{named(p)}</h5><p>{p.airline}</p></div></div>'
        for p in OTHERS[:3]
    )
    return (
        f'<div class="carousel slide"><div class="carousel-inner">{trending}</div></div><div class="row">'
        f'<aside class="col-md-3"><form>{makers}<select name="operator" class="form-select">{airlines}</select></form></aside>'
        f'<div class="col-md-9"><div class="row row-cols-4 g-3">{"".join(cards)}</div></div></div>'
    )


def list_table(shown: Sequence[Plane]) -> str:
    """A table of old, facts in definition lists, the maker in the picture's alt text alone, comments in rows between."""
    rows = []
    for p in shown:
        facts = {"Type": p.model_type, "Operator": p.airline, "Reg": p.registration}
        told = "".join(f"<dt>{name}:<dd>{escape(value)}" for name, value in facts.items() if value)
        alt = f"{named(p)} of {p.airline}" if p.airline else named(p)
        rows.append(
            f'<tr bgcolor="#{"eeeeee" if p.number % 2 else "ffffff"}"><td align=center>'
            f'<a href="/photo/{p.id}"><img src="{p.image}" width=200 border=0 alt="{escape(alt)}"></a>'
            f"<td valign=top><dl>{told}</dl><td><font size=-1>Photo &copy; <b>{escape(p.photographer)}</b><br>"
            f"{p.number * 7 % 400} hits</font>"
        )
        if p.number % 5 == 2:
            other = others(p)[0]
            rows.append(
                f"<tr><td colspan=3><i>&quot;Nearly as fine as the {named(other)} of {other.airline}"
                f' (<a href="/photo/{other.id}">{other.registration}</a>)&quot;</i>'
            )
    menu = " | ".join(f'<a href="/browse?maker={maker}">{maker}</a>' for maker in MAKERS)
    best = "".join(
        f'<tr><td><a href="/photo/{p.id}"><img src="{p.image}" width=60 alt="{named(p)} of {p.airline}"></a><td>{p.airline}'
        for p in OTHERS[3:6]
    )
    return (
        f"<center><table width=100% border=0><tr><td colspan=2>{menu}<tr><td width=150 valign=top>"
        f"<table><caption>Top 3</caption>{best}</table><td>"
        f"<table border=1 cellpadding=4><tr><th>Photo<th>Aircraft<th>Credits{''.join(rows)}</table></table></center>"
    )


def list_next(shown: Sequence[Plane]) -> str:
    """A Next.js site's list: cards that JavaScript will fill, with links."""
    cards = "".join(
        f'<a class="css-1q8x" href="/photo/{p.id}?from=list"><div class="css-ratio"><img src="{BLANK}" alt=""></div></a>'
        for p in shown
    )
    told = {"photos": [{"id": int(p.id), "w": 1200} for p in shown], "airlines": AIRLINES, "makers": list(MAKERS)}
    return (
        f'<div id="__next"><div class="css-grid">{cards}</div></div>'
        f'<script id="__NEXT_DATA__" type="application/json">{embedded({"props": {"pageProps": told}, "page": "/photos"})}</script>'
    )


def in_next(p: Plane) -> dict[str, object]:
    return {
        "id": int(p.id),
        "image": {"src": p.image, "w": 1200},
        "aircraft": {
            "manufacturer": {"id": len(p.constructor), "name": p.constructor or None},
            "model": p.model_type or None,
            "registration": p.registration,
        },
        "operator": {"name": p.airline, "iata": None} if p.airline else None,
        "author": {"displayName": p.photographer},
        "likes": p.number * 7 % 400,
    }


def page_next(p: Plane) -> str:
    """A Next.js site's photograph: all of it in the JSON that the page's scripts read, with related ones and filters."""
    told = {
        "filters": {
            "manufacturers": [{"name": maker, "models": types} for maker, types in MAKERS.items()],
            "operators": AIRLINES,
        },
        "related": [in_next(other) for other in others(p)],
        "photo": in_next(p),
    }
    whole = {"props": {"pageProps": told}, "page": "/photo/[id]", "query": {"id": p.id}, "buildId": "Xk2"}
    return (
        f'<meta property="og:image" content="{p.image}"><meta property="og:title" content="{escape(p.registration)}">'
        f'<div id="__next"><div class="css-skeleton"></div></div>'
        f'<script id="__NEXT_DATA__" type="application/json">{embedded(whole)}</script>'
    )


def list_linked(shown: Sequence[Plane]) -> str:
    """A list for search engines: JSON-LD's ItemList, and cards of a component library."""
    items = [
        {"@type": "ListItem", "position": i, "url": f"/photo/{p.id}/{slug(p.registration)}"}
        for i, p in enumerate(shown, 1)
    ]
    cards = "".join(
        f'<mui-card><a href="/photo/{p.id}/{slug(p.registration)}"><picture><source srcset="/thumbs/{p.id}.webp" type="image/webp">'
        f'<img src="/thumbs/{p.id}.jpg" alt="{escape(p.airline)}"></picture></a><button data-id="{p.id}">♥</button></mui-card>'
        for p in shown
    )
    told = embedded({"@context": "https://schema.org", "@type": "ItemList", "itemListElement": items})
    return f'<script type="application/ld+json">{told}</script><section>{cards}</section>'


def page_linked(p: Plane) -> str:
    """Facts within a graph of JSON-LD; what is shown is one sentence of marketing."""
    crumbs = [
        {"@type": "ListItem", "position": i, "name": name}
        for i, name in enumerate(("Home", "Photos", p.registration), 1)
    ]
    craft: dict[str, object] = {"@type": ["Product", "Vehicle"], "name": p.registration, "category": "Aircraft"}
    if p.constructor:
        craft["manufacturer"] = {"@type": "Organization", "name": p.constructor}
    if p.model_type:
        craft["model"] = p.model_type
    graph = [
        {"@type": "BreadcrumbList", "itemListElement": crumbs},
        {"@type": "WebSite", "name": "Spotters", "publisher": {"@type": "Organization", "name": "Spotters Ltd"}},
        {
            "@type": "ImageObject",
            "contentUrl": p.image,
            "creator": {"@type": "Person", "name": p.photographer},
            "about": [craft, {"@type": "Airline", "name": p.airline}] if p.airline else [craft],
        },
    ]
    related = "".join(
        f'<mui-card><a href="/photo/{o.id}/{slug(o.registration)}"><img src="/thumbs/{o.id}.jpg" alt="{o.airline}"></a>'
        f"<b>{o.airline}</b> <i>{named(o)}</i></mui-card>"
        for o in others(p)
    )
    return (
        f'<script type="application/ld+json">{embedded({"@context": "https://schema.org", "@graph": graph})}</script>'
        f'<h1>{escape(p.registration)}</h1><img class="hero" src="{p.image}?fit=cover" alt="">'
        f"<p>Love this? Our prints of Airbus and Boeing aeroplanes ship world wide.</p><section>{related}</section>"
    )


def list_press(shown: Sequence[Plane]) -> str:
    """WordPress: figures with captions, classes that have the post's number, widgets in the side bar."""
    figures = "".join(
        f'<article id="post-{p.id}" class="post-{p.id} type-photo status-publish has-post-thumbnail hentry">'
        f'<figure class="wp-block-image"><a href="/photo/{p.id}-{slug(p.registration)}/" rel="bookmark">'
        f'<img class="attachment-medium wp-image-{p.id}" src="/thumbs/{p.id}-300x200.jpg" alt=""></a>'
        f"<figcaption>{escape(p.registration)} by {escape(p.photographer)}</figcaption></figure></article>"
        for p in shown
    )
    return f'<div class="wp-block-gallery columns-3">{figures}</div>{widgets(OTHERS[6:])}'


def widgets(recent: Sequence[Plane]) -> str:
    makers = "".join(
        f'<li class="cat-item"><a href="/manufacturer/{slug(maker)}/">{maker}</a> ({len(types) * 401})</li>'
        for maker, types in MAKERS.items()
    )
    tags = "".join(f'<a class="tag-cloud-link" href="/airline/{slug(one)}/">{one}</a>' for one in AIRLINES)
    posts = "".join(
        f'<li><a href="/photo/{p.id}-{slug(p.registration)}/">{named(p)}, {p.airline}</a></li>' for p in recent
    )
    return (
        f'<aside class="widget-area"><section class="widget widget_categories"><ul>{makers}</ul></section>'
        f'<section class="widget widget_tag_cloud">{tags}</section>'
        f'<section class="widget widget_recent_entries"><ul>{posts}</ul></section></aside>'
    )


def page_press(p: Plane) -> str:
    """The maker is where a link leads, the type the last but one of the crumbs, the airline beside its label."""
    maker = (
        f'<a class="button" href="/manufacturer/{slug(p.constructor)}/">All of this maker</a>' if p.constructor else ""
    )
    kind = f'<span>{p.model_type}</span> <span class="sep">»</span> ' if p.model_type else ""
    facts = {
        "Registration": p.registration,
        "Airline": p.airline,
        "Seen": "Le Bourget",
        "Views": str(p.number * 7 % 400),
    }
    table = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value)
    before, after = others(p)
    return (
        f'<nav class="breadcrumb"><a href="/">Home</a> <span class="sep">»</span> <a href="/photos">Photos</a>'
        f' <span class="sep">»</span> {kind}<span class="breadcrumb_last">{escape(p.registration)}</span></nav>'
        f'<article id="post-{p.id}" class="post-{p.id} type-photo"><header><h1 class="entry-title">{escape(p.registration)}</h1>'
        f'<span class="byline">by <a class="url fn n" href="/author/{slug(p.photographer)}/">{escape(p.photographer)}</a></span>'
        f'</header><figure class="wp-block-image size-large"><img class="wp-image-{p.id}" src="{p.image}" alt=""'
        f' srcset="{p.image} 1024w, /thumbs/{p.id}-300x200.jpg 300w"><figcaption>Seen at Le Bourget</figcaption></figure>'
        f"<dl>{table}</dl>{maker}</article>"
        f'<nav class="post-navigation"><a href="/photo/{before.id}-x/">« {named(before)}, {before.airline}</a>'
        f' <a href="/photo/{after.id}-x/">{named(after)}, {after.airline} »</a></nav>'
        f'<ol class="comment-list"><li class="comment"><b class="fn">{before.photographer}</b><p>I flew on this one with'
        f" {after.airline}, when {before.airline} still had the {after.model_type}.</p></li></ol>{widgets(OTHERS[6:])}"
    )


def page_bare(p: Plane) -> str:
    """The picture in full, and who sees it; nothing else."""
    return f'<a href="/photos"><img src="{p.image}" alt="{escape(p.registration)}"></a><p>{p.number * 7 % 400} hits</p>'


LISTS: dict[str, Callable[[Sequence[Plane]], str]] = {
    "cards": list_cards,
    "table": list_table,
    "next": list_next,
    "linked": list_linked,
    "press": list_press,
}
PAGES: dict[str, Callable[[Plane], str]] = {
    "cards": page_bare,
    "table": page_bare,
    "next": page_next,
    "linked": page_linked,
    "press": page_press,
}
