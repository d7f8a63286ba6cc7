"""Real clusters on loopback: Spark's own standalone one, and YARN."""

from collections.abc import Iterator

import pytest

from cluster.yarn import Yarn
from submit.conftest import wheel  # noqa: F401  # a fixture that both tiers have


@pytest.fixture(scope="session")
def yarn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yarn]:
    """Logs of all applications stay in its folder for a look afterwards."""
    with Yarn(tmp_path_factory.mktemp("yarn")) as started:
        yield started
