"""Explorations as `mirabelle explore` carries them out, on drawn pictures and on real ones."""

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from conftest import REPOSITORY, SHARED, break_some
from documents import command
from mirabelle.cli import main
from mirabelle.config import load
from mirabelle.console import Console
from mirabelle.pipeline.explore import explore_images
from mirabelle.schema import photos_schema


def explored(output: Path, *settings: str) -> tuple[dict, Path]:
    """The run's manifest, and its folder."""
    explore_images(load(None, [f"output={output}", *settings], {}), Console(quiet=True))
    manifest = json.loads(sorted((output / "runs").glob("*.json"))[-1].read_text())
    return manifest, output / "explore" / manifest["run_id"]


def test_drawn_pictures(spark: SparkSession, pictures: Path, tmp_path: Path) -> None:
    whole = pictures / "Training" / "amber" / "1.png"
    shutil.copy(whole, pictures / "Training" / "beryl" / "copy.png")
    codes = break_some(pictures)
    output = tmp_path / "output"
    labels = tmp_path / "labels.csv"
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "note"), ("Training/amber/1.png", "=cmd|'/C calc'!A0"), ("Test/coral/12.png", "<b>")]
        )
    root = [f"images.root={pictures}", "images.layout={split}/{label}/{name}", f"labels.table={labels}"]
    manifest, folder = explored(output, *root)
    assert (manifest["command"], manifest["status"], manifest["counts"]["listed"]) == ("explore", "done", 58)
    assert manifest["counts"]["copies"] == 1
    values = pd.read_parquet(folder / "tables" / "values_label.parquet").set_index("value")["images"].to_dict()
    assert values == {"amber": 19, "beryl": 20, "coral": 19}
    formats = pd.read_parquet(folder / "tables" / "formats.parquet")
    assert dict(zip(formats["format"], formats["images"], strict=True)) == {
        "PNG": 55,
        **{f"none: {code}": 1 for code in codes.values()},
    }
    (copies,) = pd.read_parquet(folder / "tables" / "duplicates.parquet").to_dict("records")
    assert sorted(copies["paths"]) == [str(whole), str(pictures / "Training" / "beryl" / "copy.png")]
    conflicts = pd.read_parquet(folder / "tables" / "conflicting_duplicates.parquet")
    assert conflicts.loc[conflicts["kind"] == "exact", "label"].tolist() == ["amber, beryl"]
    # Drawn of the same noise in three tints, they do look alike to a hash of grey levels.
    assert manifest["counts"]["conflicting"] == len(conflicts) > 1
    notes = (folder / "tables" / "values_note.csv").read_text()
    assert "'=cmd" in notes and "\n=cmd" not in notes
    page = (folder / "index.html").read_text()
    assert "=cmd|" in page and "&lt;b&gt;" in page and "<b>" not in page
    assert not (folder / "pictures").exists()
    again, _ = explored(output, *root, "explore.pictures=false")
    assert "copies" not in again["counts"]


def test_pictures_that_look_alike(spark: SparkSession, tmp_path: Path) -> None:
    from unit.worker.test_look import picture

    (tmp_path / "p").mkdir()
    for seed in range(12):
        picture(seed).save(tmp_path / "p" / f"{seed}.png")
    Image.open(tmp_path / "p" / "3.png").save(tmp_path / "p" / "3 again.jpg", quality=50)
    Image.open(tmp_path / "p" / "5.png").resize((200, 150)).save(tmp_path / "p" / "5 small.png")
    manifest, folder = explored(tmp_path / "output", f"images.root={tmp_path / 'p'}")
    assert (manifest["counts"]["copies"], manifest["counts"]["look_alikes"]) == (0, 4)
    near = pd.read_parquet(folder / "tables" / "near_duplicates.parquet")
    assert sorted(sorted(Path(path).name for path in paths) for paths in near["paths"]) == [
        ["3 again.jpg", "3.png"],
        ["5 small.png", "5.png"],
    ]


def test_a_crawls_table_has_two_photographs_of_one_picture(spark: SparkSession, pictures: Path, tmp_path: Path) -> None:
    paths = sorted(str(path) for path in (pictures / "Test" / "amber").glob("*.png"))
    rows = [(path, number, "Airbus") for number, path in enumerate(paths)] + [(paths[0], 99, "Boeing")]
    table = [
        {"path": path, "image_url": f"https://x.org/{n}.png", "sha256": path, "constructor": maker, "airline": "=ANA"}
        for path, n, maker in rows
    ]
    pq.write_table(pa.Table.from_pylist(table, photos_schema()), tmp_path / "photos.parquet")
    # As README has it, with conf/planes.yaml, but for the places.
    program, *words = command("README.md", "mirabelle explore")
    assert program == "mirabelle"
    words[words.index("conf/planes.yaml")] = str(REPOSITORY / "conf" / "planes.yaml")
    output = tmp_path / "output"
    assert main([*words, "--set", f"images.manifest={tmp_path / 'photos.parquet'}", "--set", f"output={output}"]) == 0
    manifest = json.loads(next((output / "runs").glob("*.json")).read_text())
    folder = output / "explore" / manifest["run_id"]
    assert manifest["counts"]["listed"] == len(rows)
    assert manifest["counts"]["copies"] == 1
    conflicts = pd.read_parquet(folder / "tables" / "conflicting_duplicates.parquet")
    assert conflicts.loc[conflicts["kind"] == "exact", "label"].tolist() == ["Airbus, Boeing"]
    values = pd.read_parquet(folder / "tables" / "values_label.parquet").set_index("value")["images"].to_dict()
    assert values == {"Airbus": len(paths), "Boeing": 1}


def test_real_photographs(spark: SparkSession, tmp_path: Path) -> None:
    folder = SHARED / "data" / "planes"
    if not folder.is_dir():
        pytest.skip("the real pictures (shared/data/planes) are not on this machine")
    settings = [f"images.root={folder / 'photos'}", f"labels.table={folder / 'photos.csv'}", "labels.key=file"]
    manifest, made = explored(tmp_path, *settings, "labels.label=constructor")
    told = pd.read_csv(folder / "photos.csv", dtype=str, keep_default_na=False).replace("", None)
    assert manifest["counts"]["listed"] == len(told)
    values = pd.read_parquet(made / "tables" / "values_label.parquet")
    assert dict(zip(values["value"], values["images"], strict=True)) == told["constructor"].value_counts().to_dict()
    airlines = pd.read_parquet(made / "tables" / "values_airline.parquet")
    assert dict(zip(airlines["value"], airlines["images"], strict=True)) == told["airline"].value_counts().to_dict()
    columns = pd.read_parquet(made / "tables" / "columns.parquet").set_index("column_name")
    for name in ("airline", "registration", "model_type", "taken"):
        assert columns.loc[name, "missing"] == told[name].isna().sum()
    groups = pd.read_parquet(made / "tables" / "groups.parquet").set_index("column_name")
    counts = told["registration"].value_counts()
    assert groups.loc["registration", "sharing"] == counts[counts > 1].sum()
    within = pd.read_parquet(made / "tables" / "within_label_model_type.parquet")
    shares = told.groupby("constructor")["model_type"].value_counts(normalize=True).to_dict()
    assert {(r.label, r.value): r.share_of_label for r in within.itertuples()} == pytest.approx(shares)
    sizes = pd.read_parquet(made / "tables" / "sizes.parquet")
    assert sizes["images"].sum() == len(told)
    assert sizes["most_px"].max() <= 320
