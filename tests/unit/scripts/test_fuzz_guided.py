"""The fuzzer that follows the code starts from files of all formats, or says what it needs."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import fuzz_decode
from mirabelle.decode.formats import FORMATS

SCRIPT = Path(__file__).parents[3] / "scripts" / "fuzz_guided.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)


def test_without_a_corpus_it_says_how_it_is_used() -> None:
    done = run()
    assert done.returncode == 2
    assert "python scripts/fuzz_guided.py CORPUS" in done.stdout


def test_without_atheris_it_says_where_that_is_to_be_had(tmp_path: Path) -> None:
    code = """
import runpy, sys
sys.modules["atheris"] = None
del sys.argv[0]
runpy.run_path(sys.argv[0], None, "__main__")
"""
    words = [sys.executable, "-c", code, str(SCRIPT), str(tmp_path / "corpus")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: atheris is missing, which follows the code: pip install atheris==3.0.0\n"
    assert not (tmp_path / "corpus").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed; it is no dependency")
def test_a_little_of_it_finds_nothing(tmp_path: Path) -> None:
    done = run(str(tmp_path / "corpus"), "-atheris_runs=300")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 300 in" in done.stderr
    seeds = fuzz_decode.seeds_of([], list(FORMATS))
    assert len(list((tmp_path / "corpus").glob("seed-*"))) == len(seeds)
