"""The tables of an exploration against pandas, which computes them in another way."""

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from mirabelle.exploration import Explored, Wanted, explore, find_alike, see
from mirabelle.exploration.tables import file_names
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
        facts = ("sha256", "phash", "format", "width_px", "height_px", "code")
        there = [name for name in facts if name in frame]
        names = tuple(name for name in frame.columns if name not in ("path", *facts))
        database.register("listed", frame[["path", *names]])
        see(database, "from listed", f"select path, {', '.join(there)} from given" if there else None)
        return explore(database, Wanted(names, has_pictures=bool(there), **more))

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


def brute_force(hashes: list[int], distance: int) -> set[frozenset[int]]:
    return {
        frozenset((one, other)) for one, other in combinations(set(hashes), 2) if (one ^ other).bit_count() <= distance
    }


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
    database.register("seen", frame.drop(columns="label"))
    database.register("listed", frame[["path", "label"]])
    see(database, "from listed", "from seen")
    alike = find_alike(database, distance)
    pairs = brute_force(hashes, distance)
    found = {frozenset(pair) for pair in database.execute("select one, other from pairs").fetchall()}
    assert found == pairs
    assert (alike.exact_extra, alike.skipped, alike.is_cut) == (0, 0, False)
    joined = {bits for pair in pairs for bits in pair}
    assert alike.near_images == sum(bits in joined or hashes.count(bits) > 1 for bits in hashes)
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


def plain(hashes: list[int], **more: list[str | None]) -> pd.DataFrame:
    """Pictures of these perceptual hashes, each of other bytes unless ``more`` tells."""
    number = len(hashes)
    paths = [f"{place:06d}" for place in range(number)]
    frame = {"path": paths, "label": ["x"] * number, "sha256": paths, "phash": np.array(hashes, dtype=np.uint64)}
    frame |= {"format": ["PNG"] * number, "width_px": [9] * number, "height_px": [9] * number, "code": [None] * number}
    return pd.DataFrame(frame | more)


def test_plain_grounds_are_one_set_however_many(look: Look) -> None:
    explored = look(plain([0x8000000000000000] * 1500 + [0x123456789ABCDEF0] * 1500))
    assert rows(explored, "near_duplicates")["images"].tolist() == [1500, 1500]
    assert explored.alike and (explored.alike.near_images, explored.alike.skipped) == (3000, 0)
    assert meaning(explored, "near_duplicates").startswith("3,000 images look like another")


def test_what_is_not_compared_is_told(look: Look, database: duckdb.DuckDBPyConnection) -> None:
    # All have their upper 48 bits in common, and differ in more than three of the others, or do not.
    explored = look(plain(list(range(1200))))
    assert explored.alike and explored.alike.skipped == 3
    assert "There may be more: 3 parts" in meaning(explored, "near_duplicates")
    look(plain([0, 1, 2, 3]))
    assert [find_alike(database, 3, most).is_cut for most in (5, 6)] == [True, False]


def test_a_copys_label_conflicts_too(look: Look) -> None:
    explored = look(plain([7, 7, 6], sha256=["1", "1", "2"], label=[None, "x", "y"]))
    (conflict,) = rows(explored, "conflicting_duplicates").to_dict("records")
    assert (conflict["kind"], conflict["images"], conflict["label"]) == ("near", 3, "x, y")


def test_more_values_than_the_table_has(look: Look) -> None:
    names = [f"u{number:05d}" for number in range(12_000)] + ["often"] * 10
    frame = pd.DataFrame({"path": [str(number) for number in range(len(names))], "url": names})
    explored = look(frame.assign(label=frame["url"]))
    assert len(rows(explored, "values_url")) == 10_000
    counts = frame["url"].value_counts()
    half = int((counts.cumsum() - counts < len(frame) / 2).sum())
    assert meaning(explored, "values_url").startswith(f"{half:,} of 12,001 values")
    assert "The rarest of 12,001 labels, u11999, has 1." in meaning(explored, "values_label")
    assert "Each of the 2 labels has 1." in meaning(look(frame.head(2).assign(label=["a", "b"])), "values_label")


@pytest.mark.parametrize("name", ["format", "phash", "sha256", "Format"])
def test_a_label_may_be_named_as_a_fact(name: str, database: duckdb.DuckDBPyConnection) -> None:
    database.register("seen", plain([5, 5], sha256=["1", "1"]).drop(columns="label"))
    database.register("listed", pd.DataFrame({"path": ["000000", "000001"], "label": ["x", "y"], name: ["p", "q"]}))
    see(database, "from listed", "from seen")
    explored = explore(database, Wanted(("label", name), has_pictures=True))
    assert rows(explored, f"values_{name.lower()}")["value"].tolist() == ["p", "q"]
    assert rows(explored, "formats")[["format", "images"]].to_numpy().tolist() == [["PNG", 2]]
    assert rows(explored, "duplicates")["images"].tolist() == [2]


def test_days_are_told_in_several_ways(look: Look) -> None:
    taken = ["2018-5-21", "2018-05-21 10:00", "2018-05-21T23:59:00", "2018-1-8 10:00", "12 May 2018", None]
    frame = pd.DataFrame({"path": list("abcdef"), "label": ["x"] * 6, "taken": taken})
    (day,) = rows(look(frame), "groups").to_dict("records")
    assert (day["groups"], day["largest"], day["largest_images"]) == (3, "2018-05-21", 3)


def test_columns_named_oddly(look: Look) -> None:
    frame = pd.DataFrame({"path": ["a", "b"], "label": ["x", "x"], 'it\'s "odd"; --': ["1", "2"], "größe": ["", None]})
    explored = look(frame)
    assert [table.name for table in explored.tables][2:] == ["values_label", "values_it_s_odd"]
    assert "have the same, x: it tells nothing apart" in meaning(explored, "values_label")


def test_every_column_has_a_file_of_its_own(look: Look) -> None:
    names = ("label", "a b", "a_b", "A-B", "a_b_2", "../../x", "???", "!", "n" * 300)
    files = file_names(names)
    assert list(files.values()) == ["label", "a_b", "a_b_2", "a_b_3", "a_b_2_2", "x", "column", "column_2", "n" * 50]
    frame = pd.DataFrame({"path": ["a", "b"], "a b": ["1", "2"], "a-b": ["3", "4"]})
    assert rows(look(frame), "values_a_b_2")["value"].tolist() == ["3", "4"]


def test_nothing_but_paths(look: Look) -> None:
    explored = look(pd.DataFrame({"path": ["a"], "label": [None], "split": [None]}, dtype=object))
    assert [table.name for table in explored.tables] == ["columns"]
    assert explored.images == 1
