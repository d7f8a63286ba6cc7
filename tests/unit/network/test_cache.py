"""The cache, and who may read and write it."""

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirabelle.config import Config, load
from mirabelle.errors import OutputError, WeightsError
from mirabelle.network import backbones, preparing, weights
from other_user import USER, as_another_user, where_mounted_read_only

SMALL = ["backbone.name=mobilenet", "backbone.weights=random:1", "backbone.input_px=32"]


def configured(*settings: str) -> Config:
    return load(None, ["images.root=.", "output=out", *SMALL, *settings], {})


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user reaches, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o027, 0o750), (0o077, 0o700)])
def test_a_converted_network_is_as_open_as_the_umask_lets_it_be(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        preparing.prepare_network(configured(f"cache={tmp_path / 'cache'}"), "float32")
    finally:
        os.umask(before)
    (folder,) = (tmp_path / "cache" / "networks").iterdir()
    assert folder.stat().st_mode & 0o777 == mode
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {mode & 0o666}


@pytest.mark.slow
def test_another_user_and_a_read_only_mount_take_the_network_from_the_cache(open_folder: Path) -> None:
    config = configured(f"cache={open_folder / 'cache'}")
    before = os.umask(0o022)
    try:
        preparing.prepare_network(config, "float32")
    finally:
        os.umask(before)
    assert as_another_user(lambda: str(preparing.prepare_network(config, "float32").was_cached)) == "True"
    settings = ["images.root=.", "output=out", *SMALL, f"cache={open_folder / 'cache'}"]
    code = (
        "from mirabelle.config import load; from mirabelle.network.preparing import prepare_network;"
        f"print(prepare_network(load(None, {settings!r}, {{}}), 'float32').was_cached)"
    )
    assert where_mounted_read_only(open_folder, code) == "True"


@pytest.mark.slow
def test_a_cache_that_another_user_may_not_read_is_one_sentence(open_folder: Path) -> None:
    config = configured(f"cache={open_folder / 'cache'}")
    preparing.prepare_network(config, "float32")
    (folder,) = (open_folder / "cache" / "networks").iterdir()
    for file in folder.iterdir():
        if file.name != preparing.FACTS:
            file.chmod(0o600)
    told = as_another_user(lambda: str(preparing.prepare_network(config, "float32").was_cached))
    assert told == (
        f"OutputError: cannot read {folder} in the cache: Permission denied; let it be read, or set cache to another"
        " folder"
    )


def test_without_a_home_a_temporary_folder_of_this_users_own_is_it(open_folder: Path) -> None:
    open_folder.chmod(0o1777)

    def work() -> str:
        tempfile.tempdir = str(open_folder)
        preparing.cache_folder(configured(f"cache={open_folder}"))
        return f"{preparing.cache_folder(configured())} {os.environ['HOME']}"

    folder = open_folder / f"mirabelle-home-{USER}"
    assert as_another_user(work) == f"{folder}/.cache/mirabelle {folder}"
    assert folder.stat().st_uid == USER
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_temporary_folder_that_somebody_else_made_is_no_cache(open_folder: Path) -> None:
    (open_folder / f"mirabelle-home-{USER}").mkdir()

    def work() -> str:
        tempfile.tempdir = str(open_folder)
        return str(preparing.cache_folder(configured()))

    assert as_another_user(work).startswith(
        f"OutputError: {open_folder}/mirabelle-home-{USER} is open to other users and no place for a home"
    )


def test_the_home_of_nobody_is_one_sentence() -> None:
    with pytest.raises(OutputError, match="no home folder for the cache ~nobody-of-this-name/cache; set cache"):
        preparing.cache_folder(configured("cache=~nobody-of-this-name/cache"))
    with pytest.raises(WeightsError, match=r"there is no weights file ~nobody-of-this-name/a\.weights\.h5"):
        weights.parse("~nobody-of-this-name/a.weights.h5").identity()


def without_keras(folder: Path, code: str) -> str:
    """What a script prints whose Python has all packages of this one but Keras."""
    (packages,) = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    folder.mkdir()
    for package in packages.iterdir():
        if package.suffix != ".pth" and not package.name.startswith(("keras", "tensorflow")):
            (folder / package.name).symlink_to(package)
    places = [str(Path(preparing.__file__).parents[2]), str(folder)]
    code = f"import sys; sys.path[:0] = {places!r}; {code}"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_without_keras_a_network_that_was_converted_elsewhere_counts(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    weights_file = tmp_path / "own.weights.h5"
    backbones.random_network(backbones.find("mobilenet"), 32, 3).save_weights(weights_file)
    own = [*SMALL, f"backbone.weights={weights_file}", f"cache={cache}"]
    for config in (configured(f"cache={cache}"), load(None, ["images.root=.", "output=out", *own], {})):
        made = preparing.prepare_network(config, "float32")
    # On the cluster there is no such file.
    weights_file.unlink()
    told = without_keras(
        tmp_path / "packages",
        "from mirabelle.config import load; from mirabelle.errors import UserError\n"
        "from mirabelle.network.preparing import prepare_network\n"
        "import importlib.util; print(importlib.util.find_spec('keras'))\n"
        f"for more in (['backbone.weights=random:1'], [], ['backbone.input_px=64'], ['backbone.weights=random:2']):\n"
        f"    config = load(None, ['images.root=.', 'output=out', *{own!r}, *more], {{}})\n"
        "    try: print(prepare_network(config, 'float32').embedding.weights_digest[:12])\n"
        "    except UserError as error: print(error)",
    ).splitlines()
    assert told[0] == "None"
    assert len(told[1]) == 12
    assert told[2] == made.embedding.weights_digest[:12] != told[1]
    assert told[3] == f"there is no weights file {weights_file}; mend its path"
    assert told[4].startswith("building a network needs Keras on the driver")
    assert "or set cache to one that `mirabelle pack` made of this network" in told[4]
