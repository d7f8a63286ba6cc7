"""What the summary of a run of the tests says at its end; not in conftest.py, which pytest and tests import apart."""

import pytest

REMARKS = pytest.StashKey[list[str]]()


def remark(config: pytest.Config, text: str) -> None:
    """Have the summary of the run say this once, whichever of its processes finds it."""
    remarks_of(config).append(text)


def remarks_of(config: pytest.Config) -> list[str]:
    """What this process is to say."""
    return config.stash.setdefault(REMARKS, [])
