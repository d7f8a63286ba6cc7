"""Paths as Spark's own columns give them, in manifests and in tables of labels."""

import tempfile
from pathlib import Path

import pytest

from mirabelle.listing import join_labels, list_images, read_manifest
from mirabelle.storage import DiskStore

NAMES = ["Apple Red/1.jpg", "Äpfel/2#.jpg", "half/50%.jpg", "odd/a%20b.jpg"]


def plain(file: Path) -> str:
    return f"file:{file}"


def encoded(file: Path) -> str:
    return file.as_uri()


def one_slash(file: Path) -> str:
    return file.as_uri().replace("file:///", "file:/")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_bytes(b"x")
    return tmp_path / "p"


@pytest.mark.parametrize("write", [plain, encoded, one_slash])
def test_a_manifest_of_uris_names_the_files(root: Path, write) -> None:
    manifest = root.parent / "m.csv"
    manifest.write_text("path\n" + "".join(f'"{write(root / name)}"\n' for name in NAMES))
    for below in (str(root), ""):
        found = read_manifest(DiskStore(), str(manifest), below, ["*"], [], scratch=tempfile.mkdtemp())
        assert sorted(found.table["path"].to_pylist()) == sorted(str(root / name) for name in NAMES)


@pytest.mark.parametrize("write", [plain, encoded, one_slash])
def test_a_table_of_uris_tells_the_labels(root: Path, write) -> None:
    table = root.parent / "t.csv"
    table.write_text("path,label\n" + "".join(f'"{write(root / name)}",{i}\n' for i, name in enumerate(NAMES)))
    assert labels(root, table) == {name: str(i) for i, name in enumerate(NAMES)}


def test_a_table_of_paths_that_are_not_plain_tells_the_labels(root: Path) -> None:
    table = root.parent / "t.csv"
    table.write_text("path,label\n" + "".join(f'"./{name}",{i}\n' for i, name in enumerate(NAMES)) + '" ",x\n')
    assert labels(root, table) == {name: str(i) for i, name in enumerate(NAMES)}


def labels(root: Path, table: Path) -> dict[str, str]:
    listing = list_images(DiskStore(), str(root), ["*"], [], scratch=tempfile.mkdtemp())
    found = join_labels(
        listing, DiskStore(), str(table), str(root), None, "label", "split", scratch=tempfile.mkdtemp()
    ).table
    names = (path.removeprefix(f"{root}/") for path in found["path"].to_pylist())
    return dict(zip(names, found["label"].to_pylist(), strict=True))
