"""What the benchmark expects of every peer: it says what it is, and ends with a sentence where it can't run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PEERS = sorted(
    path
    for path in (Path(__file__).parents[3] / "scripts" / "bench" / "peers").glob("*.py")
    if "__main__" in path.read_text()
)


def run(peer: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(peer), *options], check=False, capture_output=True, text=True)


def test_there_are_peers() -> None:
    assert len(PEERS) >= 7


@pytest.mark.parametrize("peer", PEERS, ids=lambda path: path.stem)
def test_describe_needs_nothing_that_is_heavy(peer: Path) -> None:
    done = run(peer, "--describe")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert set(facts) == {"name", "precisions", "python"}
    assert facts["name"]
    assert "float32" in facts["precisions"]
    assert set(facts["precisions"]) <= {"float32", "bf16"}
    assert facts["python"] in {"main", "bench", "synapseml"}


@pytest.mark.parametrize("peer", PEERS, ids=lambda path: path.stem)
def test_without_pictures_it_ends_with_a_sentence(peer: Path, tmp_path: Path) -> None:
    done = run(
        peer, "--images", str(tmp_path), "--output", str(tmp_path / "out"), "--weights", "random:0", "--network", "none"
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.strip().endswith(f"{tmp_path} holds no *.jpg.")
    assert not (tmp_path / "out").exists()
