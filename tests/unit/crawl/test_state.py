"""What is done and left: the journal, the progress made of it, the tables, and a site's health."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from warcio.archiveiterator import ArchiveIterator

from mirabelle.crawl.archive import archived_pages, archives
from mirabelle.crawl.description import description_of
from mirabelle.crawl.health import Health, Tally, _too_low
from mirabelle.crawl.journal import Journal
from mirabelle.crawl.progress import Progress, mark, sequences
from mirabelle.crawl.reading import Found
from mirabelle.crawl.tables import known_keys, rows_of, write_tables
from mirabelle.crawl.templates import expand
from mirabelle.storage import DiskStore

DESCRIPTION = description_of(
    {
        "site": {"name": "site"},
        "start": ["https://x.org/{page:1..4}"],
        "fields": {"image_url": [{"css": "img::attr(src)"}], "airline": [{"css": "b"}, {"css": "i"}]},
        "expect": {"airline": {"filled": 0.8, "agrees": 0.9}},
    },
    "test",
)
AT = "2026-01-02T03:04:05.000006+00:00"


def photo(number: int, **values: str | None) -> dict[str, Any]:
    told = {"image_url": f"https://x.org/{number}.jpg", "airline": "ANA", "page_url": "https://x.org/1", **values}
    return {"key": f"image=https://x.org/{number}.jpg", "values": told, "ways": {}, "agree": {}, "odd": []}


def page(number: int, *numbers: int, onward: tuple[str, ...] = ()) -> dict[str, Any]:
    url = f"https://x.org/{number}"
    return {"sequence": 0, "asked": url, "url": url, "photos": [photo(n) for n in numbers], "links": {}, "next": onward}


def image(number: int) -> dict[str, Any]:
    facts = {"image_url": f"https://x.org/{number}.jpg", "etag": None, "at": AT, "width_px": 4, "height_px": 3}
    return {"key": f"image=https://x.org/{number}.jpg", **facts}


def progress(*known: int, start: str = "https://x.org/{page:1..4}", **more: Any) -> Progress:
    keys = {mark(f"image=https://x.org/{number}.jpg") for number in known}
    return Progress(sequences([expand(start)]), keys, more.pop("max_depth", 100), **more)


def upcoming(of: Progress) -> str | None:
    found = of.next_page()
    return found and found[1].url


def test_pages_follow_one_another_and_known_ones_end_a_list() -> None:
    made = progress(3, 4)
    assert upcoming(made) == "https://x.org/1"
    made.apply({"event": "page", **page(1, 1, 3)})
    assert upcoming(made) == "https://x.org/2"
    assert (made.pending, list(made.photos)) == (1, ["image=https://x.org/1.jpg"])
    made.apply({"event": "page", **page(2, 3, 4)})
    assert upcoming(made) is None
    full = progress(3, 4, full=True)
    full.apply({"event": "page", **page(1, 3, 4)})
    assert (upcoming(full), full.pending) == ("https://x.org/2", 2)


def test_links_to_next_pages_end_where_nothing_is_new() -> None:
    made = progress(start="https://x.org/1")
    made.apply({"event": "page", **page(1, 1, onward=("https://x.org/2",))})
    assert upcoming(made) == "https://x.org/2"
    made.apply({"event": "page", **page(2, 1, onward=("https://x.org/3",))})
    assert upcoming(made) is None
    short = progress(start="https://x.org/1", max_depth=1)
    short.apply({"event": "page", **page(1, 1, onward=("https://x.org/2",))})
    assert upcoming(short) is None


def test_pages_that_were_not_as_described_come_again() -> None:
    made = progress()
    made.apply({"event": "page", **page(1, 1, 2)})
    made.apply({"event": "page", **page(2)})
    made.apply({"event": "failure", "key": "image=https://x.org/9.jpg", "url": ""})
    made.apply({"event": "page", **page(3)})
    made.apply({"event": "suspect", "lists": 2, "missed": {"image=https://x.org/9.jpg": ""}})
    assert upcoming(made) == "https://x.org/2"
    assert made.failed == 0
    assert made.is_new("image=https://x.org/9.jpg")


def test_other_lists_than_an_interrupted_crawl_had() -> None:
    made = progress(start="https://x.org/{page:8..9}")
    made.apply({"event": "page", **page(1, 1, 2)})
    made.apply({"event": "page", **page(9, 3), "sequence": 5})
    assert (upcoming(made), made.pending, made.pages) == ("https://x.org/8", 3, 2)
    made.apply({"event": "page", **page(8, 4)})
    assert upcoming(made) is None, "the other page was read already"


def journal_at(folder: Path, run: str = "run") -> Journal:
    return Journal(DiskStore(), str(folder), run)


def test_a_picture_that_was_noted_and_not_stored_is_not_done(tmp_path: Path) -> None:
    first = journal_at(tmp_path)
    first.add("page", **page(1, 1, 2))
    kept = first.add_image(b"one", "JPEG", **image(1))
    first.flush()
    lost = first.add_image(b"two", "PNG", **image(2))
    first.flush()
    assert (tmp_path / kept["name"]).read_bytes() == b"one"
    # As killed after the segment was written and before its picture was.
    (tmp_path / lost["name"]).unlink()
    second = journal_at(tmp_path)
    assert [event["event"] for event in second.events()] == ["page", "image"]
    # It goes on, is killed again, and what was lost is not taken for stored.
    second.add("failure", key="", url="https://x.org/2")
    second.flush()
    third = journal_at(tmp_path)
    assert [event["event"] for event in third.events()] == ["page", "image", "failure"]
    third.close()
    assert list(journal_at(tmp_path).events()) == []


def test_what_a_killed_crawl_had_half_written_is_no_segment_and_goes(tmp_path: Path) -> None:
    first = journal_at(tmp_path)
    first.add("page", **page(1, 1, 2))
    lost = first.add_image(b"one", "JPEG", **image(1))
    first.flush()
    (tmp_path / lost["name"]).unlink()
    halves = [tmp_path / "journal" / "000001.jsonl", tmp_path / "pages" / "run-000001.warc.gz", tmp_path / lost["name"]]
    for path in halves:
        path.parent.mkdir(exist_ok=True)
        path.with_name(f"{path.name}.0123abcd.partial").write_bytes(b'{"event": "pa')
    assert [event["event"] for event in journal_at(tmp_path).events()] == ["page"]
    assert not list(tmp_path.rglob("*.partial"))


def test_pages_are_archived_as_they_came(tmp_path: Path) -> None:
    made = journal_at(tmp_path, "20260101")
    made.archive("https://x.org/1", "200 OK", [("Content-Type", "text/html; charset=utf-8")], "<p>Björn</p>".encode())
    made.flush()
    (path,) = archives(DiskStore(), str(tmp_path))
    assert path.endswith("pages/20260101-000000.warc.gz")
    (record,) = ArchiveIterator(io.BytesIO(Path(path).read_bytes()))
    assert record.rec_headers.get_header("WARC-Target-URI") == "https://x.org/1"
    (found,) = archived_pages(DiskStore(), [path])
    assert (found.url, found.text, found.content_type) == (
        "https://x.org/1",
        "<p>Björn</p>",
        "text/html; charset=utf-8",
    )


def test_tables_take_up_what_was_there(tmp_path: Path) -> None:
    store, folder = DiskStore(), str(tmp_path)
    made = journal_at(tmp_path)
    made.add("page", **page(1, 1, 2, 3))
    made.add_image(b"one", "JPEG", **image(1))
    facts = {"kind": "image", "stage": "fetch", "code": "status_404", "detail": "", "page_url": None, "at": AT}
    made.add("failure", key="image=https://x.org/2.jpg", url="https://x.org/2.jpg", **facts)
    made.flush()
    assert write_tables(store, folder, DESCRIPTION, made.events) == 1
    assert write_tables(store, folder, DESCRIPTION, made.events) == 1, "it can be done again"
    made.close()
    later = journal_at(tmp_path)
    later.add("page", **page(1, 2, 4))
    later.add_image(b"two", "JPEG", **image(2))
    later.add_image(b"one", "JPEG", **image(4))
    later.flush()
    assert write_tables(store, folder, DESCRIPTION, later.events) == 3
    rows = list(rows_of(store, f"{folder}/photos.parquet"))
    assert [row["image_url"] for row in rows] == [f"https://x.org/{n}.jpg" for n in (1, 2, 4)]
    assert rows[0]["path"] == rows[2]["path"], "the same picture is one file"
    assert list(rows_of(store, f"{folder}/failures.parquet")) == [], "what failed once is there now"
    assert known_keys(store, folder, DESCRIPTION) == {mark(f"image=https://x.org/{n}.jpg") for n in (1, 2, 4)}
    assert known_keys(store, folder, DESCRIPTION, before=AT) == set()
    assert pq.read_schema(f"{folder}/photos.parquet").names[:3] == ["path", "page_url", "image_url"]


def found(airline: str | None, way: int = 0, agree: bool | None = None) -> Found:
    ways = {"airline": way} if airline else {}
    return Found("k", {"airline": airline, "image_url": "x"}, ways, {} if agree is None else {"airline": agree})


def test_health_is_of_the_last_pages() -> None:
    health = Health(DESCRIPTION, pages=2)
    for _ in range(50):
        health.page(20)
        for _ in range(20):
            health.photo(found("ANA"))
    assert health.complaint() is None
    for broken in range(2):
        health.page(20)
        for _ in range(20):
            health.photo(found(None))
        told = health.complaint()
        assert told is not None, f"after {broken + 1} pages of another design"
        assert "airline was found for" in told and "css: b, css: i" in told


def test_chance_is_no_complaint() -> None:
    health = Health(DESCRIPTION, pages=5)
    health.page(3)
    for airline in ("ANA", None, None):
        health.photo(found(airline))
    assert health.complaint() is None
    # Of 50 with a share of 0.8, 20 or fewer happen once in 10^9, and 36 or fewer once in nine.
    assert _too_low(20, 50, 0.8) and not _too_low(36, 50, 0.8)
    assert not _too_low(0, 0, 0.8) and not _too_low(0, 9, 0.0) and _too_low(8, 9, 1.0)


def test_empty_lists_ways_that_differ_and_ways_that_went_are_told() -> None:
    health = Health(DESCRIPTION, pages=2)
    health.page(0)
    assert health.complaint() is None
    health.page(0)
    assert "the last 2 list pages have no photograph" in str(health.complaint())
    differing = Health(DESCRIPTION, pages=2)
    differing.page(30)
    for _ in range(30):
        differing.photo(found("ANA", agree=False))
    assert "the ways to airline agree for 0 of the last 30" in str(differing.complaint())
    last = Tally()
    for _ in range(100):
        last.add(found("ANA", way=0))
    summary = last.summary(DESCRIPTION)
    assert summary["airline"] == {"filled": 1.0, "ways": [1.0, 0.0], "odd": 0}
    compared = Health(DESCRIPTION, 2, summary)
    compared.page(60)
    for _ in range(60):
        compared.photo(found("ANA", way=1))
    assert "css: b found airline for 100% of the photographs of the last good crawl" in str(compared.complaint())


@pytest.mark.parametrize("pages", [1, 5])
def test_all_is_well(pages: int) -> None:
    health = Health(DESCRIPTION, pages)
    for _ in range(9):
        health.page(10)
        for number in range(10):
            health.photo(found("ANA" if number else None))
    assert health.complaint() is None
    assert health.whole.photos == 90


def test_a_look_at_a_crawl_that_scrapy_has_not_made_yet() -> None:
    """On a busy machine the first look comes before the spider has its crawler.

    In a process of its own: Scrapy's zope.interface puts an attribute on typing.Generic that pyspark.ml stumbles over.
    """
    code = """
from types import SimpleNamespace
from mirabelle.crawl import web
print(web._line(SimpleNamespace(progress=SimpleNamespace(pages=0, stored=0, failed=0, pending=1))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 pages, 0 photographs, 0 failures, 1 to come; 0.0 s between requests\n"
