"""Archives for clusters: what is refused, and that the same files make the same bytes."""

import os
import tarfile
from pathlib import Path

import pytest

from mirabelle.cluster.environment import Wanted, write_archive
from mirabelle.cluster.packing import pack
from mirabelle.config import load
from mirabelle.console import Console
from mirabelle.errors import ConfigError, OutputError


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Wanted("arm", "3.11", "cluster"), "--arch arm: there are x86_64, aarch64"),
        (Wanted("x86_64", "3.9", "cluster"), "--python 3.9: there are 3.11, 3.12, 3.13"),
        (Wanted("x86_64", "3.11", "driver"), "--for driver: there are cluster, worker"),
        (Wanted("x86_64", "3.11", "worker", Path("nowhere")), "no bin/python3.11 in it; `uv python install 3.11`"),
    ],
)
def test_what_cannot_be_packed_is_one_sentence(wanted: Wanted, told: str) -> None:
    with pytest.raises(ConfigError, match=r"^--") as error:
        wanted.check()
    assert told in str(error.value)


def test_a_pack_is_for_openvino_alone(tmp_path: Path) -> None:
    config = load(None, ["images.root=.", "output=.", "engine.name=keras"], {})
    with pytest.raises(ConfigError, match=r"engine\.name keras needs Keras on every worker"):
        pack(config, Wanted("x86_64", "3.11", "cluster"), tmp_path, Console(quiet=True))


def test_the_same_files_make_the_same_bytes_which_anyone_may_read(tmp_path: Path) -> None:
    archives = []
    for number, umask in enumerate((0o022, 0o077)):
        before = os.umask(umask)
        root = tmp_path / f"root{number}"
        (root / "bin").mkdir(parents=True)
        (root / "bin" / "python").write_text("#!/bin/sh\n")
        (root / "bin" / "python").chmod(0o700)
        (root / "a.txt").write_text("a")
        os.utime(root / "a.txt", (number, number))
        os.umask(before)
        archive = tmp_path / f"{number}.tar.gz"
        write_archive(archive, root)
        archives.append(archive.read_bytes())
    assert archives[0] == archives[1]
    with tarfile.open(tmp_path / "1.tar.gz") as tar:
        modes = {member.name: member.mode for member in tar}
    assert modes == {"a.txt": 0o644, "bin": 0o755, "bin/python": 0o755}


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*none/a\.tar\.gz: No such file or directory; set --to"):
        write_archive(tmp_path / "none" / "a.tar.gz", tmp_path / "root")
