"""What a crawl should come to, by what the site shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from crawl.conftest import Place
from crawl.site import FAULTS, Plane

FIELDS = ("constructor", "model_type", "airline", "registration", "photographer")


def check(place: Place, planes: Sequence[Plane], fields: Sequence[str] = FIELDS) -> None:
    """Each photograph is a row or a failure, once, and says what the site says."""
    photos, failures = place.photos, place.failures
    expected = {plane.id: plane for plane in planes if not plane.fault}
    assert not photos["id"].duplicated().any()
    assert set(photos["id"]) == set(expected)
    for name in fields:
        told = dict(zip(photos["id"], photos[name], strict=True))
        wrong = {i: (told[i], getattr(p, name)) for i, p in expected.items() if told[i] != seen(getattr(p, name))}
        assert not wrong, f"{name}: {list(wrong.items())[:5]}"
    lost = {
        re.findall(r"/(\d+)\.jpg", url)[0]: code for url, code in zip(failures["url"], failures["code"], strict=True)
    }
    assert len(lost) == len(failures)
    assert lost == {plane.id: FAULTS[plane.fault] for plane in planes if plane.fault}
    for path, digest in zip(photos["path"], photos["sha256"], strict=True):
        assert path.startswith(f"{place.crawled}/images/{digest[:2]}/{digest}.")
    stored = {str(path) for path in (place.crawled / "images").rglob("*.*")}
    assert stored == set(photos["path"])


def seen(value: str) -> str | None:
    """As a page shows it: blanks are one."""
    return " ".join(value.split()) or None
