"""`mirabelle crawl --repair`: a description of a site's new design, from photographs known of the old one. [the web]"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import yaml

from mirabelle.config import Config
from mirabelle.console import Console
from mirabelle.crawl.archive import archived_pages, archives
from mirabelle.crawl.asking import Asker
from mirabelle.crawl.checking import asker
from mirabelle.crawl.crawling import Site, description_folders, open_site
from mirabelle.crawl.description import Described, Way, find_description
from mirabelle.crawl.finding import Part, parts, value_by
from mirabelle.crawl.mining import Known, Proposal, propose
from mirabelle.crawl.page import Page
from mirabelle.crawl.rewriting import Repaired, rewritten
from mirabelle.crawl.tables import PHOTOS, rows_of
from mirabelle.crawl.templates import Address, expand
from mirabelle.errors import OutputError, RunFailed
from mirabelle.schema import PHOTO_FACTS
from mirabelle.storage import join

# Photographs' own pages that are asked for, where lists only lead to them.
OWN_PAGES = 40
MAX_PAGES = 200
# Known photographs on archived pages, so that none is asked for.
ENOUGH = 20
# Fewer than this prove little.
FEW = 5
# An address that happens to have a known number in it says nothing if that is short.
LEAST_TOKEN = 4
TOKEN = re.compile(r"[0-9A-Za-z]+")
# Fields that must be found for a list by itself to be enough.
WANTED = ("constructor", "model_type", "airline", "photographer", "registration")


def repair(config: Config, console: Console) -> str:
    """Look on a site's pages for photographs that an earlier crawl has, and write a description of where things stand.

    Returns:
        The proposed ways with their precision and recall, and the file they were written to.

    Raises:
        OutputError: no earlier crawl has photographs.
        RunFailed: none of them is on the pages.
    """
    site = open_site(config, console)
    rows = [_strings(row) for row in rows_of(site.store, join(site.folder, PHOTOS))]
    if not rows:
        raise OutputError(f"{site.folder} has no photographs of an earlier crawl, so nothing is known to look for")
    by_token = {token: row for row in rows for token in _tokens_of(row)}
    ask = asker(site, config)
    pages = _newest_pages(site, by_token)
    if len({id(row) for page in pages for row in _rows_in(page.tree.root, by_token)}) < ENOUGH:
        pages += _asked(ask, site, config.crawl.canary_pages, console)
    found = look(pages, by_token, ask, console)
    file = find_description(config.crawl.site, description_folders())
    target = file.with_name(f"{file.stem.removesuffix('.repaired')}.repaired.yaml")
    repaired = rewritten(site.description, found)
    target.write_text(_header(found) + yaml.safe_dump(repaired, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return f"{_told(found)}\nwritten to {target}; read it, and crawl with --set crawl.site={target}"


def look(pages: Sequence[Page], by_token: dict[str, dict[str, Any]], ask: Asker | None, console: Console) -> Repaired:
    """Find where the known photographs and their values stand on some pages.

    Raises:
        RunFailed: none of the photographs is on them.
    """
    own = [(page, row) for page in pages if (row := _of_address(page.url, by_token))]
    lists = [page for page in pages if not _of_address(page.url, by_token)]
    blocks, block_ways = _blocks(lists, by_token)
    fields = _fields(blocks)
    best = {name: found[0].recall for name, found in fields.items() if found}
    told = [name for name in WANTED if any(one.row.get(name) for one in blocks)]
    is_whole = bool(blocks) and "image_url" in best and all(best.get(name, 0) >= 0.9 for name in told)
    links: list[Way] = []
    if not is_whole:
        links, urls = _links(lists, by_token)
        asked = {page.url for page, _ in own}
        for url, row in list(urls.items())[: OWN_PAGES if ask else 0]:
            if url not in asked and ask is not None:
                console.say(f"looking at {url}")
                try:
                    own.append((ask.page(Address(url)), row))
                except RunFailed as error:
                    console.warn(str(error))
        blocks, block_ways = [Known(Part(page), row) for page, row in own], []
        fields = _fields(blocks)
    if not blocks or "image_url" not in {name for name, found in fields.items() if found}:
        raise RunFailed(
            f"none of the known photographs was found on {len(pages)} pages of the site, so nothing can be proposed;"
            " write its description anew"
        )
    pictures = [
        urljoin(one.part.page.url, str(v)) for one in blocks for v in [_image(one, fields["image_url"][0].way)] if v
    ]
    hosts = {urlsplit(url).netloc for url in pictures}
    return Repaired(block_ways, links, fields, _id_way(blocks, bool(links)), hosts, len(pages), len(blocks))


def _image(one: Known, way: Way) -> str | None:
    return value_by(one.part, way, Described(ways=(way,)))


def _strings(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if isinstance(value, str)}


def _tokens_of(row: dict[str, Any]) -> Iterator[str]:
    """What a photograph is known by in addresses and attributes: its number, and its picture's name."""
    if row.get("id"):
        yield row["id"]
    stem = urlsplit(row["image_url"]).path.rpartition("/")[2].partition(".")[0]
    for token in TOKEN.findall(stem):
        if len(token) >= LEAST_TOKEN and re.search(r"\d", token):
            yield token


def _of_text(text: str, by_token: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    for token in TOKEN.findall(text):
        if len(token) >= LEAST_TOKEN and token in by_token:
            return by_token[token]
    return None


def _of_address(url: str, by_token: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    split = urlsplit(url)
    return _of_text(split.path, by_token) or _of_text(split.query, by_token)


def _newest_pages(site: Site, by_token: dict[str, dict[str, Any]]) -> list[Page]:
    """Those that the newest crawl has archived, if known photographs are on them, and not the old design's."""
    paths = archives(site.store, site.folder)
    if not paths:
        return []
    newest = paths[-1].rpartition("/")[2].rpartition("-")[0]
    pages = list(archived_pages(site.store, [path for path in paths if f"/{newest}-" in path]))[-MAX_PAGES:]
    changed = [page for page in pages if not parts(page, site.description.photos) or site.description.has_own_pages]
    return changed if any(_of_text(page.text, by_token) for page in changed) else []


def _asked(ask: Asker, site: Site, pages: int, console: Console) -> list[Page]:
    addresses = [address for template in site.start for address in next(expand(template))][:pages]
    for address in addresses:
        console.say(f"looking at {address.url}")
    return [ask.page(address) for address in addresses]


def _blocks(lists: Sequence[Page], by_token: dict[str, dict[str, Any]]) -> tuple[list[Known], list[Way]]:
    """The parts of list pages that are a known photograph each, and the way to them."""
    elements: list[tuple[Page, Any]] = []
    for page in lists:
        elements += [(page, element) for element in _highest(page.tree.root, by_token)]
    if not elements:
        return [], []
    selectors: Counter[str] = Counter()
    for _, element in elements:
        selectors.update(set(_block_selectors(element)))
    for selector, _ in sorted(selectors.items(), key=lambda one: (-one[1], len(one[0]))):
        way = Way(kind="css", expression=selector)
        known, mixed = [], 0
        for page in lists:
            for part in parts(page, (way,)):
                rows = {id(row): row for row in _rows_in(part.selector.root, by_token)}
                mixed += len(rows) > 1
                known += [Known(part, row) for row in rows.values()] if len(rows) == 1 else []
        if not mixed and len(known) >= 0.9 * len(elements):
            return known, [way]
    return [], []


def _highest(root: Any, by_token: dict[str, dict[str, Any]]) -> list[Any]:
    """The highest elements that have one known photograph each."""
    rows = {
        element: set(map(id, _rows_in(element, by_token))) for element in root.iter() if isinstance(element.tag, str)
    }
    if len(rows.get(root, ())) < 2:
        return []
    return [e for e, found in rows.items() if len(found) == 1 and len(rows.get(e.getparent(), ())) > 1]


def _rows_in(element: Any, by_token: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in element.iter():
        if isinstance(one.tag, str):
            for name, content in one.attrib.items():
                if name != "class" and (row := _of_text(content, by_token)):
                    yield row


def _block_selectors(element: Any) -> Iterator[str]:
    tag = element.tag
    classes = [one for one in (element.get("class") or "").split() if re.fullmatch(r"[A-Za-z_][\w-]*", one)]
    yield from (f"{tag}.{one}" for one in classes)
    yield from (f"{tag}[{name}]" for name in element.attrib if name.startswith("data-"))
    if element.get("itemtype"):
        yield f"{tag}[itemscope]"
    parent = element.getparent()
    if parent is not None:
        if parent.get("id"):
            yield f"#{parent.get('id')} > {tag}"
        yield from (
            f".{one} > {tag}" for one in (parent.get("class") or "").split() if re.fullmatch(r"[A-Za-z_][\w-]*", one)
        )
        yield f"{parent.tag} > {tag}"


def _links(lists: Sequence[Page], by_token: dict[str, dict[str, Any]]) -> tuple[list[Way], dict[str, dict[str, Any]]]:
    """The way to photographs' own pages, and the addresses of those that are known."""
    urls: dict[str, dict[str, Any]] = {}
    starts: Counter[str] = Counter()
    for page in lists:
        for href in page.tree.css("a::attr(href)").getall():
            url = urljoin(page.url, href)
            row = _of_address(url, by_token)
            if row and not re.search(r"\.(jpe?g|png|webp|gif)$", urlsplit(url).path, re.IGNORECASE):
                urls.setdefault(url, row)
                starts[_until_token(href, by_token)] += 1
    if not starts:
        return [], {}
    start = starts.most_common(1)[0][0]
    kept = {url: row for url, row in urls.items() if start in url}
    return [Way(kind="css", expression=f"a[href*='{start}']::attr(href)")], kept


def _until_token(href: str, by_token: dict[str, dict[str, Any]]) -> str:
    """An address up to the number in it: /photo/ of /photo/123-air-france."""
    path = urlsplit(href).path
    for found in TOKEN.finditer(path):
        if found[0] in by_token:
            return path[: found.start()]
    return path


def _fields(known: Sequence[Known]) -> dict[str, list[Proposal]]:
    names = {name for one in known for name in one.row} - {
        *PHOTO_FACTS,
        "path",
        "page_url",
        "id",
        "licence_url",
        "image_url",
    }
    found = {name: propose(known, name) for name in sorted(names)}
    return {**found, "image_url": propose(known, "image_url", _is_image)}


def _is_image(text: str, one: Known) -> bool:
    """Whether an address is that of a photograph's picture: by its name, or by the photograph's number."""
    path = urlsplit(text).path
    if not re.search(r"\.(jpe?g|png|webp|gif|avif)$", path, re.IGNORECASE) or "thumb" in path.casefold():
        return False
    return bool({*_tokens_of(one.row)} & {*TOKEN.findall(path.rpartition("/")[2])})


def _id_way(known: Sequence[Known], own_pages: bool) -> Way | None:
    """Where a photograph's number stands: in its page's address, or in an attribute."""
    with_id = [one for one in known if one.row.get("id")]
    if not with_id:
        return None
    number = r"\d+" if all(one.row["id"].isdigit() for one in with_id) else r"[\w-]+"
    if own_pages:
        starts: Counter[str] = Counter()
        for one in with_id:
            path = urlsplit(one.part.page.url).path
            if one.row["id"] in path:
                starts[path[: path.index(one.row["id"])]] += 1
        start = starts.most_common(1)[0][0] if starts else "/"
        return Way(kind="url", expression=f"{re.escape(start)}({number})")
    tried: Counter[str] = Counter()
    for one in with_id:
        for element in one.part.selector.root.iter():
            if isinstance(element.tag, str):
                for name, content in element.attrib.items():
                    if one.row["id"] in TOKEN.findall(content) and name != "class":
                        before = content[: content.index(one.row["id"])]
                        place = "" if element is one.part.selector.root else element.tag
                        tried[f"{place}::attr({name})\n{re.escape(before)}({number})"] += 1
    expression, _, pattern = tried.most_common(1)[0][0].partition("\n")
    return Way.model_validate({"css": expression, "clean": [{"regex": pattern}]})


def _told(found: Repaired) -> str:
    few = "; so few prove little" if found.photographs < FEW else ""
    lines = [f"{found.photographs} known photographs on {found.pages} pages{few}"]
    if found.photos:
        lines.append(f"a photograph is {', '.join(map(str, found.photos))}")
    if found.links:
        lines.append(f"lists lead to their own pages by {', '.join(map(str, found.links))}")
    for name, proposals in found.fields.items():
        if not proposals:
            lines.append(f"{name}: not found; what the description says of it is kept")
        for one in proposals[:3]:
            lines.append(
                f"{name}: {one.way}  precision {one.precision:.1%}, recall {one.recall:.1%} of {one.of},"
                f" to the letter {one.exact}"
            )
    return "\n".join(lines)


def _header(found: Repaired) -> str:
    return (
        "# Proposed by `mirabelle crawl --repair` from what an earlier crawl knew of"
        f" {found.photographs} photographs. Read it before you use it.\n\n"
    )
