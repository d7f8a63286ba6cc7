"""Bundles in a bucket, asked about pictures in a bucket."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bundles import made
from conftest import draw
from mirabelle import open_bundle
from mirabelle.bundle.sealing import to_tar
from mirabelle.cli import main
from mirabelle.errors import BundleError, MirabelleError
from object_store import Server, put


@pytest.fixture
def place(aws: Server, client: Any, bucket: str, tmp_path: Path) -> str:
    """A bucket with a bundle, as folder and tar, and pictures."""
    files = made()
    for name, content in files.items():
        put(client, bucket, f"b/{name}", content)
    put(client, bucket, "b.tar", to_tar(files))
    for name, tint in (("green.png", (0, 100, 0)), ("in/red.png", (100, 0, 0))):
        draw(tmp_path / name, 1, tint=tint)
        put(client, bucket, f"pictures/{name}", (tmp_path / name).read_bytes())
    put(client, bucket, "pictures/none.jpg", b"")
    return f"s3://{bucket}"


def test_folder_and_tar_are_opened_there(place: str) -> None:
    one, other = open_bundle(f"{place}/b"), open_bundle(f"{place}/b.tar")
    assert one.info == other.info == open_bundle(f"{place}/b/").info


def test_pictures_there_are_answered_and_the_table_put_there(
    place: str, client: Any, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", f"{place}/b.tar", f"{place}/pictures", f"{place}/pictures/green.png"]) == 0
    told = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    kinds = {f"{place}/pictures/green.png": "green", f"{place}/pictures/in/red.png": "red"}
    assert dict(told) == {**kinds, f"{place}/pictures/none.jpg": "-"} and len(told) == 4
    assert main(["predict", f"{place}/b", f"{place}/pictures", "--parquet", f"{place}/p.parquet"]) == 0
    table = pd.read_parquet(io.BytesIO(client.get_object(Bucket=bucket, Key="p.parquet")["Body"].read()))
    assert table["predicted"].tolist() == ["green", "red", None]


@pytest.mark.parametrize("missing", ["pictures/gone.png", "gone/"])
def test_what_is_not_there_is_the_users_mistake(place: str, capsys: pytest.CaptureFixture[str], missing: str) -> None:
    assert main(["predict", f"{place}/b.tar", f"{place}/{missing}"]) == 2
    assert missing.rstrip("/") in capsys.readouterr().err


def test_tampering_is_refused_there_too(place: str, client: Any, bucket: str) -> None:
    put(client, bucket, "b/network/more.bin", b"x")
    with pytest.raises(BundleError, match=r"network/more\.bin was added"):
        open_bundle(f"{place}/b")
    client.delete_object(Bucket=bucket, Key="b/network/more.bin")
    client.delete_object(Bucket=bucket, Key="b/network/model.bin")
    with pytest.raises(BundleError, match=r"network/model\.bin is missing"):
        open_bundle(f"{place}/b")
    with pytest.raises(BundleError, match=r"cannot read the bundle s3://.*/gone\.tar"):
        open_bundle(f"{place}/gone.tar")
    with pytest.raises(MirabelleError, match=r"has no bundle\.json"):
        open_bundle(f"{place}/gone")
