"""Bundles that were tampered with are refused, each with a sentence that names the file."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bundles import made, put, put_tar
from mirabelle.bundle import open_bundle
from mirabelle.bundle.classifying import read_arrays
from mirabelle.bundle.sealing import MANIFEST, SEAL, digest, read_sealed, to_tar
from mirabelle.cli import main
from mirabelle.errors import BundleError

NAMES = sorted(made())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return put(tmp_path / "bundle", made())


def refused(path: Path) -> str:
    """The sentence that a bundle is refused with."""
    with pytest.raises(BundleError) as told:
        read_sealed(str(path))
    assert told.value.exit_code == 2
    return str(told.value)


def test_a_folder_and_a_tar_hold_the_same(tmp_path: Path) -> None:
    sealed = made()
    folder, tar = put(tmp_path / "b", sealed), put_tar(tmp_path / "b.tar", sealed)
    facts, files = read_sealed(str(folder))
    assert sorted([*files, MANIFEST, SEAL]) == NAMES
    assert sorted(facts["files"]) == sorted(files)
    assert read_sealed(str(tar)) == (facts, files)
    assert facts["sha256"] == digest((folder / MANIFEST).read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_byte_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    for place in (0, len(content) // 2, len(content) - 1):
        content[place] ^= 1
        (folder / name).write_bytes(content)
        sentence = refused(folder)
        assert (MANIFEST if name == SEAL else name) in sentence and "changed" in sentence
        content[place] ^= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_file_cut_short_or_made_longer_is_refused(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for content in (whole[:-1], b"", whole + b"\n"):
        (folder / name).write_bytes(content)
        assert "changed" in refused(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in (sentence := refused(folder)) and ("missing" in sentence or "has no" in sentence)


@pytest.mark.parametrize("name", ["more.bin", "network/more.xml", "deep/er/one", "__init__.py"])
def test_an_added_file_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    put(folder, {name: b"x"})
    assert f"{name} was added" in refused(folder)
    assert f"{name} was added" in refused(put_tar(tmp_path / "b.tar", {**made(), name: b"x"}))


def test_two_files_swapped_are_refused(folder: Path) -> None:
    one, other = folder / "classifier.npz", folder / "MODEL_CARD.md"
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    assert "changed" in refused(folder)


@pytest.mark.parametrize(
    "name", ["../out", "/etc/passwd", "a/../../b", "a//b", "./a", "a\\b", "~/a", ".hidden", "a\n", ""]
)
def test_a_name_that_leads_out_is_refused_in_manifest_and_tar(tmp_path: Path, name: str) -> None:
    assert repr(name) in (told := refused(put_tar(tmp_path / "b.tar", made(files={name: b"x"})))) and "trust" in told
    # Only in the manifest, sealed anew.
    files = made()
    facts = json.loads(files[MANIFEST])
    facts["files"][name] = {"sha256": digest(b"x"), "size_bytes": 1}
    manifest = json.dumps(facts).encode()
    sealed = {**files, MANIFEST: manifest, SEAL: f"{digest(manifest)}  {MANIFEST}\n".encode()}
    assert repr(name) in refused(put(tmp_path / "folder", sealed))
    assert not list(tmp_path.parent.glob("out")) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    sink = io.BytesIO(to_tar(made()))
    with tarfile.open(fileobj=sink, mode="a") as archive:
        entry = tarfile.TarInfo("network/more.bin")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    (tmp_path / "b.tar").write_bytes(sink.getvalue())
    assert "network/more.bin is no plain file" in refused(tmp_path / "b.tar")


def test_a_name_that_is_in_a_tar_twice_is_refused(tmp_path: Path) -> None:
    sink = io.BytesIO(to_tar(made()))
    with tarfile.open(fileobj=sink, mode="a") as archive:
        archive.addfile(tarfile.TarInfo("MODEL_CARD.md"))
    (tmp_path / "b.tar").write_bytes(sink.getvalue())
    assert "MODEL_CARD.md is in it twice" in refused(tmp_path / "b.tar")


def test_a_link_in_a_folder_is_refused_wherever_it_leads(folder: Path, tmp_path: Path) -> None:
    (folder / "network").rename(tmp_path / "elsewhere")
    (folder / "network").symlink_to(tmp_path / "elsewhere")
    assert "reached by a link" in refused(folder)
    (folder / "network").unlink()
    (tmp_path / "elsewhere").rename(folder / "network")
    card = folder / "MODEL_CARD.md"
    card.rename(tmp_path / "card")
    card.symlink_to(tmp_path / "card")
    assert "MODEL_CARD.md is reached by a link" in refused(folder)


def test_what_is_no_file_in_a_folder_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "neither a file" in refused(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tar: b"", "no whole tar"),
        (lambda tar: b"junk" * 1000, "no whole tar"),
        (lambda tar: tar[:3000], "no whole tar"),
        (lambda tar: tar[:512], "no whole tar"),
        (lambda tar: bytes(1024), "has no bundle.json"),
    ],
)
def test_what_is_no_tar_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], told: str) -> None:
    (tmp_path / "b.tar").write_bytes(change(to_tar(made())))
    assert told in refused(tmp_path / "b.tar")


def test_a_place_without_a_bundle_is_refused(tmp_path: Path) -> None:
    assert "there is no bundle" in refused(tmp_path / "nowhere")
    assert "cannot read the bundle" in refused(tmp_path / "nowhere.tar")
    (tmp_path / "empty").mkdir()
    assert "has no bundle.json" in refused(tmp_path / "empty")


def test_the_command_says_it_in_a_sentence_with_code_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "network" / "model.bin").write_bytes(b"other")
    assert main(["predict", str(folder), str(folder)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "network/model.bin was changed" in told and "Traceback" not in told


def test_the_seal_is_what_sha256sum_reads(folder: Path) -> None:
    import subprocess

    done = subprocess.run(["sha256sum", "-c", SEAL], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{MANIFEST}: OK"


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return Path.write_text, (self.path, "harm done")  # type: ignore[return-value]


def test_what_is_pickled_is_not_opened(tmp_path: Path) -> None:
    """Of a bundle sealed by whoever means harm."""
    import numpy as np

    for save in (np.savez, np.savez_compressed):
        sink = io.BytesIO()
        save(sink, weights=np.array([Harm(tmp_path / "harm")], object), intercepts=np.zeros(3))
        with pytest.raises(BundleError, match="arrays"):
            read_arrays(sink.getvalue(), "classifier.npz")
        folder = put(tmp_path / "bundle", made(files={"classifier.npz": sink.getvalue()}))
        with pytest.raises(BundleError):
            open_bundle(str(folder))
    assert not (tmp_path / "harm").exists()
