"""What `mirabelle verify` finds: nothing in a sound output, and each kind of damage by its name."""

import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import break_some, draw, draw_kinds
from histories import STORE, History
from mirabelle.cli import main
from mirabelle.errors import OutputError
from mirabelle.network.preparing import Network
from mirabelle.table.features import FeatureTable
from mirabelle.table.lease import hold
from mirabelle.verification import Verification, verify


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Path:
    """Two runs to their end: 54 pictures, 3 of them rejects; then one changed, one gone, one new."""
    place = tmp_path_factory.mktemp("place")
    pictures = draw_kinds(place / "now" / "pictures")
    break_some(pictures)
    made = History(pictures, place / "now" / "output", network)
    made.extract()
    draw(pictures / "Test/amber/12.png", 99, size=(30, 20))
    (pictures / "Test/amber/14.png").unlink()
    draw(pictures / "Test/amber/new.png", 100)
    made.extract()
    (place / "now").rename(place / "kept")
    return place


@pytest.fixture
def history(place: Path, network: Network) -> History:
    """The same for each test, in the same place, as an output tells where it is."""
    shutil.rmtree(place / "now", ignore_errors=True)
    shutil.copytree(place / "kept", place / "now")
    made = History(place / "now" / "pictures", place / "now" / "output", network)
    # The runs that it has made.
    made.runs = itertools.islice(made.runs, 2, None)
    return made


def check(history: History, deep: bool = True) -> Verification:
    return verify(STORE, str(history.output), deep)


def findings(history: History, deep: bool = False) -> list[str]:
    return list(check(history, deep).findings)


def only(history: History, deep: bool = False) -> str:
    """The one finding."""
    (found,) = findings(history, deep)
    return found


def chunk_folder(history: History, run: int = 0, number: int = 0, kind: str = "features") -> Path:
    """A chunk's folder by the run's place in time."""
    runs = sorted(Path(history.table.folder("features")).iterdir())
    return Path(history.table.folder(kind)) / runs[run].name / f"chunk={number}"


def part(history: History, run: int = 0, number: int = 0, kind: str = "features") -> Path:
    """A chunk's first file."""
    return sorted(chunk_folder(history, run, number, kind).glob("*.parquet"))[0]


def mend(path: Path, **facts: Any) -> None:
    """Change facts of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change rows of a Parquet file."""
    table = change(pq.ParquetFile(path).read())
    pq.write_table(table, path)


def test_a_sound_output_has_no_finding(history: History) -> None:
    found = check(history)
    assert found.findings == ()
    assert found.counts == {
        "runs": 2,
        "runs that extracted to their end": 2,
        "embeddings": 1,
        "chunks": 4,
        "files of features": 8,
        "rows of features": 56,
        "files of rejects": 3,
        "rows of rejects": 3,
        "rows in the current view": 54,
        "rejects in the current view": 3,
    }
    assert str(found).endswith("all agrees")


def test_a_killed_run_and_its_rolled_forward_chunk_are_sound(history: History) -> None:
    for number in range(30):
        draw(history.root / f"Training/beryl/more-{number}.png", 200 + number)
    history.extract(most_chunks=1)
    assert findings(history) == []
    history.extract()
    assert findings(history) == []


def test_rejects_that_later_limits_took_back_are_sound(history: History) -> None:
    assert history.extract(accept_truncated=True)["counts"]["embedded"] == 1
    found = check(history)
    assert found.findings == ()
    assert found.counts["rejects in the current view"] == 2


def test_a_picture_that_came_back_as_it_was_rejected_is_a_reject(history: History) -> None:
    """Its reject is older than its features, which are of another content."""
    picture = history.root / "Test/coral/page.jpg"
    content, status = picture.read_bytes(), picture.stat()
    draw(picture, 300)
    assert history.extract()["counts"]["embedded"] == 1
    picture.write_bytes(content)
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert history.extract()["counts"]["still_rejected"] == 3
    found = check(history)
    assert found.findings == ()
    assert found.counts["rejects in the current view"] == 3


def test_a_missing_file(history: History) -> None:
    gone = part(history)
    gone.unlink()
    found = only(history)
    assert str(gone) in found
    assert "files that a marker names are missing (1)" in found
    assert f"remove {gone.parent}" in found


def test_a_marker_that_counts_otherwise(history: History) -> None:
    told = history.table.chunks()[0].embedded
    mend(chunk_folder(history) / "_chunk.json", embedded=told + 1)
    rows, sums = findings(history)
    assert f"the marker tells of {told + 1} rows of features, and its files have {told}" in rows
    assert "tells of 54 embedded, and its chunks that count of 55" in sums


def test_rejects_that_a_marker_counts_otherwise(history: History) -> None:
    folders = [chunk_folder(history, 0, n) for n in range(3)]
    folder = next(f for f in folders if json.loads((f / "_chunk.json").read_text())["rejected"])
    told = json.loads((folder / "_chunk.json").read_text())["rejected"]
    mend(folder / "_chunk.json", rejected=told + 5)
    assert any(
        f"the marker tells of {told + 5} rows of rejects, and its files have {told}" in f for f in findings(history)
    )


def test_a_file_that_no_marker_names(history: History) -> None:
    shutil.copy(part(history), part(history).with_name("part-twin.parquet"))
    assert "files of features that no marker names (1)" in only(history)


def test_a_copied_chunk(history: History) -> None:
    shutil.copytree(chunk_folder(history), chunk_folder(history, 0, 77))
    places, *more = findings(history)
    assert "markers that tell of another chunk" in places
    assert "chunk=77" in places
    for sign in ("no marker names", "several rows of features of one run", "embedded, and its chunks that count of"):
        assert any(sign in one for one in more)


def test_a_path_twice_in_one_run(history: History) -> None:
    rewrite(part(history), lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]))
    count, twice = findings(history)
    assert "and its files have" in count
    assert "paths with several rows of features of one run (1)" in twice


def test_a_footer_of_another_embedding(history: History) -> None:
    other = replace(history.network.embedding, weights_digest="1" * 64).to_json()

    def change(rows: pa.Table) -> pa.Table:
        return rows.replace_schema_metadata({b"mirabelle.embedding": json.dumps(other).encode()})

    rewrite(part(history), change)
    assert "of its embedding's fingerprint, and lies among meancolour-" in only(history)
    rewrite(part(history), lambda rows: rows.replace_schema_metadata(None))
    assert "says nothing of its embedding's fingerprint" in only(history)


def test_a_marker_of_another_embedding(history: History) -> None:
    mend(chunk_folder(history) / "_chunk.json", fingerprint="2" * 64)
    assert "holds features of another embedding" in only(history)


def test_a_damaged_marker(history: History) -> None:
    (chunk_folder(history) / "_chunk.json").write_text('{"run": ')
    assert "_chunk.json is damaged" in only(history)


def test_a_damaged_file(history: History) -> None:
    part(history).write_bytes(b"PAR1, once")
    assert "cannot be read" in only(history)


def with_features(rows: pa.Table, values: pa.Array) -> pa.Table:
    at = rows.column_names.index("features")
    return rows.set_column(at, pa.field("features", values.type), values)


def test_features_of_another_width_or_type(history: History) -> None:
    file = part(history)
    rewrite(file, lambda rows: with_features(rows, pa.array([[1.0, 2.0]] * len(rows), pa.list_(pa.float32()))))
    assert "has 20 values of features in 10 rows, and not 3 a row" in only(history)
    rewrite(file, lambda rows: with_features(rows, pa.array([[1.0, 2.0, 3.0]] * len(rows), pa.list_(pa.float64()))))
    assert "no lists of float32" in only(history)


def test_values_are_looked_at_when_asked_for(history: History) -> None:
    def change(rows: pa.Table) -> pa.Table:
        values = np.ones((len(rows), 3), np.float32)
        values[1, 2] = np.nan
        values[2, 0] = np.inf
        return with_features(rows, pa.array(list(values), pa.list_(pa.float32())))

    rewrite(part(history), change)
    assert findings(history) == []
    assert "has values of features that are not finite (2)" in only(history, deep=True)

    def uneven(rows: pa.Table) -> pa.Table:
        lists = [[1.0] * 3] * len(rows)
        lists[0], lists[1] = [1.0] * 2, [1.0] * 4
        return with_features(rows, pa.array(lists, pa.list_(pa.float32())))

    rewrite(part(history), uneven)
    assert findings(history) == []
    assert "has rows of features that are not 3 wide (2)" in only(history, deep=True)


def test_a_path_in_features_and_in_newer_rejects(history: History) -> None:
    """As --full under stricter limits leaves it."""
    history.extract(full=True, max_pixels=599)
    found = only(history)
    assert "paths both in the current view's features and in newer rejects of the same content (1)" in found
    assert "Test/amber/12.png" in found


def test_a_path_in_both_of_one_run(history: History) -> None:
    chunk = next(c for c in history.table.chunks() if c.rejected)
    features, rejects = (Path(history.table.files(kind, chunk)[0]) for kind in ("features", "rejects"))
    path = pq.ParquetFile(features).read(["path"])["path"][0].as_py()

    def change(rows: pa.Table) -> pa.Table:
        return rows.set_column(0, rows.schema.field(0), pa.array([path, *rows["path"].to_pylist()[1:]]))

    rewrite(rejects, change)
    assert any("paths both in the features and in the rejects of one run (1)" in f for f in findings(history))


def test_sums_of_a_manifest(history: History) -> None:
    manifest = sorted((history.output / "runs").glob("*.json"))[-1]
    counts = json.loads(manifest.read_text())["counts"]
    mend(manifest, counts={**counts, "unchanged": counts["unchanged"] + 1})
    assert "listed 57 is not embedded 2 + rejected 0 + unchanged 56" in only(history)
    mend(manifest, counts={**counts, "embedded": 3, "unchanged": counts["unchanged"] - 1})
    assert "tells of 3 embedded, and its chunks that count of 2" in only(history)


def test_a_manifest_that_is_none(history: History) -> None:
    newest = sorted((history.output / "runs").glob("*.json"))[-1]
    newest.write_text("{")
    damaged, unknown = findings(history)[0], findings(history)[-1]
    assert f"{newest} is no run's manifest" in damaged
    assert "has chunks of runs that no manifest tells of" in unknown


def test_a_chunk_that_vanished(history: History) -> None:
    for kind in ("features", "rejects"):
        shutil.rmtree(chunk_folder(history, 1, 0, kind), ignore_errors=True)
    view, *sums = findings(history)
    assert "are neither in the features nor in the rejects (2)" in view
    assert any("tells of 2 embedded, and its chunks that count of 0" in one for one in sums)


def test_a_missing_or_shortened_listing(history: History) -> None:
    listing = sorted((history.output / "runs").glob("*.listing.parquet"))[-1]
    rewrite(listing, lambda rows: rows.slice(1))
    assert "has 56 rows, and its run's manifest tells of 57" in only(history)
    listing.unlink()
    assert f"{listing} is missing" in only(history)


def test_models_of_an_unknown_embedding(history: History) -> None:
    known = history.network.embedding.fingerprint
    for name, fingerprint in (("a", known), ("b", "3" * 64)):
        STORE.write(f"{history.output}/pca/{name}/pca.json", json.dumps({"fingerprint": fingerprint}).encode())
    assert "pca/b/pca.json was made of an embedding that no run tells of: 33333333" in only(history)
    STORE.write(f"{history.output}/pca/b/pca.json", b"[")
    assert "pca/b/pca.json cannot be read" in only(history)


def test_a_folder_of_an_unknown_embedding(history: History) -> None:
    features = history.output / "features"
    shutil.copytree(history.table.folder("features"), features / "embedding=other-12345678")
    assert "embedding=other-12345678 is of no embedding that a run tells of" in only(history)


def test_leftovers_and_a_dead_lease(history: History) -> None:
    STORE.write(f"{history.table.staging_folder('run-9', 0)}/features/part-0.parquet", b"of a killed run")
    assert "killed runs left files in" in only(history)
    lease = history.output / "_lease.json"
    lease.write_text(json.dumps({"run": "run-9"}))
    os.utime(lease, (1, 1))
    assert [("_lease.json is of a run that died" in f, "killed runs" in f) for f in findings(history)] == [
        (True, False),
        (False, True),
    ]


def test_what_a_run_at_work_has_there_is_its_own(history: History) -> None:
    STORE.write(f"{history.table.staging_folder('run-9', 0)}/features/part-0.parquet", b"of a run")
    with hold(STORE, str(history.output), "run-9", "extract"):
        found = check(history)
    assert found.findings == ()
    assert "run-9" in str(found)


def test_replaced_chunks_that_are_still_there(history: History) -> None:
    newest = history.table.chunks()[-1]
    first = history.table.chunks()[0]
    mend(chunk_folder(history, 1) / "_chunk.json", replaces=[[first.run, first.number]])
    assert newest.run > first.run
    assert any("chunks that a compaction replaced are still there (1)" in f for f in findings(history))


def test_exit_codes(history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(history.output)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("all agrees")
    assert main(["verify", "--set", f"output={history.output}", "--deep"]) == 0
    part(history).unlink()
    capsys.readouterr()
    assert main(["verify", str(history.output)]) == 1
    assert "one thing is wrong:" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "none")]) == 2
    assert "is no output of Mirabelle" in capsys.readouterr().err
    assert main(["verify"]) == 2


def test_there_must_be_an_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="it has no folder `runs`"):
        verify(STORE, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_table_whose_rows_are_all_gone_is_sound(history: History) -> None:
    for picture in list(history.root.rglob("*.*")):
        picture.unlink()
    draw(history.root / "Test/amber/only.png", 5)
    history.extract()
    assert findings(history) == []
    assert FeatureTable(STORE, str(history.output), history.network.embedding).chunks()
