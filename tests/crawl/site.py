"""A photo site on loopback: its own server, markup after the patterns of a spotters' site, and all that goes wrong."""

from __future__ import annotations

import gzip
import hashlib
import html
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

MAKERS = {"Airbus": ["A220", "A320", "A330", "A350", "A380"], "Boeing": ["737", "747", "767", "777", "787"]}
AIRLINES = ["Air France", "KLM Royal Dutch", "Delta Air Lines", "Qantas", "Emirates", "ANA", "easyJet", "LATAM Chile"]
PEOPLE = ["Ada L.", "Björn Ö.", "Chi-Ling 陳", "Dídac P."]
HOSTILE = [
    """O'Hare "Jet" \\ ; -- """,
    "../../../etc/passwd",
    "<script>alert(1)</script>",
    "=cmd|'/C calc'!A0",
    "\u202egnieoB\u202c",
    "%00%2e%2e",
]
# What may go wrong with a photograph's picture, and the code of the failure that should come of it.
FAULTS = {
    "cut": "truncated",
    "short": "cut_short",
    "html": "not_an_image",
    "gone": "status_404",
    "loopback": "forbidden_redirect",
    "elsewhere": "forbidden_redirect",
    "file": "forbidden_redirect",
    "hops": "too_many_redirects",
    "forbidden": "robots_forbid",
}


@dataclass(frozen=True)
class Plane:
    """A photograph of the site, and what is true of it; an empty value is one that the site does not tell."""

    number: int
    constructor: str
    model_type: str
    airline: str
    registration: str
    photographer: str
    fault: str = ""

    @property
    def id(self) -> str:
        return str(100_000 + self.number)

    @property
    def image(self) -> str:
        folder = "private" if self.fault == "forbidden" else "images"
        return f"/{folder}/{self.id}.jpg"


def planes(number: int, faulty: bool) -> list[Plane]:
    """So many, always the same; where faulty, with all that goes wrong."""
    found = []
    for i in range(number):
        chance = int.from_bytes(hashlib.sha256(str(i).encode()).digest()[:8])
        maker = list(MAKERS)[chance % 2]
        values = {
            "constructor": maker,
            "model_type": MAKERS[maker][chance // 7 % 5],
            "airline": AIRLINES[chance // 77 % len(AIRLINES)],
            "registration": f"F-{chance % 26**4:06X}",
            "photographer": PEOPLE[chance // 777 % len(PEOPLE)],
        }
        fault = ""
        if faulty:
            if chance % 1000 < 30:
                values[["constructor", "model_type", "airline"][chance // 1000 % 3]] = ""
            elif chance % 1000 < 40:
                values[["airline", "photographer", "registration"][chance // 1000 % 3]] = HOSTILE[i % len(HOSTILE)]
            elif chance % 1000 < 40 + len(FAULTS):
                fault = list(FAULTS)[chance % 1000 - 40]
        found.append(Plane(i, **values, fault=fault))
    return found


@dataclass
class Asked:
    """One request, in the server's log."""

    at: float
    path: str
    agent: str
    at_once: int


@dataclass
class Site:
    """The server.

    Attributes:
        pictures: bytes of JPEGs, repeated.
        planes: what it shows.
        layout: "2020" or "2021" or another that ``layouts`` knows; ``later`` is that from page ``switch`` on.
        refuses: share of the requests answered with 503 the first time.
        delay: robots.txt's Crawl-delay.
        endless: "next" links go on behind the last page.
    """

    pictures: Sequence[bytes]
    planes: list[Plane]
    per_page: int = 48
    layout: str = "2020"
    later: str | None = None
    switch: int = 0
    refuses: float = 0.0
    delay: float = 0.0
    endless: bool = False
    robots: str | None = None
    slow_seconds: float = 0.0
    log: list[Asked] = field(default_factory=list)
    _times: Counter[str] = field(default_factory=Counter)
    _now: int = 0

    def __enter__(self) -> Site:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with site._lock:
                    site._now += 1
                    site.log.append(Asked(time.monotonic(), self.path, self.headers["User-Agent"], site._now))
                try:
                    site.answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    with site._lock:
                        site._now -= 1

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *about: Any) -> None:
                # Crawls that are killed break off.
                if not isinstance(sys.exception(), ConnectionError):
                    super().handle_error(*about)

        self._lock = threading.Lock()
        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def pages(self) -> int:
        return -(-len(self.planes) // self.per_page)

    def layout_of(self, page: int) -> str:
        return self.later if self.later and page >= self.switch else self.layout

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        split = urlsplit(to.path)
        if split.path == "/robots.txt":
            delay = f"Crawl-delay: {self.delay:g}\n" if self.delay else ""
            told = self.robots if self.robots is not None else f"User-agent: *\nDisallow: /private/\n{delay}"
            return send(to, 200, told.encode(), "text/plain")
        if len(to.path) > 1_000:
            return send(to, 404, b"enough", "text/plain")
        self._times[to.path] += 1
        chance = int.from_bytes(hashlib.sha256(to.path.encode()).digest()[:8]) % 10_000
        if self._times[to.path] == 1 and chance < self.refuses * 10_000:
            return send(to, 503, b"busy", "text/plain", {"Retry-After": "0"} if chance % 2 else {})
        if self.slow_seconds and chance % 100 == 7:
            time.sleep(self.slow_seconds)
        if split.path == "/photos":
            return self._list(to, int(parse_qs(split.query).get("page", ["1"])[0]))
        if split.path.startswith("/photo/"):
            return self._own_page(to, split.path)
        if split.path.startswith(("/images/", "/private/")):
            return self._image(to, split.path)
        return send(to, 404, b"<h1>not here</h1>", "text/html")

    def _list(self, to: BaseHTTPRequestHandler, page: int) -> None:
        from crawl.layouts import LISTS

        first = (page - 1) * self.per_page
        shown = self.planes[first : first + self.per_page]
        # New photographs push others on to the next page while one reads.
        shown = [*self.planes[max(0, first - 1) : first], *shown] if shown else shown
        if not shown and self.endless:
            shown = self.planes[-self.per_page :]
        onward = f"/photos?page={page + 1}" if page < self.pages or self.endless else None
        layout = self.layout_of(page)
        send(to, 200, document(LISTS[layout](shown), onward).encode(), "text/html; charset=utf-8")

    def _own_page(self, to: BaseHTTPRequestHandler, path: str) -> None:
        from crawl.layouts import PAGES

        plane = self._plane(path.split("/")[2].partition("-")[0])
        if plane is None:
            return send(to, 404, b"<h1>not here</h1>", "text/html")
        layout = self.layout_of(self.planes.index(plane) // self.per_page + 1)
        body = document(PAGES[layout](plane), None)
        return send(to, 200, body.encode(), "text/html; charset=utf-8")

    def _plane(self, identity: str) -> Plane | None:
        return next((plane for plane in self.planes if plane.id == identity), None)

    def _image(self, to: BaseHTTPRequestHandler, path: str) -> None:
        plane = self._plane(path.rpartition("/")[2].partition(".")[0])
        if plane is None:
            return send(to, 404, b"gone", "text/plain")
        content = self.pictures[plane.number % len(self.pictures)]
        if plane.fault == "cut":
            return send(to, 200, content[: len(content) // 2], "image/jpeg")
        if plane.fault == "short":
            return send(to, 200, content[: len(content) // 2], "image/jpeg", {"Content-Length": str(len(content))})
        if plane.fault == "html":
            return send(to, 200, b"<!doctype html><p>Please sign in</p>", "text/html")
        if plane.fault == "gone":
            return send(to, 404, b"gone", "text/plain")
        if plane.fault == "loopback":
            return send(to, 302, b"", "text/plain", {"Location": "http://127.0.0.1:1/secret.jpg"})
        if plane.fault == "elsewhere":
            return send(to, 302, b"", "text/plain", {"Location": "http://elsewhere.example/picture.jpg"})
        if plane.fault == "file":
            return send(to, 302, b"", "text/plain", {"Location": "file:///etc/passwd"})
        if plane.fault == "hops":
            return send(to, 302, b"", "text/plain", {"Location": f"{to.path}?again"})
        return send(to, 200, content, "image/jpeg", {"ETag": f'"{plane.number % len(self.pictures)}"'})


def send(
    to: BaseHTTPRequestHandler, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None
) -> None:
    to.send_response(status)
    headers = headers or {}
    if kind.startswith("text/html") and "gzip" in to.headers.get("Accept-Encoding", ""):
        body = gzip.compress(body)
        headers["Content-Encoding"] = "gzip"
    for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
        to.send_header(name, value)
    to.end_headers()
    to.wfile.write(body)
    if headers.get("Content-Length", str(len(body))) != str(len(body)):
        to.close_connection = True


def document(body: str, onward: str | None) -> str:
    link = f'<a rel="next" href="{onward}">Next</a>' if onward else ""
    head = "<!doctype html><html><head><title>Photos</title></head>"
    return f"{head}<body><main>{body}</main><nav>{link}</nav></body></html>"


def slug(text: str) -> str:
    """As a site writes a name into an address."""
    return quote("-".join(text.lower().split()) or "x", safe="-")


def link(href: str, text: str) -> str:
    return f'<a href="{href}">{html.escape(text)}</a>' if text else ""
