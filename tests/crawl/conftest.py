"""Crawls as a user types them, each in a process of its own, of a site on loopback."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import coverage
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import REPOSITORY, SHARED
from crawl.site import Site

# Its assertions say what they compare.
pytest.register_assert_rewrite("crawl.truth")

COMMAND = str(Path(sys.executable).with_name("mirabelle"))
CONTACT = "crawl.contact=spotter@example.org"


def drawn_jpeg(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


@pytest.fixture(scope="session")
def drawn() -> list[bytes]:
    """Pictures that nobody owns."""
    return [drawn_jpeg(number) for number in range(600)]


@pytest.fixture(scope="session")
def photographs() -> list[bytes]:
    """Photographs of aeroplanes, each another."""
    folder = SHARED / "data" / "planes" / "photos"
    if not folder.is_dir():
        pytest.skip("the real pictures (shared/data/planes) are not on this machine")
    return list({path.read_bytes(): None for path in sorted(folder.iterdir())})


def measured() -> list[str]:
    """The command; where coverage is measured, so that it is of what the command does, too."""
    if coverage.Coverage.current() is None:
        return [COMMAND]
    data = ["--parallel-mode", f"--data-file={REPOSITORY / '.coverage'}", "--branch", "--source=mirabelle"]
    return [sys.executable, "-m", "coverage", "run", *data, "-m", "mirabelle"]


def watched(process: subprocess.Popen[bytes]) -> float:
    """Its most memory, MiB, once it has ended."""
    peak_mib = 0.0
    # What wait4 tells counts the memory of the process that forked it, too.
    while process.poll() is None:
        with suppress(OSError, IndexError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak_mib = int(status.split("VmHWM:")[1].split()[0]) / 1024
        time.sleep(0.05)
    return peak_mib


@dataclass
class Ended:
    """A crawl that has ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    peak_mib: float


@dataclass
class Place:
    """An output, and a folder of descriptions that may be changed."""

    folder: Path
    settings: list[str] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def crawled(self) -> Path:
        return self.output / "crawl" / "planespotters"

    @property
    def photos(self) -> pd.DataFrame:
        return pd.read_parquet(self.crawled / "photos.parquet")

    @property
    def failures(self) -> pd.DataFrame:
        return pd.read_parquet(self.crawled / "failures.parquet")

    def describe(self, name: str, text: str | None = None) -> Path:
        """A description of this place's own: the shipped one of that name, or another text."""
        file = self.folder / "sites" / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        if text is None:
            shutil.copy(REPOSITORY / "conf" / "sites" / file.name, file)
        else:
            file.write_text(text, encoding="utf-8")
        return file

    def command(self, site: Site, description: Path | str, *more: str) -> list[str]:
        settings = [CONTACT, "crawl.permission=a test of ours", f"output={self.output}", f"crawl.site={description}"]
        settings += [f"crawl.start=['{site.url}/photos?page={{page:1..{site.pages}}}']", *self.settings]
        options = [word for word in more if word.startswith("--")]
        settings += [word for word in more if not word.startswith("--")]
        return [*measured(), "crawl", *options, *(word for one in settings for word in ("--set", one))]

    def run(self, site: Site, description: Path | str, *more: str) -> Ended:
        """To its end; ``more`` are options and settings."""
        began = time.monotonic()
        logs = self.folder / "stdout", self.folder / "stderr"
        with logs[0].open("wb") as out, logs[1].open("wb") as err:
            process = subprocess.Popen(self.command(site, description, *more), stdout=out, stderr=err, cwd=self.folder)
            peak_mib = watched(process)
        stdout, stderr = (log.read_text() for log in logs)
        assert "Traceback" not in stderr, stderr
        return Ended(process.returncode, stdout, stderr, time.monotonic() - began, peak_mib)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, ["crawl.delay_seconds=0", "crawl.retry_seconds=0.02"])
