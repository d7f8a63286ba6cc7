"""What the documents link to is there."""

from __future__ import annotations

import re

import pytest

from conftest import REPOSITORY
from documents import commands

DOCUMENTS = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for path in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "conf").rglob("*.md")]
)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = REPOSITORY / document
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_readmes_lines_for_yarn_are_the_pages_which_are_run() -> None:
    page = [line for line in commands("docs/cluster/yarn.md") if line.startswith(("mirabelle ", "spark-submit "))]
    assert len(page) == 3
    assert [line for line in page if line not in commands("README.md")] == []
