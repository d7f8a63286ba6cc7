"""Which addresses a crawl may ask. Touches name servers only when ``is_private`` is asked of a name."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from mirabelle.crawl.description import Description
from mirabelle.crawl.templates import expand

MAX_URL = 2_000


@dataclass(frozen=True)
class Hosts:
    """The hosts of a description.

    Attributes:
        names: that may be asked, with the port where a start address names one.
        may_be_private: whether a start address itself is on this machine or its own network.
    """

    names: frozenset[str]
    may_be_private: bool

    def refusal(self, url: str) -> str | None:
        """Why an address is not asked; None: it may be."""
        try:
            split = urlsplit(url)
            name, port = split.hostname or "", split.port
        except ValueError as error:
            return f"no address: {error}"
        wrong = {
            f"an address of more than {MAX_URL:,} characters": len(url) > MAX_URL,
            f"{split.scheme or 'no scheme'}, and only http and https are asked": split.scheme not in ("http", "https"),
            "a name or password in the address": bool(split.username or split.password),
            f"{split.netloc or 'no host'} is not among the site's hosts": not {name, f"{name}:{port}"} & self.names,
            f"{name} is this machine or in a private network": not self.may_be_private and _is_private_literal(name),
        }
        return next((told for told, is_so in wrong.items() if is_so), None)


def hosts_of(description: Description, start: Iterable[str] = ()) -> Hosts:
    """Those of the start addresses and those that it names besides; ``start`` takes the place of its own."""
    names = {name.lower() for name in description.site.hosts}
    private = False
    for template in start or description.start:
        for addresses in expand(template):
            split = urlsplit(addresses[0].url)
            if split.hostname:
                names.add(f"{split.hostname}:{split.port}" if split.port else split.hostname)
                private = private or is_private(split.hostname)
    return Hosts(frozenset(names), private)


def is_private(name: str) -> bool:
    """Whether a host is this machine or in a private network, by its number or what its name stands for."""
    if _is_private_literal(name):
        return True
    try:
        found = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
    except OSError:
        return False  # it cannot be asked either
    return any(_is_private_literal(str(address[4][0])) for address in found)


def _is_private_literal(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return not ipaddress.ip_address(name.partition("%")[0]).is_global
    except ValueError:
        return False
