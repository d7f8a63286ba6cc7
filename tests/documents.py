"""The commands that the documents tell people to type, as the tests that run them copy them out."""

from __future__ import annotations

import re
import shlex

from conftest import REPOSITORY


def commands(document: str) -> list[str]:
    """Every line of a document's indented blocks, continued lines joined, runs of blanks made one."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    # A comment that starts a block belongs to no command.
    blocks = re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) for line in lines]


def command(document: str, *containing: str) -> list[str]:
    """The one command of a document that has all of ``containing`` in it, as the words that a shell makes of it."""
    (found,) = [line for line in commands(document) if all(part in line for part in containing)]
    return shlex.split(found, comments=True)
