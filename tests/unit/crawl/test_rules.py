"""Which addresses are asked, and what robots.txt allows."""

import subprocess
import sys
import time

import pytest

from mirabelle.crawl import robots
from mirabelle.crawl.addresses import Hosts, hosts_of, is_private
from mirabelle.crawl.description import description_of
from mirabelle.crawl.robots import Robots, read_rules, retry_after_seconds, user_agent
from mirabelle.errors import RunFailed, UserError
from unit.crawl.test_description import SMALL

PUBLIC = Hosts(frozenset({"example.org", "images.example.org:8080", "10.1.2.3"}), may_be_private=False)


@pytest.mark.parametrize(
    ("url", "refusal"),
    [
        ("https://example.org/x", None),
        ("http://EXAMPLE.org:81/x", None),
        ("https://images.example.org:8080/x", None),
        ("https://images.example.org/x", "not among the site's hosts"),
        ("https://example.org.evil.com/x", "not among the site's hosts"),
        ("https://evil.com/?example.org", "not among the site's hosts"),
        ("file:///etc/passwd", "only http and https"),
        ("ftp://example.org/x", "only http and https"),
        ("data:text/html,x", "only http and https"),
        ("//example.org/x", "no scheme"),
        ("https://me:secret@example.org/", "name or password"),
        ("https://10.1.2.3/", "this machine or in a private network"),
        ("https://[::1]/", "not among"),
        ("https://exa[mple.org/", "no address"),
        (f"https://example.org/{'x' * 3000}", "more than 2,000 characters"),
    ],
)
def test_addresses(url: str, refusal: str | None) -> None:
    told = PUBLIC.refusal(url)
    assert (told is None) if refusal is None else (refusal in str(told))


def test_hosts_are_those_of_the_start_and_of_the_site() -> None:
    description = description_of({**SMALL, "site": {"name": "x", "hosts": ["Images.Example.org"]}}, "test")
    assert hosts_of(description) == Hosts(frozenset({"example.org", "images.example.org"}), may_be_private=False)
    here = hosts_of(description, ["http://127.0.0.1:8000/{p:1..2}"])
    assert here.may_be_private
    assert here.refusal("http://127.0.0.1:8000/9") is None
    assert here.refusal("http://127.0.0.1:8001/9") is not None


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "localhost", "a.localhost"]
)
def test_private(name: str) -> None:
    assert is_private(name)


def test_public() -> None:
    assert not is_private("93.184.216.34")


def answering(*answers: tuple[int, bytes, str | None]) -> tuple[robots.Fetch, list[str]]:
    asked: list[str] = []

    def fetch(url: str) -> tuple[int, bytes, str | None]:
        asked.append(url)
        return answers[min(len(asked), len(answers)) - 1]

    return fetch, asked


RULES = b"""User-agent: *
Disallow: /

User-agent: Mirabelle
Disallow: /private/
Allow: /private/open
Crawl-delay: 2.5
"""


def test_our_own_group_counts() -> None:
    fetch, asked = answering((200, RULES, None))
    rules = read_rules("https://x.org", fetch)
    assert asked == ["https://x.org/robots.txt"]
    assert rules.delay_seconds == 2.5
    assert rules.allows("https://x.org/photos")
    assert not rules.allows("https://x.org/private/1.jpg")
    assert rules.allows("https://x.org/private/open/1.jpg"), "the longest rule wins (RFC 9309, 2.2.2)"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_none_allows_all(status: int) -> None:
    assert read_rules("https://x.org", answering((status, b"", None))[0]).allows("https://x.org/x")


@pytest.mark.parametrize("status", [500, 503, 429])
def test_one_that_cannot_be_had_is_a_no(status: int) -> None:
    fetch, asked = answering((status, b"", None))
    with pytest.raises(RunFailed, match=f"https://x.org/robots.txt answers {status}, and a site whose robots.txt"):
        read_rules("https://x.org", fetch, pause_seconds=0)
    assert len(asked) == 3


def test_redirects_are_followed_a_little() -> None:
    fetch, asked = answering((301, b"", "/other.txt"), (200, RULES, None))
    assert not read_rules("https://x.org", fetch).allows("https://x.org/private/")
    assert asked == ["https://x.org/robots.txt", "https://x.org/other.txt"]
    fetch, asked = answering((302, b"", "/again"))
    assert read_rules("https://x.org", fetch).allows("https://x.org/x"), "more than five hops: as none (2.3.1.2)"
    assert len(asked) == 6


def test_each_host_is_asked_once_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch, asked = answering((200, RULES, None))
    all_rules = Robots(fetch)
    assert all_rules.allows("https://x.org/a") and all_rules.delay_seconds("https://x.org/b") == 2.5
    assert all_rules.allows("https://y.org:81/a")
    assert asked == ["https://x.org/robots.txt", "https://y.org:81/robots.txt"]
    now = time.monotonic() + 86_401
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert all_rules.allows("https://x.org/a")
    assert len(asked) == 3
    governed = Robots(fetch, is_governed=True)
    assert governed.allows("https://x.org/private/") and governed.delay_seconds("https://x.org/") == 0
    assert len(asked) == 3


def test_a_contact_is_needed() -> None:
    assert user_agent(" me@x.org ", "1.0") == "mirabelle/1.0 (+me@x.org)"
    for nobody in (None, "", "  "):
        with pytest.raises(UserError, match=r"crawl\.contact is not set"):
            user_agent(nobody, "1.0")


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("120", 120.0), (" 5 ", 5.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None), ("", None)],
)
def test_retry_after(told: str, seconds: float | None) -> None:
    assert retry_after_seconds(told) == seconds


def test_scrapy_is_loaded_by_a_crawl_alone() -> None:
    """Twisted in the process of a Spark session spoils pyspark.ml's parameters."""
    code = "import sys, mirabelle.crawl.verbs; print(sorted({'scrapy', 'twisted'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
