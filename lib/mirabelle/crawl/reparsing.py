"""`mirabelle crawl --reparse`: archived pages read again by a changed description; nothing is asked for. [Store]"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mirabelle.config import Config
from mirabelle.config.stores import store_of
from mirabelle.console import Console
from mirabelle.crawl.archive import archived_pages, archives
from mirabelle.crawl.crawling import description_folders
from mirabelle.crawl.description import Description, find_description, read_description
from mirabelle.crawl.health import Tally
from mirabelle.crawl.page import Page
from mirabelle.crawl.reading import Found, key_of_link, key_of_row, read_list, read_photo
from mirabelle.crawl.tables import PHOTOS, replace_photos, rows_of
from mirabelle.errors import OutputError
from mirabelle.storage import Store, absolute, join
from mirabelle.table.lease import hold
from mirabelle.table.runlog import RunLog


def reparse(config: Config, console: Console, break_lease: bool = False) -> list[tuple[str, str]]:
    """Read all archived pages of a site anew, and bring what its table says of photographs up to date.

    Photographs whose picture is not here are left for the next crawl, and those that are on no archived page stay as
    they are.

    Raises:
        OutputError: no page was archived.
    """
    description = read_description(find_description(config.crawl.site, description_folders()))
    output = absolute(config.output)
    store = store_of(config, output)
    folder = join(output, "crawl", description.site.name)
    paths = archives(store, folder)
    if not paths:
        raise OutputError(f"{folder} has no archived pages; crawl the site first")
    runlog = RunLog(store, output, "reparse", config.masked())
    with hold(store, output, runlog.run_id, "reparse", break_lease):
        runlog.write()
        tally, found = Tally(), dict[str, dict[str, Any]]()
        pages = 0
        for page in archived_pages(store, paths):
            pages += 1
            for photo in read_any(page, description):
                tally.add(photo)
                found[photo.key] = photo.values
        console.say(f"{pages:,} archived pages tell of {len(found):,} photographs")
        changed, total = replace_photos(store, folder, description, found)
        without = len(found) - _here(store, folder, description, found)
        runlog.update(counts={"pages": pages, "photos": total, "changed": changed}, fields=tally.summary(description))
        runlog.finish("done")
    return [
        ("pages", f"{pages:,} read again"),
        ("photos", f"{total:,}, {changed:,} of them changed"),
        ("to come", f"{without:,} whose pictures are not here yet; mirabelle crawl --full fetches them"),
    ]


def read_any(page: Page, description: Description) -> Iterator[Found]:
    """The photographs of an archived page, be it a list or a photograph's own."""
    if not description.has_own_pages:
        yield from (found for found in read_list(page, description).photos if not found.missing(description))
        return
    found = read_photo(page, description, key_of_link(page.url, description))
    if not found.missing(description):
        yield found


def _here(store: Store, folder: str, description: Description, found: dict[str, Any]) -> int:
    return sum(key_of_row(row, description) in found for row in rows_of(store, join(folder, PHOTOS)))
