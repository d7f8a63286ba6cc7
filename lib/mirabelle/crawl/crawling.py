"""A crawl, carried out: its rules, its journal, its tables, its manifest. [the web, Store]"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirabelle import __version__
from mirabelle.config import Config
from mirabelle.config.stores import store_of
from mirabelle.console import Console
from mirabelle.crawl.addresses import Hosts, hosts_of
from mirabelle.crawl.description import Description, find_description, read_description
from mirabelle.crawl.health import Health
from mirabelle.crawl.journal import Journal
from mirabelle.crawl.progress import Progress, sequences
from mirabelle.crawl.reading import Found
from mirabelle.crawl.robots import Robots, fetcher, user_agent
from mirabelle.crawl.tables import known_images, known_keys, write_tables
from mirabelle.crawl.templates import expand
from mirabelle.errors import BarNotMet, MirabelleError, RunFailed, UserError
from mirabelle.signals import Interrupted, interruption
from mirabelle.storage import Store, absolute, join
from mirabelle.table.lease import Lease, hold
from mirabelle.table.runlog import RunLog, newest_manifests

if TYPE_CHECKING:
    from mirabelle.crawl.spider import PhotoSpider

CHECKOUT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Site:
    """A site as a configuration asks for it.

    Attributes:
        description: of it.
        start: addresses of its lists, the configuration's before the description's own.
        hosts: that may be asked.
        robots: their rules.
        user_agent: what they are told.
        store, output, folder: where what is found goes.
    """

    description: Description
    start: tuple[str, ...]
    hosts: Hosts
    robots: Robots
    user_agent: str
    store: Store
    output: str
    folder: str


def description_folders() -> tuple[Path, ...]:
    """Where descriptions are found by their names: here, and in this Mirabelle's own checkout."""
    return Path("conf/sites"), CHECKOUT / "conf" / "sites"


def open_site(config: Config, console: Console) -> Site:
    """A site with its rules, which are told where a person should know them; nothing is asked of it yet.

    Raises:
        ConfigError: the description cannot be read.
        UserError: its terms forbid it and no permission is given, or nobody is named to write to.
    """
    wanted = config.crawl
    description = read_description(find_description(wanted.site, description_folders()))
    told = description.site
    if told.terms and not wanted.permission:
        where = f" ({told.terms.url})" if told.terms.url else ""
        raise UserError(
            f"{told.terms.sentence}{where}; if you may nevertheless, say on what ground with crawl.permission, which is"
            " kept in the run's manifest"
        )
    agent = user_agent(wanted.contact, __version__)
    start = wanted.start or description.start
    if told.governed_by:
        console.say(f"robots.txt is not asked: {told.governed_by}")
    try:
        hosts = hosts_of(description, start)
    except ValueError as error:
        raise UserError(f"crawl.start: {error}") from error
    output = absolute(config.output)
    robots = Robots(fetcher(agent, wanted.timeout_seconds), bool(told.governed_by))
    folder = join(output, "crawl", told.name)
    return Site(description, start, hosts, robots, agent, store_of(config, output), output, folder)


def crawl(config: Config, console: Console, full: bool = False, break_lease: bool = False) -> list[tuple[str, str]]:
    """Fetch a site's new photographs into ``<output>/crawl/<site>/``.

    Args:
        config: its ``crawl`` part says from where.
        console: for progress.
        full: read all lists to their end, also past photographs that are known.
        break_lease: take the output from a run that is believed dead.

    Returns:
        (name, text) lines of what was done.

    Raises:
        UserError: see ``open_site``; or robots.txt does not allow a start address.
        OutputInUse: another run or crawl is at work on the output.
        BarNotMet: the site is no longer as described, or too much of it could not be had; what was found is kept.
        RunFailed: its robots.txt cannot be had.
    """
    site = open_site(config, console)
    runlog = RunLog(site.store, site.output, "crawl", config.masked())
    with hold(site.store, site.output, runlog.run_id, "crawl", break_lease) as lease:
        runlog.update(site=site.description.site.name, layout=site.description.site.layout, user_agent=site.user_agent)
        runlog.update(permission=config.crawl.permission, description=site.description.model_dump(mode="json"))
        runlog.write()
        with _recording(runlog):
            for template in site.start:
                _refuse_forbidden(site, next(expand(template))[0].url)
            return _carry_out(site, config, console, runlog, lease, full)


def _refuse_forbidden(site: Site, url: str) -> None:
    if refusal := site.hosts.refusal(url):
        raise UserError(f"{url} is not asked: {refusal}")
    if not site.robots.allows(url):
        raise UserError(f"{url} is not asked: its host's robots.txt does not allow it; take another start address")


def _carry_out(
    site: Site, config: Config, console: Console, runlog: RunLog, lease: Lease, full: bool
) -> list[tuple[str, str]]:
    # Twisted marks classes of Python's own, which pyspark.ml cannot bear: loaded by a crawl alone.
    from mirabelle.crawl.spider import Bounds, PhotoSpider, Rules
    from mirabelle.crawl.web import fetch_all

    wanted = config.crawl
    journal = Journal(site.store, site.folder, runlog.run_id)
    begun = next(journal.events(), None)
    if begun is None:
        journal.add("begin", at=runlog.manifest["started"], run=runlog.run_id)
        # With a crawl's first page in the same segment it would not be known when that one began.
        journal.flush()
    else:
        console.say(f"going on with the crawl that run {begun['run']} began")
    known = known_keys(site.store, site.folder, site.description, begun["at"] if begun else None)
    progress = Progress(sequences(map(expand, site.start)), known, wanted.max_depth, full)
    if full:
        progress.images = known_images(site.store, site.folder)
    health = Health(site.description, wanted.canary_pages, _last_good(site, runlog) if wanted.compare else None)
    for event in journal.events() if begun else ():
        progress.apply(event)
        for photo in _photos(event):
            health.whole.add(photo)
    rules = Rules(site.hosts, site.robots, wanted.delay_seconds, wanted.tries, wanted.retry_seconds)
    bounds = Bounds(
        wanted.max_page_bytes,
        wanted.max_image_bytes,
        config.decode.max_pixels,
        wanted.max_pages,
        wanted.max_images,
        wanted.canary_pages,
    )
    spider = PhotoSpider(site.description, rules, bounds, progress, journal, health)
    stored, failed = progress.stored, progress.failed
    ended: BaseException | None = None
    with runlog.time("fetch"):
        try:
            fetch_all(spider, site.user_agent, wanted.timeout_seconds, console)
        except Interrupted as error:
            ended = error
    journal.flush()
    lease.check()
    with runlog.time("tables"):
        total = write_tables(site.store, site.folder, site.description, journal.events)
    counts = {
        "pages": progress.pages,
        "photos": total,
        "new": progress.stored - stored,
        "failures": progress.failed - failed,
        "list_pages_failed": spider.counts.lists_failed,
        "requests": spider.counts.requests,
        "received_bytes": spider.counts.received_bytes,
    }
    runlog.update(counts=counts, failures=dict(spider.counts.failures), fields=health.whole.summary(site.description))
    if ended:
        raise ended
    problems = _problems(spider, progress, wanted.max_failure_share)
    summary = _summary(site, spider, progress, counts, runlog)
    if problems:
        # The journal stays: the same command goes on with what could not be had.
        runlog.update(failed_bars=problems)
        raise BarNotMet("; ".join(problems), tuple(summary))
    journal.close()
    runlog.finish("done")
    return summary


def _photos(event: dict[str, Any]) -> Iterator[Found]:
    found = event["photos"] if event["event"] == "page" else [event] if event["event"] == "photo" else []
    for one in found:
        yield Found(one["key"], one["values"], one["ways"], one["agree"], tuple(one["odd"]))


def _problems(spider: PhotoSpider, progress: Progress, max_share: float) -> list[str]:
    counts, found = spider.counts, []
    if counts.complaint:
        found.append(
            f"the site is no longer as {spider.description.site.name} {spider.description.site.layout} describes it:"
            f" {counts.complaint}; mirabelle crawl --check shows more, and --repair looks for where the fields are now"
        )
    elif counts.lists_failed:
        found.append(f"{counts.lists_failed} list pages could not be had, so photographs may be missing; run it again")
    done = progress.stored + progress.failed
    if done and progress.failed / done > max_share and not counts.complaint:
        found.append(
            f"{progress.failed:,} of {done:,} photographs could not be had, more than crawl.max_failure_share"
            f" ({max_share:.0%}); failures.parquet says why"
        )
    return found


def _summary(
    site: Site, spider: PhotoSpider, progress: Progress, counts: dict[str, int], runlog: RunLog
) -> list[tuple[str, str]]:
    failures = ", ".join(f"{code} {n:,}" for code, n in spider.counts.failures.items())
    seconds = runlog.manifest["seconds"].get("fetch", 0.0)
    delay = spider.rules.delay_seconds
    delays = [max(delay, site.robots.delay_seconds(url)) for template in site.start for url in [_first(template)]]
    least = counts["requests"] * max(delays, default=delay)
    lines = [
        ("pages", f"{counts['pages']:,}"),
        ("photos", f"{counts['photos']:,}, {counts['new']:,} of them new"),
        ("failures", f"{counts['failures']:,}" + (f" ({failures})" if failures else "")),
        (
            "time",
            f"{seconds:,.0f} s for {counts['requests']:,} requests; {max(delays, default=delay):g} s between them alone"
            f" are {least:,.0f} s",
        ),
        ("table", join(site.folder, "photos.parquet")),
    ]
    if spider.counts.bound:
        lines.append(("ended", f"by {spider.counts.bound}; the lists go on"))
    return lines


def _first(template: str) -> str:
    return next(expand(template))[0].url


def _last_good(site: Site, runlog: RunLog) -> dict[str, Any] | None:
    """The shares of the newest crawl of this site, by this layout, that ended well."""
    for manifest in newest_manifests(site.store, site.output):
        if manifest["run_id"] == runlog.run_id or manifest.get("command") != "crawl":
            continue
        same = (manifest.get("site"), manifest.get("layout")) == (
            site.description.site.name,
            site.description.site.layout,
        )
        if same and manifest.get("status") == "done" and manifest.get("counts", {}).get("new"):
            found: dict[str, Any] = manifest.get("fields", {})
            return found
    return None


@contextmanager
def _recording(runlog: RunLog) -> Iterator[None]:
    """Whatever ends the block early ends the manifest, too."""
    try:
        yield
    except BaseException as error:
        interrupted = interruption(error)
        code = getattr(interrupted or error, "exit_code", 1)
        # The output may be what failed; the first error tells more.
        with suppress(MirabelleError):
            runlog.finish("interrupted" if interrupted else "failed", str(interrupted or error), code)
        if interrupted:
            interrupted.add_note("what was fetched is kept, and the same command goes on from there")
        if isinstance(error, MirabelleError) or interrupted or not isinstance(error, Exception):
            raise
        raise RunFailed(f"the crawl broke ({type(error).__name__}: {error}); what it fetched is kept") from error
