"""The README's first command, as a newcomer runs it."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest

from conftest import REPOSITORY, read_manifest
from submit.conftest import environment


def make_demo(folder: Path, target: str = "demo") -> str:
    done = subprocess.run(
        ["make", target, f"DEMO={folder}"],
        check=False,
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_make_demo_and_again(tmp_path: Path) -> None:
    output = tmp_path / "output"
    text = make_demo(tmp_path)
    manifest = read_manifest(output)
    assert manifest["counts"]["embedded"] == 648
    assert manifest["counts"]["rejected"] == 5
    assert not manifest["random_weights"]
    assert manifest["embedding"]["weights_digest"].startswith("b917f4fa484e2422")
    assert manifest["classifier"]["accuracy"] > 0.9
    page = Path(manifest["report"])
    assert f"report:     {page}" in text
    assert page.stat().st_size > 500_000

    text = make_demo(tmp_path)
    assert "653 listed = 0 embedded + 0 rejected + 653 unchanged" in text
    assert read_manifest(output)["counts"]["model_rows"] == 0
    assert len(pd.read_parquet(output / "features")) == 648


@pytest.mark.long
def test_make_demo_planes(tmp_path: Path) -> None:
    text = make_demo(tmp_path, "demo-planes")
    output = tmp_path / "planes" / "output"
    photos = pd.read_parquet(output / "crawl" / "drawn" / "photos.parquet")
    failures = pd.read_parquet(output / "crawl" / "drawn" / "failures.parquet")
    assert (len(photos), set(photos["constructor"].dropna())) == (174, {"Airbus", "Boeing"})
    assert sorted(failures["code"]) == ["empty", "not_an_image", "truncated"]
    (groups,) = output.glob("explore/*/tables/groups.parquet")
    assert pd.read_parquet(groups)["column_name"].tolist()[:2] == ["registration", "airline"]
    assert "photographs share a registration with another: split by registration" in text
    manifest = read_manifest(output)
    assert (manifest["counts"]["embedded"], manifest["counts"]["rejected"]) == (174, 0)
    assert manifest["classifier"]["accuracy"] > 0.9
    assert f"report:     {manifest['report']}" in text
