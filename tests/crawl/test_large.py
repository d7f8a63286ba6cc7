"""A site of 125 pages of 48 photographs, with all that goes wrong: each photograph once, in little memory."""

from __future__ import annotations

import random
import subprocess
import time

import pytest

from crawl.conftest import Place
from crawl.site import Site, planes
from crawl.truth import check

pytestmark = pytest.mark.long

PAGES = 125
PER_PAGE = 48
# Ten kills and two designs are for the shape of it; a delay between requests bounds all of them.
DELAY = 0.004


@pytest.mark.parametrize(
    ("layout", "pages"),
    [("2020", 60), *(pytest.param(layout, PAGES, marks=pytest.mark.full) for layout in ("2020", "2021"))],
)
def test_many_photographs(layout: str, pages: int, place: Place, photographs: list[bytes]) -> None:
    shown = planes(pages * PER_PAGE, faulty=True)
    with Site(photographs, shown, PER_PAGE, layout, refuses=0.01, delay=DELAY, slow_seconds=0.05) as site:
        done = place.run(site, f"planespotters-{layout}", "crawl.max_failure_share=0.1")
    assert done.code == 0, done.stderr
    fields = ("constructor", "model_type", "airline", "registration", "photographer")
    check(place, shown, [name for name in fields if layout == "2020" or name in ("registration", "photographer")])
    assert len(place.photos) + len(place.failures) == pages * PER_PAGE
    assert not [entry for entry in site.log if entry.path.startswith("/private/")]
    assert max(entry.at_once for entry in site.log) <= 2
    print(f"{layout}: {done.seconds:.0f} s, {done.peak_mib:.0f} MiB; {done.stdout}")  # noqa: T201
    assert done.peak_mib < 300


def test_ten_kills(place: Place, photographs: list[bytes]) -> None:
    shown = planes(30 * PER_PAGE, faulty=True)
    chance = random.Random(10)
    with Site(photographs, shown, PER_PAGE, refuses=0.01, delay=DELAY) as site:
        for number in range(10):
            process = subprocess.Popen(
                place.command(site, "planespotters-2020"), stderr=subprocess.DEVNULL, cwd=place.folder
            )
            # Anywhere in the work, or in the start of the next.
            wanted = (number + 1) * len(shown) // 11
            while len(site.log) < wanted and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.5))
            assert process.poll() is None, "it was over before it was killed"
            process.kill()
            process.wait()
        done = place.run(site, "planespotters-2020")
        images = [entry.path for entry in site.log if entry.path.startswith("/images/")]
    assert done.code == 0, done.stderr
    check(place, shown)
    # What was on its way when it was killed is asked for again: a second or two of it.
    assert len(images) < len(shown) * 1.6
