"""`mirabelle crawl --check`: a few pages, and where each field was found on them. [the web]"""

from __future__ import annotations

import io

from rich.console import Console as RichConsole
from rich.table import Table

from mirabelle.config import Config
from mirabelle.console import Console
from mirabelle.crawl.asking import Asker
from mirabelle.crawl.crawling import Site, open_site
from mirabelle.crawl.description import Description
from mirabelle.crawl.health import Health
from mirabelle.crawl.reading import read_list, read_photo
from mirabelle.crawl.templates import Address, expand
from mirabelle.errors import BarNotMet

# Of each list page: enough to see whether a way works, and no burden.
OWN_PAGES = 3


def asker(site: Site, config: Config) -> Asker:
    """For a look at a site, by the same rules as a crawl."""
    wanted = config.crawl
    return Asker(
        site.hosts, site.robots, site.user_agent, wanted.delay_seconds, wanted.timeout_seconds, wanted.max_page_bytes
    )


def check(config: Config, console: Console) -> str:
    """Read a few pages and tell by field and way: for how many photographs it found it, and whether all agree.

    Raises:
        BarNotMet: the site is not as it is described.
        UserError: as a crawl does.
        RunFailed: a page cannot be had.
    """
    site = open_site(config, console)
    description = site.description
    ask, health = asker(site, config), Health(description, config.crawl.canary_pages)
    pages = 0
    for template in site.start:
        for address in next(expand(template))[: config.crawl.canary_pages - pages]:
            pages += 1
            console.say(f"looking at {address.url}")
            _look(ask, address, description, health)
    shown = _table(description, health)
    if complaint := health.complaint():
        raise BarNotMet(complaint, (("found", f"of {health.whole.photos} photographs\n{shown}"),))
    return f"{pages} list pages, {health.whole.photos} photographs\n{shown}"


def _look(ask: Asker, address: Address, description: Description, health: Health) -> None:
    listed = read_list(ask.page(address), description)
    health.page(len(listed.photos) + len(listed.links))
    for found in listed.photos:
        health.photo(found)
    for key, url in list(listed.links.items())[:OWN_PAGES]:
        health.photo(read_photo(ask.page(Address(url, address.told)), description, key))


def _table(description: Description, health: Health) -> str:
    tally = health.whole
    table = Table("field", "found", "taken from", "way", "all agree", box=None, pad_edge=False)
    for name, described in description.fields.items():
        for number, way in enumerate(described.ways):
            agree = f"{tally.agree[name]} of {tally.several[name]}" if tally.several[name] and not number else ""
            found = f"{tally.filled[name]} of {tally.photos}" if not number else ""
            table.add_row(name if not number else "", found, str(tally.ways[name, number] or "none"), str(way), agree)
    text = io.StringIO()
    RichConsole(file=text, width=160, markup=False, highlight=False, emoji=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
