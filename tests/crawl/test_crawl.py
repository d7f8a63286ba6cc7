"""Whole crawls of a small site: what comes of them, which rules they keep, and what happens when the site changes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from itertools import pairwise
from urllib.parse import urlsplit

import pandas as pd
import pytest

from crawl.conftest import CONTACT, Place
from crawl.site import HOSTILE, Site, planes
from crawl.truth import check, seen
from mirabelle.storage import open_store
from object_store import Server

NUMBER = 240


@pytest.mark.parametrize("layout", ["2020", "2021"])
def test_each_photograph_is_a_row_or_a_failure(layout: str, place: Place, drawn: list[bytes]) -> None:
    shown = planes(NUMBER, faulty=True)
    with Site(drawn, shown, per_page=24, layout=layout, refuses=0.05, slow_seconds=0.3) as site:
        done = place.run(site, f"planespotters-{layout}")
    assert done.code == 0, done.stderr
    fields = ("constructor", "model_type", "airline", "registration", "photographer")
    check(place, shown, [name for name in fields if layout == "2020" or name in ("registration", "photographer")])
    for row in place.photos.to_dict("records"):
        with open(row["path"], "rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == row["sha256"]
        assert (row["width_px"], row["height_px"], row["layout"]) == (40, 30, layout)
    manifest = json.loads(next((place.output / "runs").glob("*.json")).read_text())
    assert (manifest["status"], manifest["permission"]) == ("done", "a test of ours")
    assert manifest["counts"]["photos"] == len(place.photos)
    asked = [entry.path for entry in site.log]
    assert not [path for path in asked if path.startswith("/private/")]
    assert asked[0] == "/robots.txt"
    assert {entry.agent for entry in site.log} == {"mirabelle/0.1.0 (+spotter@example.org)"}


def test_delay_and_requests_at_once_are_kept(place: Place, drawn: list[bytes]) -> None:
    with Site(drawn, planes(12, faulty=False), per_page=4, delay=0.15) as site:
        done = place.run(site, "planespotters-2020")
    assert done.code == 0, done.stderr
    moments = [entry.at for entry in site.log if entry.path != "/robots.txt"]
    assert len(moments) == 15
    # By the server's clock, where a thread may be late by a little.
    assert min(later - sooner for sooner, later in pairwise(moments)) > 0.1
    assert (moments[-1] - moments[0]) / 14 >= 0.149
    assert max(entry.at_once for entry in site.log) <= 2
    assert f"for 15 requests; 0.15 s between them alone are {15 * 0.15:.0f} s" in done.stdout


@pytest.mark.parametrize(
    ("robots", "told"),
    [
        ("User-agent: mirabelle\nDisallow: /photos\n", "robots.txt does not allow it"),
        ("User-agent: *\nDisallow: /\n", "robots.txt does not allow it"),
    ],
)
def test_a_site_that_forbids_its_lists_is_not_asked_for_them(
    robots: str, told: str, place: Place, drawn: list[bytes]
) -> None:
    with Site(drawn, planes(10, faulty=False), robots=robots) as site:
        done = place.run(site, "planespotters-2020")
    assert done.code == 2
    assert told in done.stderr
    assert [entry.path for entry in site.log] == ["/robots.txt"]


def test_terms_that_forbid_the_use_stop_it_before_anything_is_asked(place: Place, drawn: list[bytes]) -> None:
    with Site(drawn, planes(10, faulty=False)) as site:
        done = place.run(site, "planespotters-2020", "crawl.permission=null")
        assert done.code == 2
        assert "error: planespotters.net's terms of use bar taking its photographs for machine learning" in done.stderr
        assert "crawl.permission" in done.stderr
        done = place.run(site, "planespotters-2020", "crawl.contact=null")
        assert done.code == 2
        assert "crawl.contact is not set" in done.stderr
    assert not site.log
    assert CONTACT


def test_a_later_crawl_takes_only_what_is_new(place: Place, drawn: list[bytes]) -> None:
    shown = planes(96, faulty=False)
    with Site(drawn, shown[24:], per_page=24) as site:
        assert place.run(site, "planespotters-2020").code == 0
        before = place.photos
        # Three new photographs stand before the others.
        site.planes = [*shown[:3], *shown[24:]]
        site.log.clear()
        done = place.run(site, "planespotters-2020")
        asked = [entry.path for entry in site.log]
        assert done.code == 0, done.stderr
        assert [path for path in asked if path.startswith("/photos")] == ["/photos?page=1", "/photos?page=2"]
        assert len([path for path in asked if path.startswith("/images")]) == 3
        assert set(place.photos["id"]) == {*before["id"], *(plane.id for plane in shown[:3])}
        site.log.clear()
        assert place.run(site, "planespotters-2020", "--full").code == 0
        asked = [entry.path for entry in site.log]
        assert len([path for path in asked if path.startswith("/photos")]) == site.pages
        assert not [path for path in asked if path.startswith("/images")], "what is stored is not fetched again"
    check(place, [*shown[:3], *shown[24:]])


def test_a_list_without_end_ends(place: Place, drawn: list[bytes]) -> None:
    described = place.describe("planespotters-2020")
    described.write_text(described.read_text() + '\nfollow:\n  next: [{css: "a[rel=next]::attr(href)"}]\n')
    with Site(drawn, planes(30, faulty=False), per_page=10, endless=True) as site:
        start = f"crawl.start=['{site.url}/photos?page=1']"
        done = place.run(site, described, start)
        lists = [entry.path for entry in site.log if entry.path.startswith("/photos")]
    assert done.code == 0, done.stderr
    assert len(place.photos) == 30
    assert len(lists) == 4, "one page that brings nothing new is the last"


def test_the_same_picture_under_two_addresses_is_one_file_and_two_rows(place: Place, drawn: list[bytes]) -> None:
    with Site(drawn[:5], planes(20, faulty=False), per_page=10) as site:
        assert place.run(site, "planespotters-2020").code == 0
    assert len(place.photos) == 20
    assert place.photos["path"].nunique() == 5 == len(list((place.crawled / "images").rglob("*.jpg")))


def test_limits(place: Place, drawn: list[bytes]) -> None:
    shown = planes(60, faulty=False)
    large = sorted(drawn, key=len)[-1]
    with Site([large, *[one for one in drawn if len(one) < len(large)][:59]], shown, per_page=10) as site:
        done = place.run(site, "planespotters-2020", f"crawl.max_image_bytes={len(large) - 1}", "crawl.max_pages=3")
    assert done.code == 0, done.stderr
    assert place.failures[["kind", "code"]].values.tolist() == [["image", "too_many_bytes"]]
    assert "by crawl.max_pages (3); the lists go on" in done.stdout
    assert len(place.photos) == 29
    with Site(drawn, shown, per_page=10) as site:
        done = place.run(site, "planespotters-2020", "crawl.max_page_bytes=500", "crawl.tries=1")
    assert done.code == 1
    assert "5 list pages in a row could not be had" in done.stderr


def test_an_output_that_cannot_be_written_to_ends_it_at_once(place: Place, drawn: list[bytes]) -> None:
    place.crawled.mkdir(parents=True)
    (place.crawled / "images").write_text("in the way")
    with Site(drawn, planes(120, faulty=False), per_page=12, delay=0.05) as site:
        done = place.run(site, "planespotters-2020")
        assert len(site.log) < 100
    assert done.code == 2, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"{place.crawled}/images" in error
    manifest = json.loads(next((place.output / "runs").glob("*.json")).read_text())
    assert (manifest["status"], manifest["exit_code"]) == ("failed", 2)


def test_into_a_bucket_and_on_after_a_kill(place: Place, drawn: list[bytes], aws: Server, bucket: str) -> None:
    shown = planes(60, faulty=True)
    to = f"output=s3://{bucket}/out"
    with Site(drawn, shown, per_page=12, delay=0.02) as site:
        process = subprocess.Popen(
            place.command(site, "planespotters-2020", to), stderr=subprocess.DEVNULL, cwd=place.folder
        )
        while len(site.log) < 30:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
        done = place.run(site, "planespotters-2020", to)
    assert done.code == 0, done.stderr
    store = open_store(f"s3://{bucket}/")
    with store.open(f"s3://{bucket}/out/crawl/planespotters/photos.parquet") as file:
        photos = pd.read_parquet(file)
    assert set(photos["id"]) == {plane.id for plane in shown if not plane.fault}
    for path, digest in zip(photos["path"], photos["sha256"], strict=True):
        assert hashlib.sha256(store.read(path, 2**20)).hexdigest() == digest
    left = [entry.path for entry in store.walk(f"s3://{bucket}/out") if "/journal/" in entry.path]
    assert not left


def test_two_crawls_at_once_are_refused(place: Place, drawn: list[bytes]) -> None:
    with Site(drawn, planes(40, faulty=False), per_page=10, delay=0.3) as site:
        first = subprocess.Popen(place.command(site, "planespotters-2020"), stderr=subprocess.PIPE, cwd=place.folder)
        while len(site.log) < 3:
            assert first.poll() is None
            time.sleep(0.05)
        done = place.run(site, "planespotters-2020")
        assert done.code == 3
        assert "is in use by run" in done.stderr
        first.send_signal(signal.SIGTERM)
        _, told = first.communicate(timeout=60)
        assert first.returncode == 128 + signal.SIGTERM
        assert b"the same command goes on from there" in told
        site.delay = 0.0
        assert place.run(site, "planespotters-2020").code == 0
        images = [entry.path for entry in site.log if entry.path.startswith("/images")]
    assert len(place.photos) == 40
    assert len(images) == 40, "none is fetched twice"


def test_killed_again_and_again_the_rows_are_the_same(place: Place, drawn: list[bytes]) -> None:
    shown = planes(120, faulty=True)
    with Site(drawn, shown, per_page=12, delay=0.01) as site:
        for pause in (0.2, 0.5, 0.9):
            process = subprocess.Popen(
                place.command(site, "planespotters-2020"), stderr=subprocess.DEVNULL, cwd=place.folder
            )
            before = len(site.log)
            while len(site.log) < before + 4 and process.poll() is None:
                time.sleep(0.02)
            time.sleep(pause)
            process.kill()
            process.wait()
        done = place.run(site, "planespotters-2020")
    assert done.code == 0, done.stderr
    check(place, shown)


@pytest.mark.parametrize("later", ["2021", "2024"])
def test_a_redesign_is_noticed_and_repaired(later: str, place: Place, drawn: list[bytes]) -> None:
    shown = planes(NUMBER, faulty=True)
    described = place.describe("planespotters-2020")
    with Site(drawn, shown, per_page=12, later=later, switch=8) as site:
        done = place.run(site, described)
        assert done.code == 1
        assert "the site is no longer as planespotters 2020 describes it: the last 5 list pages" in done.stderr
        lists = [entry.path for entry in site.log if entry.path.startswith("/photos")]
        assert len(lists) == 7 + 5, "it stops within crawl.canary_pages"
        kept = place.photos
        assert set(kept["id"]) >= {plane.id for plane in shown[: 7 * 12] if not plane.fault}

        check_ = place.run(site, described, "--check", "crawl.canary_pages=2")
        assert check_.code == 0
        site.layout = later
        check_ = place.run(site, described, "--check", "crawl.canary_pages=2")
        assert check_.code == 1, check_.stderr
        assert "have no photograph" in check_.stderr

        repaired = place.run(site, described, "--repair")
        assert repaired.code == 0, repaired.stderr
        for name in ("constructor", "model_type", "airline"):
            assert re.search(rf"^{name}: .*precision 100.0%, recall (100|99)", repaired.stdout, re.MULTILINE)
        proposal = described.with_name("planespotters-2020.repaired.yaml")
        assert str(proposal) in repaired.stdout
        done = place.run(site, proposal)
        assert done.code == 0, done.stderr
    check(place, shown)
    before = place.photos.sort_values("id", ignore_index=True)
    with Site(drawn, shown) as site:
        done = place.run(site, proposal, "--reparse")
        assert done.code == 0, done.stderr
        assert not site.log
    pd.testing.assert_frame_equal(place.photos.sort_values("id", ignore_index=True), before)


def test_reparse_reads_a_field_that_was_not_described(place: Place, drawn: list[bytes]) -> None:
    described = place.describe("planespotters-2020")
    whole = described.read_text()
    described.write_text(whole[: whole.index("  registration:")] + "expect: {}\n")
    shown = planes(30, faulty=False)
    with Site(drawn, shown, per_page=10) as site:
        assert place.run(site, described).code == 0
        assert place.photos["registration"].isna().all()
        asked = len(site.log)
        described.write_text(whole)
        done = place.run(site, described, "--reparse")
        assert len(site.log) == asked
    assert "30 of them changed" in done.stdout
    check(place, shown)


def test_hostile_values_become_no_path_and_stay_what_they_are(place: Place, drawn: list[bytes]) -> None:
    shown = [replace(p, airline=value, photographer=value) for p, value in zip(planes(6, False), HOSTILE, strict=True)]
    hostile = set(map(seen, HOSTILE))
    with Site(drawn, shown, per_page=24) as site:
        assert place.run(site, "planespotters-2020").code == 0
    assert hostile <= {*place.photos["airline"], *place.photos["photographer"]}
    outside = [path for path in place.folder.rglob("*") if path.is_file() and place.output not in path.parents]
    assert {path.name for path in outside} == {"stdout", "stderr"}


def test_what_it_cannot_do_is_one_sentence(place: Place, drawn: list[bytes]) -> None:
    broken = place.describe(
        "broken", "site: {name: x}\nstart: ['http://127.0.0.1/{a']\nfields: {airline: [{css: 'a['}]}\n"
    )
    with Site(drawn, planes(5, faulty=False)) as site:
        done = place.run(site, broken)
        assert done.code == 2
        assert f"{broken}: fields.airline.ways.0: css 'a[' cannot be read" in done.stderr
        done = place.run(site, "nowhere")
        assert done.code == 2
        assert "there is no description 'nowhere'; give a file, or one of" in done.stderr
        done = place.run(site, "planespotters-2020", "crawl.start=['http://10.0.0.1/']", "crawl.tries=1")
        assert not site.log
    with Site(drawn, planes(5, faulty=False)) as gone:
        pass
    done = place.run(gone, "planespotters-2020", "crawl.timeout_seconds=2")
    assert done.code == 1
    assert "robots.txt does not answer" in done.stderr
    assert urlsplit(gone.url).netloc in done.stderr
    assert os.path.isdir(place.output)
