"""The model of a cluster: what it must say whatever it knows, and that the page has what it says."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "bench"))
    yield importlib.import_module("scaling")
    sys.modules.pop("scaling", None)


def test_no_core_is_faster_than_it_is_and_one_prefix_feeds_so_many(scaling: ModuleType) -> None:
    images, cluster = 1_000_000, scaling.Cluster(64)
    ideal = images / (cluster.rate * cluster.cores)
    assert ideal < scaling.embed_seconds(images, cluster) < 1.1 * ideal
    starved = scaling.embed_seconds(images, replace(cluster, cores=1024, prefixes=1))
    assert starved > images / scaling.REQUESTS_A_PREFIX


@pytest.mark.slow
def test_the_page_has_what_the_model_says(scaling: ModuleType) -> None:
    page = (ROOT / "docs" / "scaling.md").read_text().splitlines()
    assert [line for line in scaling.tables() if line not in page] == []
