"""`mirabelle explore` for spark-submit: the same options, the same functions, the same exit codes."""

import sys
from collections.abc import Sequence

from mirabelle.cli import main as mirabelle


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit code."""
    return mirabelle(["explore", *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
