"""Contents for report tests: small pictures that Pillow draws, labels that attack the page, a whole report."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mirabelle.report import (
    ConfusedPair,
    Evaluation,
    Neighbours,
    Picture,
    Reject,
    ReportContents,
    Scatter,
    Scree,
)

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror="window.pwned=1">',
    "</script><script>window.pwned=1</script>",
    "<!--<script>",
    "'); window.pwned=1; ('",
    "javascript:window.pwned=1",
    "{{ 7*7 }}{% raw %}",
    "<svg onload=window.pwned=1>",
    "&lt;b&gt; &amp;",
    "__proto__",
    "\u202eevil \u2028 line \x00 nul",
    "a label so long that it could push the page wide " * 4 + "w" * 200,
)


def draw(seed: int, side: int = 48, form: str = "WEBP") -> bytes:
    """An encoded picture of noise over a plain colour."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.integers(0, 256, 3) + rng.normal(0, 12, (side, side, 3)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def name_labels(classes: int) -> list[str]:
    """The hostile labels first, then harmless ones."""
    return [*HOSTILE, *(f"Kind {i}" for i in range(len(HOSTILE), classes))][:classes]


def build_evaluation(labels: list[str], each: int = 20) -> Evaluation:
    """Every label has ``each`` test images; ``i % 5`` of those of label i are taken for the next one."""
    k = len(labels)
    wrong = np.arange(k) % 5
    confusion = np.diag(each - wrong)
    confusion[np.arange(k), (np.arange(k) + 1) % k] += wrong
    right = np.diag(confusion)
    precision, recall = right / confusion.sum(axis=0), right / each
    f1 = 2 * precision * recall / (precision + recall)
    return Evaluation(
        labels=labels,
        confusion=confusion,
        accuracy=float(right.sum() / confusion.sum()),
        top3=1.0,
        macro_f1=float(f1.mean()),
        precision=precision,
        recall=recall,
        f1=f1,
        support=np.full(k, each),
        estimator="Logistic <regression>",
        features="61 principal components",
        split="One in five of each label was held out.",
        train_rows=80 * k,
        test_rows=each * k,
    )


MANIFEST = {
    "run_id": "20261121T214200Z-1a2b",
    "status": "done",
    "started": "2026-11-21T21:42:00+00:00",
    "finished": "2026-11-21T21:45:14+00:00",
    "command": "run",
    "images_root": "s3://bucket/<images>",
    "output": "s3://bucket/out",
    "counts": {"listed": 5100, "embedded": 5000, "rejected": 3, "unchanged": 97, "new": 5003, "model_rows": 5000},
    "rejects_by_code": {"truncated": 2, "denied": 1},
    "seconds": {"session": 5.1, "list": 0.4, "embed": 180.0},
    "worker_seconds": {"waiting_for_store": 10.0, "waiting_for_decoding": 30.0, "inference": 310.0, "writing": 2.0},
    "decode_core_seconds": 32.5,
    "images_per_second": 26.4,
    "fingerprint": "ab" * 32,
    "embedding": {"backbone": "vgg16", "weights": "imagenet", "width": 512, "precision": "bf16"},
    "engine": "openvino",
    "cores": 2,
    "versions": {"mirabelle": "0.1.0", "pyspark": "4.0.0"},
    "machine": {"cpu": "A processor", "cores": 2, "memory_gib": 24},
    "config": {"images": {"root": "</pre><script>window.pwned=1</script>"}},
}


def build_contents(classes: int = 12, points: int = 240) -> ReportContents:
    """A whole report whose every text field attacks the page."""
    rng = np.random.default_rng(classes)
    labels = name_labels(classes)
    thumbnails = [draw(i) for i in range(classes)]

    def picture(i: int) -> Picture:
        return Picture(f"s3://bucket/{labels[i % classes]}/{i}.jpg", labels[i % classes], thumbnails[i % classes])

    pictures = [picture(i) for i in range(points)]
    centres = rng.normal(0, 5, (classes, 2))
    spread = np.sort(rng.random(512) ** 6)[::-1]
    rejects = [Reject(f"s3://{text}", "decode", "truncated", text, 1234, None) for text in HOSTILE]
    return ReportContents(
        title=HOSTILE[0],
        manifest=MANIFEST,
        rejects=[*rejects, Reject("plain", "fetch", "denied", "", None, thumbnails[0])],
        rejects_total=1234,
        scree=Scree(spread / spread.sum(), 61, 0.8, 5000),
        scatter=Scatter(
            pictures=pictures,
            coordinates=np.array([centres[i % classes] for i in range(points)]) + rng.normal(0, 0.6, (points, 2)),
            split=["train" if i % 3 else "test" for i in range(points)],
            total=5000,
        ),
        neighbours=[Neighbours(picture(i), [(picture(i + j), 0.9 - j / 50) for j in range(5)]) for i in range(3)],
        evaluation=build_evaluation(labels),
        confused=[ConfusedPair(labels[4], labels[5], 4, pictures[:3], pictures[3:5])],
        notes=["The weights are random: these features mean nothing.", HOSTILE[1]],
    )


@pytest.fixture(scope="session")
def make_contents() -> Callable[..., ReportContents]:
    """``make_contents(classes=12, points=240, **changed)``: a report with some fields replaced."""

    def make(classes: int = 12, points: int = 240, **changed: object) -> ReportContents:
        return replace(build_contents(classes, points), **changed)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def empty_contents() -> ReportContents:
    """A report of a run that did nothing yet."""
    return ReportContents(
        title="Nothing yet",
        manifest={},
        rejects=[],
        rejects_total=0,
        scree=None,
        scatter=None,
        neighbours=[],
        evaluation=None,
        confused=[],
        notes=[],
    )


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., bytes]:
    """``make_picture(seed, side=48, form="WEBP")``: an encoded picture."""
    return draw


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    """Texts that try to get out of where they are put."""
    return HOSTILE
