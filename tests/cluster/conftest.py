"""Real clusters on loopback: Spark's own standalone one, and YARN."""

import sys
from collections.abc import Iterator

import pytest

from cluster.yarn import Yarn
from conftest import SMALL
from mirabelle.cluster.environment import Wanted
from mirabelle.cluster.packing import Pack, pack
from mirabelle.config import load
from mirabelle.console import Console
from submit.conftest import wheel  # noqa: F401

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture(scope="session")
def yarn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yarn]:
    """Logs of all applications stay in its folder for a look afterwards."""
    with Yarn(tmp_path_factory.mktemp("yarn")) as started:
        yield started


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """All that a cluster of this machine's own kind needs."""
    folder = tmp_path_factory.mktemp("pack")
    config = load(None, ["images.root=.", "output=.", *SMALL, f"cache={folder / 'cache'}"], {})
    return pack(config, Wanted("x86_64", PYTHON, "cluster"), folder, Console(quiet=True))
