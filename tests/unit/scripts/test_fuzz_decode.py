"""The fuzzer finds what there is to find, and a little of it finds nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fuzz_decode
from mirabelle.decode.formats import FORMATS

SCRIPT = Path(__file__).parents[3] / "scripts" / "fuzz_decode.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_little_of_it_finds_nothing() -> None:
    done = run("--executions", "500")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("500 executions over ")
    assert done.stdout.endswith("0 findings\n")


def test_there_is_a_seed_of_every_format() -> None:
    assert {kind.lower() for kind, _ in fuzz_decode.made_seeds()} == set(FORMATS)


def test_an_execution_is_told_by_its_number() -> None:
    seeds = fuzz_decode.seeds_of([], ["png"])
    content, options = fuzz_decode.execution(7, 1, seeds)
    assert (content, options) == fuzz_decode.execution(7, 1, seeds)
    assert content != fuzz_decode.execution(8, 1, seeds)[0]


@pytest.mark.slow
def test_what_takes_too_much_is_a_finding_whose_file_is_kept(tmp_path: Path) -> None:
    words = ("--executions", "3", "--first", "5", "--seed", "4", "--formats", "bmp", "--most-mib", "1")
    done = run(*words, "--keep", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.endswith("3 findings\n")
    seeds = fuzz_decode.seeds_of([], ["bmp"])
    for number in (5, 6, 7):
        assert (tmp_path / f"4-{number}").read_bytes() == fuzz_decode.execution(number, 4, seeds)[0]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended with -11"),
        ("import time; time.sleep(60)", "hung for 1 s"),
        ("print(1)", None),
    ],
)
def test_children_that_die_or_hang_are_noticed(program: str, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "number").write_bytes(bytes(8))
    _, ended = fuzz_decode.watched([sys.executable, "-c", program], tmp_path / "number", patience_seconds=1)
    assert ended == expected
