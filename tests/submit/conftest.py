"""Real `spark-submit`s of the jobs, with the built wheel, as users start them."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import REPOSITORY, SMALL, alone

BIN = Path(sys.executable).parent


def environment() -> dict[str, str]:
    """The user's, with this interpreter's commands first, and nothing of a make that runs the tests."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "MIRABELLE_"))}
    return {**own, "PATH": f"{BIN}:{os.environ['PATH']}", "PYSPARK_PYTHON": sys.executable}


def run_extract(*settings: str) -> subprocess.CompletedProcess[str]:
    """`mirabelle extract --quiet` on two cores, as a user types it."""
    given = [*SMALL, "spark.master=local[2]", *settings]
    options = [option for setting in given for option in ("--set", setting)]
    command = [str(BIN / "mirabelle"), "extract", "--quiet", *options]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240, check=False)


def build_wheel(folder: Path) -> None:
    """The package as a wheel, of today's sources alone."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    shutil.rmtree(REPOSITORY / "build", ignore_errors=True)
    subprocess.run([*command, "-w", str(folder), "."], cwd=REPOSITORY, check=True, env=environment())


@pytest.fixture(scope="session")
def wheel(run_folder: Path) -> Path:
    """The package as a wheel; built once for all processes of the run."""
    folder = run_folder / "wheel"
    with alone(run_folder / "wheel.lock"):
        if not list(folder.glob("*.whl")):
            build_wheel(folder)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
    for needed in (
        "mirabelle/report/page.html",
        "mirabelle/report/page.css",
        "mirabelle/report/map.js",
        "mirabelle/py.typed",
    ):
        assert needed in names
    return built


@pytest.fixture
def submit(wheel: Path) -> Callable[..., subprocess.Popen]:
    """Start a job; stdout and stderr come together, as spark-submit gives them."""
    started: list[subprocess.Popen] = []

    def start(job: str, *settings: str, package: Path = wheel) -> subprocess.Popen:
        options = [option for setting in settings for option in ("--set", setting)]
        command = [str(BIN / "spark-submit"), "--properties-file", "conf/spark-local.conf", "--master", "local[2]"]
        process = subprocess.Popen(
            [*command, "--py-files", str(package), f"jobs/{job}.py", *options],
            cwd=REPOSITORY,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
