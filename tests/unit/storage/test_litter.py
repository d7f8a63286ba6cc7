"""What lies among pictures and is none."""

import os
import tempfile
from pathlib import Path

import pytest

from mirabelle.config.models import Images
from mirabelle.errors import ListingError
from mirabelle.listing import list_images
from mirabelle.storage import DiskStore, join
from mirabelle.table import lease
from mirabelle.table.chunks import STAGING
from mirabelle.table.runlog import RunLog

PICTURES = ["a/1.jpg", "a/thumbs.db.jpg", "b/desktop.ini.png", "runs/20260101/2.jpg", "report/3.jpg"]
LITTER = [
    "Thumbs.db",
    "a/Thumbs.db",
    "a/THUMBS.DB",
    "a/ehthumbs.db",
    "b/desktop.ini",
    "b/Desktop.ini",
    "__MACOSX/a/._1.jpg",
    "__MACOSX/a/1.jpg",
    "a/.ipynb_checkpoints/1-checkpoint.jpg",
    ".DS_Store",
    "a/._1.jpg",
    "$RECYCLE.BIN/S-1-5/1.jpg",
    "System Volume Information/IndexerVolumeGuid",
    "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
    "a/Icon\r",
    ".Trash-1000/files/1.jpg",
]


def listed(root: Path, *names: str, exclude: tuple[str, ...] = Images().exclude) -> list:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    found = list_images(DiskStore(), str(root), ["*"], exclude, scratch=tempfile.mkdtemp())
    return [os.path.relpath(path, root) for path in found.table["path"].to_pylist()]


@pytest.mark.parametrize("exclude", [(), (".*",), ("*.txt",), ("Thumbs.db", "desktop.ini")])
def test_what_systems_leave_is_never_listed_whatever_is_excluded(tmp_path: Path, exclude: tuple[str, ...]) -> None:
    assert listed(tmp_path, *PICTURES, *LITTER, exclude=exclude) == sorted(PICTURES)


def test_a_folder_of_litter_alone_has_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(ListingError, match="hidden files, what systems leave and what Mirabelle wrote do not count"):
        listed(tmp_path, *LITTER)


def test_the_root_itself_may_be_hidden(tmp_path: Path) -> None:
    assert listed(tmp_path / ".cache" / "__MACOSX", "a/1.jpg") == ["a/1.jpg"]


def test_another_runs_output_is_no_picture(tmp_path: Path) -> None:
    run = RunLog(DiskStore(), str(tmp_path / "old" / "out"), "extract", {}).run_id
    written = [
        f"runs/{run}.json",
        f"runs/{run}.listing.parquet",
        f"features/embedding=vgg16-01234567/run={run}/chunk=0/part-00000-53d1b738.parquet",
        f"features/embedding=vgg16-01234567/run={run}/chunk=0/_chunk.json",
        f"rejects/embedding=vgg16-01234567/run={run}/chunk=0/part-00000-53d1b738.parquet",
        f"{STAGING}/run={run}/chunk=1/features/part-00000-53d1b738.parquet",
        f"pca/{run}/pca.npz",
        f"pca/{run}/pipeline/metadata/_SUCCESS",
        f"classifier/{run}/classifier.json",
        f"predictions/{run}/part-00000.snappy.parquet",
        f"finetuned/{run}/model.keras",
        "finetuned/unfinished-51e75913/state.json",
        f"comparison/{run}/comparison.json",
        f"certificate/{run}/certificate.json",
        f"explore/{run}/tables/formats.csv",
        f"bundle/{run}/network/model.bin",
        f"bundle/{run}.tar",
        "networks/int8-0123456789ab/network.json",
        f"report/{run}/index.html",
        lease.FILE,
    ]
    found = listed(tmp_path, "1.jpg", "old/out/2.jpg", *(join("old", "out", name) for name in written), *written)
    assert found == ["1.jpg", "old/out/2.jpg"]
