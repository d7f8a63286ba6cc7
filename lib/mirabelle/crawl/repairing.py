"""`mirabelle crawl --repair`: a description of a site's new design, from photographs known of the old one. [the web]"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from mirabelle.config import Config
from mirabelle.console import Console
from mirabelle.crawl.archive import archived_pages, archives
from mirabelle.crawl.asking import Asker
from mirabelle.crawl.checking import asker
from mirabelle.crawl.crawling import Site, description_folders, open_site
from mirabelle.crawl.description import Described, Way, find_description
from mirabelle.crawl.finding import Part, parts, value_by
from mirabelle.crawl.locating import TOKEN, blocks, links_to, row_of_address, row_of_text, rows_in, tokens_of, way_to_id
from mirabelle.crawl.mining import Known, Proposal, propose
from mirabelle.crawl.page import Page, split_address
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
# Hundreds of ways are tried on each of them.
MAX_OWN_BYTES = 1_000_000
# Elements within elements; all of an element's text is read for each of those that it is in.
MAX_DEPTH = 200
# So many of these in a row that cannot be had, and no more are asked for.
GIVEN_UP = 5
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
    by_token = {token: row for row in rows for token in tokens_of(row)}
    ask = asker(site, config)
    pages = _newest_pages(site, by_token)
    if len({id(row) for page in pages for row in rows_in(page.tree.root, by_token)}) < ENOUGH:
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
    own = [Known(Part(page), row) for page in pages if (row := row_of_address(page.url, by_token))]
    lists = [page for page in pages if not row_of_address(page.url, by_token)]
    known, block_ways = blocks(lists, by_token)
    fields = _fields(known)
    links: list[Way] = []
    told = [name for name in WANTED if any(one.row.get(name) for one in known)]
    if not all(_recall(fields, name) >= 0.9 for name in ("image_url", *told)):
        ways, urls = links_to(lists, by_token)
        own += _own_pages(
            {url: row for url, row in urls.items() if url not in {one.part.page.url for one in own}}, ask, console
        )
        of_own = _fields(own)
        if _worth(of_own) > _worth(fields):
            known, block_ways, links, fields = own, [], ways, of_own
    if not _worth(fields):
        raise RunFailed(
            f"none of the known photographs was found on {len(pages)} pages of the site, so nothing can be proposed;"
            " write its description anew"
        )
    pictures = [one.part.page.joined(v) or "" for one in known for v in [_image(one, fields["image_url"][0].way)] if v]
    hosts = {split_address(url).netloc for url in pictures}
    return Repaired(block_ways, links, fields, way_to_id(known, bool(links)), hosts, len(pages), len(known))


def _own_pages(urls: dict[str, dict[str, Any]], ask: Asker | None, console: Console) -> list[Known]:
    """Photographs' own pages; first some of those that lack something: they tell which ways are silent then."""
    lacking = [url for url, row in urls.items() if not all(row.get(name) for name in WANTED)][: OWN_PAGES // 4]
    if ask is None:
        return []
    found, missed = [], 0
    for url in list(dict.fromkeys([*lacking, *urls]))[:OWN_PAGES]:
        console.say(f"looking at {url}")
        try:
            page = ask.page(Address(url))
            missed = 0
            if len(page.body) <= MAX_OWN_BYTES and _is_flat(page.tree.root):
                found.append(Known(Part(page), urls[url]))
            else:
                console.warn(f"{url} is passed over: it is too large or too deep to look through")
        except RunFailed as error:
            console.warn(str(error))
            missed += 1
            if missed == GIVEN_UP:
                break
    return found


def _is_flat(root: Any) -> bool:
    depths: dict[Any, int] = {}
    for element in root.iter():
        depths[element] = depths.get(element.getparent(), 0) + 1
        if depths[element] > MAX_DEPTH:
            return False
    return True


def _recall(fields: dict[str, list[Proposal]], name: str) -> float:
    return max((one.recall for one in fields.get(name, ())[:1]), default=0.0)


def _worth(fields: dict[str, list[Proposal]]) -> float:
    """How many of the wanted fields were found; none where the pictures were not."""
    return 1 + sum(_recall(fields, name) for name in WANTED) if _recall(fields, "image_url") else 0.0


def _image(one: Known, way: Way) -> str | None:
    return value_by(one.part, way, Described(ways=(way,)))


def _strings(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if isinstance(value, str)}


def _newest_pages(site: Site, by_token: dict[str, dict[str, Any]]) -> list[Page]:
    """Those that the newest crawl has archived, if known photographs are on them, and not the old design's."""
    paths = archives(site.store, site.folder)
    if not paths:
        return []
    newest = paths[-1].rpartition("/")[2].rpartition("-")[0]
    pages = list(archived_pages(site.store, [path for path in paths if f"/{newest}-" in path]))[-MAX_PAGES:]
    changed = [page for page in pages if not parts(page, site.description.photos) or site.description.has_own_pages]
    return changed if any(row_of_text(page.text, by_token) for page in changed) else []


def _asked(ask: Asker, site: Site, pages: int, console: Console) -> list[Page]:
    addresses = [address for template in site.start for address in next(expand(template))][:pages]
    for address in addresses:
        console.say(f"looking at {address.url}")
    return [ask.page(address) for address in addresses]


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
    path = split_address(text).path
    is_named = re.search(r"\.(jpe?g|png|webp|gif|avif)$", path, re.IGNORECASE)
    # With a blank it is a list of addresses, as in srcset.
    if not is_named or "thumb" in path.casefold() or re.search(r"\s", text.strip()):
        return False
    return bool({*tokens_of(one.row)} & {*TOKEN.findall(path.rpartition("/")[2])})


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
