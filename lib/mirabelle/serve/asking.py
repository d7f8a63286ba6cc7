"""Who asks, and how often: bearer tokens and a rate for each client. Touches nothing but the clock it is given."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from mirabelle.serve.problems import Code, Problem

# Clients whose rate is remembered; the one seen longest ago is forgotten first.
MAX_CLIENTS = 10_000
# Longer ones are no token of ours, and are not looked at.
MAX_TOKEN_BYTES = 4096


class Tokens:
    """The tokens that may ask. Only their digests are kept."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]

    def check(self, authorization: bytes | None) -> str | None:
        """The name that a request's client goes by, if a token is needed; None where none is.

        Every comparison takes as long as any other: digests of one length, by ``hmac.compare_digest``, all of them.

        Raises:
            Problem: 401; there is no token, or a wrong one.
        """
        if not self._digests:
            return None
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token.strip():
            raise _needed("send Authorization: Bearer TOKEN", 'Bearer realm="mirabelle"')
        wrong = 'Bearer realm="mirabelle", error="invalid_token"'
        if len(token) > MAX_TOKEN_BYTES:
            raise _needed("the token is none that is known here", wrong)
        digest = hashlib.sha256(token.strip()).digest()
        known = [hmac.compare_digest(digest, one) for one in self._digests]
        if not any(known):
            raise _needed("the token is none that is known here", wrong)
        return f"token {known.index(True)}"


def _needed(detail: str, challenge: str) -> Problem:
    return Problem(401, Code.TOKEN, detail, {"WWW-Authenticate": challenge})


class Rates:
    """A bucket of ``burst`` requests for each client, which fills at ``rate`` a second."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, client: str) -> None:
        """Take one request out of the client's bucket; raises ``Problem`` 429 with when to come again."""
        if not self._rate:
            return
        now = self._clock()
        left, seen = self._left.pop(client, (float(self._burst), now))
        left = min(self._burst, left + (now - seen) * self._rate)
        self._left[client] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > MAX_CLIENTS:
            self._left.popitem(last=False)
        if left < 1:
            wait = math.ceil((1 - left) / self._rate)
            raise Problem(
                429,
                Code.RATE,
                f"more than {self._rate:g} requests a second; try again in {wait} s",
                {"Retry-After": str(wait)},
            )
