"""The tables of an exploration against pandas, which computes them in another way."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from mirabelle.exploration import Explored, Wanted, explore, find_alike
from mirabelle.exploration.tables import file_name
from mirabelle.storage.database import open_database

Look = Callable[..., Explored]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_database(str(tmp_path)) as opened:
        yield opened


@pytest.fixture
def look(database: duckdb.DuckDBPyConnection) -> Look:
    def run(frame: pd.DataFrame, **more: Any) -> Explored:
        database.register("given", frame)
        database.execute("create or replace view images as select * from given")
        facts = ("path", "sha256", "phash", "format", "width_px", "height_px", "code")
        names = tuple(name for name in frame.columns if name not in facts)
        return explore(database, Wanted(names, has_pictures="sha256" in frame, **more))

    return run


def rows(explored: Explored, name: str) -> pd.DataFrame:
    return next(table.rows for table in explored.tables if table.name == name)


def meaning(explored: Explored, name: str) -> str:
    return next(table.meaning for table in explored.tables if table.name == name)


def planes(number: int = 400) -> pd.DataFrame:
    chance = np.random.default_rng(3)
    makers = chance.choice(["Airbus", "Boeing"], number, p=[0.4, 0.6])
    types = np.where(makers == "Airbus", chance.choice(["A320", "A350"], number), chance.choice(["737", "777"], number))
    frame = pd.DataFrame(
        {
            "path": [f"/p/{i}.jpg" for i in range(number)],
            "label": makers,
            "split": None,
            "model_type": types,
            "airline": chance.choice(["ANA", "KLM", "Qantas", "Emirates"], number, p=[0.5, 0.3, 0.15, 0.05]),
            "registration": [f"F-{value}" for value in chance.integers(0, 300, number)],
            "taken": [f"2020-01-{value:02d}T10:00" for value in chance.integers(1, 29, number)],
        },
        dtype=object,
    )
    frame.loc[frame.index % 7 == 0, "airline"] = None
    frame.loc[frame.index % 11 == 0, "registration"] = " "
    frame.loc[frame.index % 50 == 0, "label"] = None
    return frame


def known(column: pd.Series) -> pd.Series:
    return column.where(column.fillna("").str.strip() != "").dropna().str.strip()


def test_columns_and_what_is_missing_together(look: Look) -> None:
    frame = planes()
    explored = look(frame)
    names = ["label", "split", "model_type", "airline", "registration", "taken"]
    columns = rows(explored, "columns").set_index("column_name")
    assert columns.index.tolist() == names
    for name in names:
        assert columns.loc[name, "missing"] == len(frame) - len(known(frame[name]))
        assert columns.loc[name, "distinct_values"] == known(frame[name]).nunique()
    used = [name for name in names if name != "split"]
    empty = pd.DataFrame({name: ~frame.index.isin(known(frame[name]).index) for name in used})
    told = empty.apply(lambda row: ", ".join(name for name in used if row[name]) or "nothing", axis=1).value_counts()
    combinations = rows(explored, "missing_combinations").set_index("missing")["images"]
    assert combinations.to_dict() == told.to_dict()
    assert meaning(explored, "missing_combinations").startswith(f"{told['nothing']} of 400 images have every column")
    assert "no airline" in meaning(explored, "columns")


@pytest.mark.parametrize("name", ["label", "model_type", "airline", "registration", "taken"])
def test_values(name: str, look: Look) -> None:
    frame = planes()
    expected = known(frame[name]).value_counts()
    values = rows(look(frame), f"values_{name}").set_index("value")
    assert values["images"].to_dict() == expected.to_dict()
    assert values["images"].is_monotonic_decreasing
    assert values["rank"].tolist() == list(range(1, len(expected) + 1))
    assert values["share"].to_numpy() == pytest.approx(values["images"].to_numpy() / 400)
    assert values["cumulative_share"].iloc[-1] == pytest.approx(expected.sum() / 400)


def test_types_within_each_label_and_groups(look: Look) -> None:
    frame = planes()
    explored = look(frame)
    within = rows(explored, "within_label_model_type")
    expected = frame.dropna(subset=["label"]).groupby("label")["model_type"].value_counts(normalize=True)
    assert {(r.label, r.value): r.share_of_label for r in within.itertuples()} == pytest.approx(expected.to_dict())
    groups = rows(explored, "groups").set_index("column_name")
    assert groups.index.tolist() == ["registration", "airline", "taken, by day"]
    counts = known(frame["registration"]).value_counts()
    assert groups.loc["registration", "groups"] == len(counts)
    assert groups.loc["registration", "sharing"] == counts[counts > 1].sum()
    assert groups.loc["registration", "largest_images"] == counts.max()
    days = frame["taken"].str[:10].value_counts()
    assert groups.loc["taken, by day", "largest_images"] == days.max()
    told = meaning(explored, "groups")
    assert told.startswith(f"{counts[counts > 1].sum()} of 400 photographs share a registration with another: split by")
    assert "classify.group_by=registration" in told


def brute_force(frame: pd.DataFrame, distance: int) -> set[frozenset[str]]:
    one = frame.dropna(subset=["phash"]).drop_duplicates("sha256")
    pairs = set()
    for i, (path, bits) in enumerate(zip(one["path"], one["phash"], strict=True)):
        for other, others in list(zip(one["path"], one["phash"], strict=True))[i + 1 :]:
            if (int(bits) ^ int(others)).bit_count() <= distance:
                pairs.add(frozenset((path, other)))
    return pairs


@pytest.mark.parametrize("distance", [0, 1, 3, 4, 7])
def test_look_alikes_are_those_of_all_pairs(distance: int, database: duckdb.DuckDBPyConnection) -> None:
    chance = np.random.default_rng(distance)
    bases = chance.integers(0, 2**63, 40, dtype=np.uint64)
    hashes = []
    for number in range(300):
        bits = int(bases[number % 40])
        for place in chance.choice(64, chance.integers(0, 9), replace=False):
            bits ^= 1 << int(place)
        hashes.append(bits)
    frame = pd.DataFrame(
        {
            "path": [f"{number:03d}" for number in range(300)],
            "label": [f"label {number % 3}" for number in range(300)],
            "sha256": [f"{number}" for number in range(300)],
            "phash": np.array(hashes, dtype=np.uint64),
        }
    )
    database.register("images", frame)
    alike = find_alike(database, distance)
    found = {frozenset(pair) for pair in database.execute("select one, other from pairs").fetchall()}
    assert found == brute_force(frame, distance)
    assert (alike.exact_extra, alike.skipped) == (0, 0)
    assert alike.near_images == len({path for pair in found for path in pair})
    assert (alike.conflicting["kind"] == "near").all()


def test_copies_and_their_labels(look: Look) -> None:
    frame = pd.DataFrame(
        {
            "path": list("abcdef"),
            "label": ["x", "x", "y", "y", "z", None],
            "sha256": ["1", "1", "1", "2", "3", None],
            "phash": np.array([7, 7, 7, 2**64 - 1, 2**40, 0], dtype=np.uint64),
            "format": ["JPEG"] * 5 + [None],
            "width_px": [100, 100, 100, 400, 3000, None],
            "height_px": [90, 90, 90, 500, 10, None],
            "code": [None] * 5 + ["truncated"],
        }
    )
    frame["phash"] = frame["phash"].astype("UInt64").where(frame["code"].isna())
    explored = look(frame)
    (copies,) = rows(explored, "duplicates").to_dict("records")
    assert (copies["images"], copies["labels"], copies["label"], list(copies["paths"])) == (3, 2, "x, y", list("abc"))
    (conflict,) = rows(explored, "conflicting_duplicates").to_dict("records")
    assert (conflict["kind"], conflict["label"]) == ("exact", "x, y")
    assert "2 of 6 images are copies" in meaning(explored, "duplicates")
    assert rows(explored, "near_duplicates").empty
    sizes = rows(explored, "sizes")
    assert sizes[["longer_side", "images"]].to_numpy().tolist() == [
        ["up to 100 px", 3],
        ["up to 640 px", 1],
        ["more than 2,560 px", 1],
    ]
    assert dict(rows(explored, "formats")[["format", "images"]].to_numpy()) == {"JPEG": 5, "none: truncated": 1}
    assert "1 of 6 files are no whole picture" in meaning(explored, "formats")


def test_columns_named_oddly(look: Look) -> None:
    frame = pd.DataFrame({"path": ["a", "b"], "label": ["x", "x"], 'it\'s "odd"; --': ["1", "2"], "größe": ["", None]})
    explored = look(frame)
    assert [table.name for table in explored.tables][2:] == ["values_label", "values_it_s_odd"]
    assert "have the same, x: it tells nothing apart" in meaning(explored, "values_label")
    assert file_name("../../x") == "x" and file_name("???") == "column"


def test_nothing_but_paths(look: Look) -> None:
    explored = look(pd.DataFrame({"path": ["a"], "label": [None], "split": [None]}, dtype=object))
    assert [table.name for table in explored.tables] == ["columns"]
    assert explored.images == 1
