"""Which files PCA reads, and which of their rows, on a table with a history."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import draw, mean_colour
from histories import STORE, History
from mirabelle.errors import OutputError, TrainingError
from mirabelle.network.preparing import Network
from mirabelle.reduction import Moments, Projection
from mirabelle.schema import reduced_schema
from mirabelle.table.current_view import newest_listing
from mirabelle.table.runlog import read_manifests
from mirabelle.table.selection import Coverage, FeatureFile, Selection, select_rows
from mirabelle.worker.reduce import Reading, merge_moments, project_rows, read_parts, sum_moments


@pytest.fixture
def history(pictures: Path, tmp_path: Path, network: Network) -> History:
    """A run, and another after one picture changed, one went and one came."""
    made = History(pictures, tmp_path / "output", network, chunk_images=30)
    made.extract()
    draw(pictures / "Test/amber/12.png", 99, size=(30, 20))
    (pictures / "Test/amber/14.png").unlink()
    draw(pictures / "Training/coral/new.png", 98)
    made.extract()
    return made


def select(history: History, tmp_path: Path) -> Selection:
    output, scratch = str(history.output), tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    listing = newest_listing(read_manifests(STORE, output), output, history.network.embedding.fingerprint)
    return select_rows(STORE, history.table, listing, str(scratch))


def reading(selection: Selection, tmp_path: Path, split: str | None = None) -> Reading:
    return Reading(3, str(tmp_path / "staging"), selection.stale, split)


def test_every_row_that_counts_is_read_once(history: History, tmp_path: Path, pictures: Path) -> None:
    selection = select(history, tmp_path)
    assert sum(file.kept for file in selection.files) == 54
    # The changed picture and the one that is gone.
    assert sum(file.rows - file.kept for file in selection.files) == 2
    found = {}
    for parts in selection.tasks(selection.files, 3):
        for batch, features in read_parts(STORE, reading(selection, tmp_path), parts, ["path"]):
            assert not found.keys() & set(batch["path"].to_pylist())
            found |= dict(zip(batch["path"].to_pylist(), features, strict=True))
    assert sorted(found) == sorted(str(path) for path in pictures.rglob("*.png"))
    for path in ("Test/amber/12.png", "Training/coral/new.png", "Training/beryl/3.png"):
        np.testing.assert_allclose(found[str(pictures / path)], mean_colour(pictures / path), atol=0.6)


@pytest.mark.parametrize("most", [1, 2, 5, 40])
def test_tasks_share_all_files_out(history: History, tmp_path: Path, most: int) -> None:
    selection = select(history, tmp_path)
    tasks = selection.tasks(selection.files, most)
    assert len(tasks) <= most
    # However many tasks there are, even where files are parted by row groups that they do not have.
    names = [sum_moments(STORE, reading(selection, tmp_path), parts, str(i)) for i, parts in enumerate(tasks)]
    assert sum(report.rows for report in names) == 54
    files = [report.file for report in names if report.file]
    merged = merge_moments(STORE, str(tmp_path / "staging"), files)
    every = [part for parts in tasks for part in parts]
    rows = [features for _, features in read_parts(STORE, reading(selection, tmp_path), every)]
    exact = Moments.of(np.concatenate(rows).astype(np.float64))
    # A row that is missing or twice there makes a difference of a hundredth; tasks multiply in float32.
    np.testing.assert_allclose(merged.scatter, exact.scatter, rtol=1e-6)


def test_one_split_alone(history: History, tmp_path: Path) -> None:
    selection = select(history, tmp_path)
    (parts,) = selection.tasks(selection.files, 1)
    assert sum_moments(STORE, reading(selection, tmp_path, "Training"), parts, "0").rows == 37
    assert sum_moments(STORE, reading(selection, tmp_path, "Trainig"), parts, "1").file == ""


def test_reduced_rows_have_their_labels(history: History, tmp_path: Path) -> None:
    selection = select(history, tmp_path)
    model = str(tmp_path / "pca.npz")
    projection = Projection(np.ones(3), np.eye(3)[:2], np.ones(3), 54, 3.0)
    STORE.write(model, projection.to_bytes())
    (parts,) = selection.tasks(selection.files, 1)
    done = project_rows(STORE, reading(selection, tmp_path), model, reduced_schema(["maker"]), parts, "0")
    table = pd.read_parquet(tmp_path / "staging/reduced" / done.file)
    assert list(table.columns) == ["path", "label", "split", "maker", "reduced"]
    assert done.rows == len(table) == 54
    assert table["maker"].isna().all()
    assert {Path(path).parts[-2] for path in table["path"]} == set(table["label"])
    assert {len(row) for row in table["reduced"]} == {2}


def test_features_of_another_width_are_refused(history: History, tmp_path: Path) -> None:
    selection = select(history, tmp_path)
    (parts,) = selection.tasks(selection.files, 1)
    with pytest.raises(TrainingError, match="3 features a row, and not 4"):
        list(read_parts(STORE, Reading(4, "", selection.stale, None), parts))


def test_saved_moments_do_while_all_they_cover_counts(history: History, tmp_path: Path, pictures: Path) -> None:
    before = select(history, tmp_path)
    saved = Coverage.from_json(Coverage("f", None, before.files).to_json())
    assert saved.missing(before, "f", None) == []
    assert saved.missing(before, "g", None) is None
    assert saved.missing(before, "f", "Training") is None
    draw(pictures / "Test/beryl/new.png", 97)
    history.extract()
    after = select(history, tmp_path)
    (new,) = saved.missing(after, "f", None) or ()
    assert (new.kept, new.name in {file.name for file in before.files}) == (1, False)
    (pictures / "Test/beryl/13.png").unlink()
    history.extract()
    assert saved.missing(select(history, tmp_path), "f", None) is None


def test_as_many_other_rows_of_a_file_are_not_the_same(tmp_path: Path) -> None:
    one, other = FeatureFile("a", 5, 6, "1f"), FeatureFile("a", 5, 6, "2f")
    assert Coverage("f", None, (one,)).missing(Selection("", (other,), "", ()), "f", None) is None
    assert json.loads(Coverage("f", None, (one,)).to_json())["files"][0]["digest"] == "1f"


def test_nothing_extracted_is_one_sentence(tmp_path: Path, pictures: Path, network: Network) -> None:
    with pytest.raises(OutputError, match="run `mirabelle extract` first"):
        select(History(pictures, tmp_path / "output", network), tmp_path)
