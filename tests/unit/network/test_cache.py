"""The cache, and who may read and write it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirabelle.config import Config, load
from mirabelle.errors import OutputError, WeightsError
from mirabelle.network import preparing, weights
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
        weights.parse("~nobody-of-this-name/a.weights.h5")
