"""What Prometheus is told. One registry for one server, so that tests can have several. Touches nothing."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

PARTS = ("decode", "wait", "network", "explain")
"""Where a request's time goes once its body is there: its pictures are decoded, wait for a batch, the network runs."""


class Metrics:
    """The server's counters; each attribute is one of them, with its labels beside it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        more: dict[str, Any] = {"namespace": "mirabelle", "registry": self.registry}
        self.requests = Counter("requests", "Requests answered.", ["route", "method", "status"], **more)
        self.request_seconds = Histogram(
            "request_seconds", "From a request's head to its answer.", ["route"], buckets=_SECONDS, **more
        )
        self.part_seconds = Histogram(
            "part_seconds", "By part of the work on a request or picture.", ["part"], buckets=_SECONDS, **more
        )
        self.batch_pictures = Histogram("batch_pictures", "Pictures in a batch.", buckets=_SIZES, **more)
        self.rejects = Counter("rejects", "Pictures that got no answer, by reject code.", ["code"], **more)
        self.refused = Counter("refused", "Requests refused, by problem code.", ["code"], **more)
        self.queue = Gauge("queue_pictures", "Pictures taken in and not yet answered: scale by this.", **more)
        self.queue_limit = Gauge("queue_limit_pictures", "How many there may be.", **more)
        self.under_way = Gauge("requests_under_way", "Requests not yet answered.", **more)
        self.held = Gauge("held_bytes", "Bytes of requests' bodies in memory.", **more)
        self.reloads = Counter("reloads", "New bundles taken, or refused.", ["outcome"], **more)
        self.bundle = Gauge("bundle_info", "The bundle that answers; its value is 1.", ["id", "fingerprint"], **more)
        for part in PARTS:
            self.part_seconds.labels(part)
        for outcome in ("taken", "refused"):
            self.reloads.labels(outcome)

    def text(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self.registry)
