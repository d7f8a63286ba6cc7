"""What `mirabelle pack` makes, used elsewhere: by another user, without Keras, on a real YARN."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.conftest import PYTHON
from cluster.programs import SPARK_HOME
from conftest import REPOSITORY, SMALL
from mirabelle.cluster.environment import Wanted
from mirabelle.cluster.packing import Pack, pack
from mirabelle.config import load
from mirabelle.console import Console
from other_user import USER

pytestmark = pytest.mark.long

# Every platform that runs on glibc 2.34, which is Amazon Linux 2023's: pip takes those alone that it is told of.
ARM = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 35))]


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that every user reaches, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def unpacked(packed: Pack, folder: Path) -> None:
    for archive, name in ((packed.environment, "environment"), (packed.network, "mirabelle-cache")):
        with tarfile.open(archive) as tar:
            tar.extractall(folder / name, filter="data")
    shutil.copy(packed.zipped, folder)
    (folder / packed.zipped.name).chmod(0o644)


def test_unpacked_elsewhere_another_user_passes_the_preflight(packed: Pack, elsewhere: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    unpacked(packed, elsewhere)
    # Spark is the cluster's own, which the archive has not.
    spark = elsewhere / "spark"
    spark.mkdir()
    for package in ("pyspark", "py4j"):
        (spark / package).symlink_to(SPARK_HOME.parent / package)
    python = elsewhere / "environment" / "bin" / "python"
    settings = [*SMALL, "cache=mirabelle-cache", "spark.master=local[1]"]
    code = (
        "import sys; from mirabelle.cli import main; import mirabelle; print(mirabelle.__file__);"
        f"sys.exit(main(['doctor', *(word for s in {settings!r} for word in ('--set', s))]))"
    )
    own = {k: v for k, v in os.environ.items() if k in ("JAVA_HOME", "LANG")}
    known = {
        **own,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(elsewhere),
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONPATH": f"{elsewhere / packed.zipped.name}:{spark}",
        "PYSPARK_PYTHON": str(python),
    }
    done = subprocess.run(
        [python, "-c", code],
        env=known,
        cwd=elsewhere,
        capture_output=True,
        text=True,
        user=USER,
        group=USER,
        check=False,
    )
    if "Permission denied" in done.stderr and str(SPARK_HOME) in done.stderr:
        pytest.skip("this Spark is in a folder that other users may not enter")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all that a run needs is there" in done.stdout
    assert "converted and in the cache" in done.stdout
    assert "keras" not in done.stdout
    assert str(elsewhere / packed.zipped.name) in done.stdout


def test_an_archive_without_its_python_says_which_it_wants(packed: Pack, elsewhere: Path) -> None:
    unpacked(packed, elsewhere)
    program = elsewhere / "environment" / "bin" / "python"
    program.write_text(program.read_text().replace(f"python{PYTHON}", "python3.99"))
    done = subprocess.run([program, "-c", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"error: {packed.environment.name} is for Python {PYTHON}, and there is none on " in done.stderr


@pytest.mark.parametrize("lock", ["requirements-worker-arm.lock", "requirements-cluster-arm.lock"])
def test_pip_finds_all_of_an_arm_lock_for_amazon_linux(lock: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-r", lock]
    command += ["--only-binary=:all:", "--python-version", "3.11", "--dest", str(tmp_path)]
    for platform in ARM:
        command += ["--platform", platform]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == len(re.findall("^[^ #]+==", (REPOSITORY / lock).read_text(), re.MULTILINE))


def test_an_archive_for_arm_has_arms_libraries_alone(packed: Pack, tmp_path: Path) -> None:
    config = load(None, ["images.root=.", "output=.", *SMALL, f"cache={packed.wheel.parent / 'cache'}"], {})
    arm = pack(config, Wanted("aarch64", "3.11", "worker"), tmp_path, Console(quiet=True))
    machines = set()
    with tarfile.open(arm.environment) as tar:
        for member in tar:
            file = tar.extractfile(member)
            start = file.read(20) if file else b""
            if start.startswith(b"\x7fELF"):
                machines.add(int.from_bytes(start[18:20], "little"))
    # EM_AARCH64 of the ELF specification
    assert machines == {183}
