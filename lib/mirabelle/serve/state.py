"""What the parts of one server share, and what is known of one request. Touches nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, cast

from starlette.requests import Request

from mirabelle.serve.asking import Rates, Tokens
from mirabelle.serve.body import Held
from mirabelle.serve.current import Current
from mirabelle.serve.metrics import Metrics
from mirabelle.serve.settings import ServeSettings
from mirabelle.serve.work import Work


@dataclass
class Shared:
    """One server's parts.

    Attributes:
        is_stopping: SIGTERM has come: what is asked is answered, and connections are closed after that.
    """

    settings: ServeSettings
    current: Current
    work: Work
    metrics: Metrics
    held: Held
    tokens: Tokens
    rates: Rates
    is_stopping: bool = False


@dataclass
class Asked:
    """One request: its id, when its head came, and what the log is to say of it."""

    id: str
    started: float = field(default_factory=time.perf_counter)
    notes: dict[str, Any] = field(default_factory=dict)


def shared_of(request: Request) -> Shared:
    """The server that a request came to."""
    return cast(Shared, request.app.state.shared)


def asked_of(request: Request) -> Asked:
    """What is known of a request."""
    return cast(Asked, request.scope["asked"])
