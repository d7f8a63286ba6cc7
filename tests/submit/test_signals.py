"""Runs that are told to end while they embed, and one whose words nobody reads; as a shell starts them."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import SMALL, draw, read_manifest
from submit.conftest import BIN, environment, run_extract

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("not_under_nohup")]

PICTURES = 3000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "pictures"
    for i in range(PICTURES):
        draw(folder / "Training" / "opal" / f"{i}.png", seed=i)
    return folder


class Run:
    """`mirabelle extract` in a group of its own, as a shell has it, with a temporary folder of its own."""

    def __init__(self, pictures: Path, folder: Path, cache: Path) -> None:
        self.output, self.temporary = folder / "output", folder / "tmp"
        self.temporary.mkdir()
        self.settings = [
            f"images.root={pictures}",
            f"output={self.output}",
            f"cache={cache}",
            "extract.chunk_images=250",
        ]
        given = [*SMALL, *self.settings, "spark.master=local[2]"]
        self.process = subprocess.Popen(
            [str(BIN / "mirabelle"), "extract", *(word for setting in given for word in ("--set", setting))],
            env={**environment(), "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_for_a_chunk(self) -> None:
        deadline = time.monotonic() + 120
        while not list(self.output.glob("features/**/_chunk.json")):
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def send(self, *numbers: int) -> None:
        for number in numbers:
            os.killpg(self.process.pid, number)
            time.sleep(0.2)


@pytest.fixture
def run(many: Path, tmp_path: Path, cache: Path) -> Iterator[Run]:
    started = Run(many, tmp_path, cache)
    yield started
    if started.process.poll() is None:
        os.killpg(started.process.pid, signal.SIGKILL)
    started.process.wait()
    assert started.process.stdout is not None
    started.process.stdout.close()


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        pytest.param((signal.SIGINT,), 130, marks=pytest.mark.full),
        ((signal.SIGINT, signal.SIGINT, signal.SIGINT), 130),
        pytest.param((signal.SIGTERM,), 143, marks=pytest.mark.full),
        ((signal.SIGTERM, signal.SIGINT), 143),
    ],
    ids=["once", "impatient", "terminated", "both"],
)
def test_a_run_that_is_told_to_end_is_clean_and_goes_on_later(run: Run, numbers: tuple[int, ...], code: int) -> None:
    run.wait_for_a_chunk()
    run.send(*numbers)
    said, _ = run.process.communicate(timeout=60)
    name = signal.Signals(numbers[0]).name
    assert run.process.returncode == code, said
    told = said[said.index("stopping") :].splitlines()
    kept = f"interrupted by {name}; what was committed is kept, and the same command goes on from there"
    assert told == ["stopping", kept]
    manifest = read_manifest(run.output)
    assert (manifest["status"], manifest["error"]) == ("interrupted", f"interrupted by {name}")
    assert list(run.temporary.iterdir()) == []
    assert not [path for path in run.output.rglob("*") if "lease" in path.name and path.is_file()]
    done = run_extract(*run.settings)
    assert done.returncode == 0, done.stderr
    counts = read_manifest(run.output)["counts"]
    assert counts["listed"] == PICTURES
    assert 0 < counts["unchanged"] < PICTURES


def test_a_run_whose_words_nobody_reads_is_done_all_the_same(run: Run) -> None:
    assert run.process.stdout is not None
    run.process.stdout.readline()
    run.process.stdout.close()
    assert run.process.wait(240) == 0
    manifest = read_manifest(run.output)
    assert (manifest["status"], manifest["counts"]["embedded"]) == ("done", PICTURES)
