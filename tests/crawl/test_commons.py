"""Wikimedia Commons by its API, against answers made after its documentation: nobody can reach the real one from here.

Shapes are those of https://www.mediawiki.org/wiki/API:Imageinfo, API:Continue and Manual:Maxlag_parameter.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

from conftest import REPOSITORY
from crawl.conftest import Place, measured
from crawl.site import send
from documents import command

LAG = {
    "code": "maxlag",
    "info": "Waiting for 10.64.32.21: 6.2 seconds lagged.",
    "host": "10.64.32.21",
    "lag": 6.2,
    "type": "db",
}


@dataclass
class Commons:
    """The API and its pictures; ``asked`` has moment, parameters or path of each request."""

    pictures: list[bytes]
    asked: list[tuple[float, dict[str, str] | str]] = field(default_factory=list)
    times: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Commons:
        commons = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                split = urlsplit(self.path)
                commons.times[self.path] += 1
                if split.path == "/w/api.php":
                    told = {name: values[0] for name, values in parse_qs(split.query).items()}
                    commons.asked.append((time.monotonic(), told))
                    answer, headers = commons.api(told, commons.times[self.path])
                    send(self, 200, json.dumps(answer).encode(), "application/json; charset=utf-8", headers)
                    return
                commons.asked.append((time.monotonic(), split.path))
                if split.path.endswith("/2.jpg") and commons.times[self.path] == 1:
                    send(self, 429, b"Too many requests", "text/plain", {"Retry-After": "1"})
                    return
                number = int(split.path.rpartition("/")[2].partition(".")[0])
                send(self, 200, commons.pictures[number], "image/jpeg")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def api(self, told: dict[str, str], times: int) -> tuple[dict[str, Any], dict[str, str]]:
        """What is answered, and headers."""
        if told["gcmtitle"] == "Category:Boeing_737":
            if times == 1:
                return {"error": LAG, "servedby": "mw1"}, {"Retry-After": "1", "MediaWiki-API-Error": "maxlag"}
            return {"batchcomplete": True, "query": {"pages": [self.page(5), self.page(6, licence=None)]}}, {}
        if "gcmcontinue" not in told:
            onward = {"gcmcontinue": "file|414|9", "continue": "gcmcontinue||"}
            pages = [self.page(0), self.page(1), self.page(7, mime="application/pdf"), self.page(8, mime=None)]
            return {"batchcomplete": True, "continue": onward, "query": {"pages": pages}}, {}
        assert (told["gcmcontinue"], told["continue"]) == ("file|414|9", "gcmcontinue||")
        return {"batchcomplete": True, "query": {"pages": [self.page(2), self.page(3)]}}, {}

    def page(
        self, number: int, licence: str | None = "CC BY-SA 4.0", mime: str | None = "image/jpeg"
    ) -> dict[str, Any]:
        """A file's page; without a MIME type one whose imageinfo comes in a later answer."""
        title = f"File:F-GKX{'ABCDEFGHI'[number]} Airbus at CDG ({number}).jpg"
        if mime is None:
            return {"pageid": 1000 + number, "ns": 6, "title": title}
        more = {} if licence is None else {"LicenseShortName": {"value": licence, "source": "commons-desc-page"}}
        facts = {
            "timestamp": "2019-08-01T12:00:00Z",
            "size": 123,
            "width": 4000,
            "height": 3000,
            "thumburl": f"{self.url}/thumb/{number}.jpg",
            "thumbwidth": 960,
            "thumbheight": 720,
            "url": f"{self.url}/full/{number}.jpg",
            "descriptionurl": f"{self.url}/wiki/File:{number}.jpg",
            "sha1": "0" * 40,
            "mime": mime,
            "extmetadata": {
                "Artist": {"value": '<a href="//commons.wikimedia.org/wiki/User:Ada">Ada &amp; Björn</a>'},
                "DateTimeOriginal": {"value": "2019-07-31 18:22:01"},
                "LicenseUrl": {"value": "https://creativecommons.org/licenses/by-sa/4.0"},
                **more,
            },
        }
        return {"pageid": 1000 + number, "ns": 6, "title": title, "imagerepository": "local", "imageinfo": [facts]}


@pytest.fixture
def commons(drawn: list[bytes]) -> Iterator[Commons]:
    with Commons(drawn[:9]) as started:
        yield started


def test_categories_by_the_api(commons: Commons, place: Place) -> None:
    query = (
        "action=query&format=json&formatversion=2&maxlag=5&generator=categorymembers&gcmtype=file"
        "&gcmtitle=Category:{type:Airbus_A320|Boeing_737}&prop=imageinfo&iiprop=url|mime|extmetadata&iiurlwidth=960"
    )
    start = f"crawl.start=['{commons.url}/w/api.php?{query}']"
    # As README has it, with conf/planes.yaml, but for the place.
    program, *words = command("README.md", "mirabelle crawl")
    assert program == "mirabelle"
    more = [start, f"output={place.output}", "crawl.max_failure_share=0.5", *place.settings]
    words += [word for setting in more for word in ("--set", setting)]
    done = subprocess.run([*measured(), *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("robots.txt is not asked: Wikimedia's API etiquette") == 1
    folder = place.output / "crawl" / "commons"
    photos = pd.read_parquet(folder / "photos.parquet").sort_values("id", ignore_index=True)
    assert photos["id"].tolist() == ["1000", "1001", "1002", "1003", "1005"]
    assert photos["constructor"].tolist() == ["Airbus"] * 4 + ["Boeing"]
    assert photos["model_type"].tolist() == ["A320"] * 4 + ["737"]
    first = photos.iloc[0]
    assert first["photographer"] == "Ada & Björn"
    assert (first["taken"], first["licence"]) == ("2019-07-31", "CC BY-SA 4.0")
    assert first["licence_url"] == "https://creativecommons.org/licenses/by-sa/4.0"
    assert first["registration"] == "F-GKXA"
    assert first["image_url"] == f"{commons.url}/thumb/0.jpg"
    assert first["page_url"] == f"{commons.url}/wiki/File:0.jpg"
    failures = pd.read_parquet(folder / "failures.parquet")
    assert failures[["code", "detail"]].values.tolist() == [["missing_field", "no licence"]]

    moments: dict[str, list[float]] = {}
    for moment, told in commons.asked:
        moments.setdefault(told if isinstance(told, str) else json.dumps(told), []).append(moment)
    twice = {what: times for what, times in moments.items() if len(times) == 2}
    assert len(twice) == 2, "the answer of a lagging database, and the picture that came too soon"
    assert all(second - first >= 1 for first, second in twice.values()), "Retry-After is kept"
    assert not [told for _, told in commons.asked if isinstance(told, str) and not told.startswith("/thumb/")]
