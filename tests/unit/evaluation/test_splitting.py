"""Which rows are learnt from and which are judged on: what holds of every choice, and what is refused."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mirabelle.config import Classify
from mirabelle.errors import ConfigError, TrainingError
from mirabelle.evaluation import Sides, choose_sides, group_rows

GRID = {"regParam": [0.0, 0.1]}


def about(
    labels: Sequence[str | None], splits: Sequence[str | None] | None = None, **columns: Sequence[str | None]
) -> pd.DataFrame:
    """Rows as the feature table has them: a path, a label, a split, and further label columns."""
    paths = [f"/pictures/{label}/{i:03d}.jpg" for i, label in enumerate(labels)]
    return pd.DataFrame({"path": paths, "label": labels, "split": splits or [None] * len(paths), **columns})


def objects(kinds: int, each: int, views: int) -> pd.DataFrame:
    """Pictures of things seen from several sides: ``kinds`` labels, ``each`` things of a kind, ``views`` of a thing."""
    rows = [(f"kind{k}", f"thing{k}-{t}", v) for k in range(kinds) for t in range(each) for v in range(views)]
    return pd.DataFrame(
        {
            "path": [f"/pictures/{kind}/{thing}_{view}.jpg" for kind, thing, view in rows],
            "label": [kind for kind, *_ in rows],
            "split": None,
            "thing": [thing for _, thing, _ in rows],
        }
    )


def sides_of(rows: pd.DataFrame, **settings: Any) -> Sides:
    return choose_sides(rows, Classify(**settings).split_by())


def by_path(sides: Sides, column: str = "_side") -> dict[str, object]:
    return dict(zip(sides.frame["path"], sides.frame[column], strict=True))


# By the path's own split


def test_the_sources_own_split_is_kept() -> None:
    rows = about([*"abcabcab"], ["Training"] * 5 + ["Test"] * 3)
    sides = sides_of(rows)
    assert by_path(sides) == dict(zip(rows["path"], ["train"] * 5 + ["test"] * 3, strict=True))
    assert "Training and Test" in sides.description


def test_other_names_of_splits_and_splits_that_are_neither() -> None:
    rows = about([*"ababababab"], ["fit"] * 4 + ["try"] * 3 + ["Validation", None, "Test"])
    sides = sides_of(rows, train_split="fit", test_split="try")
    assert Counter(by_path(sides).values()) == {"train": 4, "test": 3}
    assert set(by_path(sides)) == set(rows["path"][:7])


@pytest.mark.parametrize(
    ("train", "test", "missing"), [("Trainig", "Test", "Trainig"), ("Training", "test", "test"), ("a", "b", "a")]
)
def test_a_split_that_is_not_there_is_named_and_those_that_are(train: str, test: str, missing: str) -> None:
    rows = about([*"ababab"], ["Training", "Training", "Test", "Test", "More", None])
    with pytest.raises(TrainingError) as raised:
        sides_of(rows, train_split=train, test_split=test)
    sentence = str(raised.value)
    assert f"no picture is in the split '{missing}'" in sentence
    assert "['More', 'Test', 'Training']" in sentence
    assert "classify.train_split" in sentence
    assert "classify.test_split" in sentence


def test_one_split_cannot_be_both() -> None:
    rows = about([*"abab"], ["Training"] * 4)
    with pytest.raises(TrainingError, match=r"leaves nothing to (learn from|judge on)"):
        sides_of(rows, test_split="Training")


# By share


def test_without_splits_each_class_is_held_out_in_its_share() -> None:
    rows = about(["a"] * 50 + ["b"] * 30 + ["c"] * 20)
    sides = sides_of(rows, test_share=0.2)
    label = dict(zip(rows["path"], rows["label"], strict=True))
    held = Counter(label[path] for path, side in by_path(sides).items() if side == "test")
    assert held == {"a": 10, "b": 6, "c": 4}
    assert len(sides.frame) == 100
    assert sides.description.lower().startswith("at random, 20% held out, seed 0")


def test_the_choice_follows_the_seed_and_not_the_order_of_the_rows() -> None:
    rows = about([*"abcd"] * 25)
    one = by_path(sides_of(rows, seed=3))
    assert one == by_path(sides_of(rows.sample(frac=1, random_state=9), seed=3))
    assert one != by_path(sides_of(rows, seed=4))


@given(st.lists(st.sampled_from("abc"), min_size=30, max_size=90), st.floats(0.15, 0.6), st.integers(0, 5))
@settings(max_examples=40)
def test_every_labelled_row_is_on_one_side_and_nearly_the_share_is_held_out(
    labels: list[str], share: float, seed: int
) -> None:
    assume(len(Counter(labels)) >= 2)
    assume(min(Counter(labels).values()) >= 2)
    sides = sides_of(about(labels), test_share=share, seed=seed)
    counts = Counter(by_path(sides).values())
    assert len(by_path(sides)) == len(labels) == sum(counts.values())
    assert abs(counts["test"] - share * len(labels)) <= 1


# By group


def test_groups_by_a_column_stay_on_one_side() -> None:
    rows = objects(3, 10, 4)
    sides = sides_of(rows, group_by="thing")
    seen = pd.DataFrame({"thing": rows.set_index("path")["thing"], "_side": pd.Series(by_path(sides))})
    assert len(seen) == 120
    assert (seen.groupby("thing")["_side"].nunique() == 1).all()
    # A fifth of each kind's ten things, whole.
    held = seen[seen["_side"] == "test"]
    assert Counter(re.sub("-.*", "", thing) for thing in held["thing"]) == {f"thing{k}": 8 for k in range(3)}
    for part in ("hole groups by 'thing'", "20% held out", "seed 0"):
        assert part in sides.description


@pytest.mark.parametrize("pattern", [r"thing\d+-\d+", r"/(thing\d+-\d+)_", r"/(thing\d+-\d+)_(\d)"])
def test_a_pattern_groups_by_its_first_part_in_brackets_else_by_all_of_it(pattern: str) -> None:
    rows = objects(3, 10, 4)
    by_pattern = sides_of(rows.drop(columns="thing"), group_by=pattern)
    assert by_path(by_pattern) == by_path(sides_of(rows, group_by="thing"))


def test_without_brackets_the_whole_match_counts() -> None:
    """With its number in the match each picture is a group of its own; with the number left out, each thing is."""
    rows = objects(2, 10, 6)
    fine = by_path(sides_of(rows, group_by=r"thing.*"))
    coarse = by_path(sides_of(rows, group_by=r"(thing.*)_"))
    assert any(len({fine[p] for p in part["path"]}) == 2 for _, part in rows.groupby("thing"))
    assert all(len({coarse[p] for p in part["path"]}) == 1 for _, part in rows.groupby("thing"))


def test_groups_take_the_place_of_the_paths_own_splits() -> None:
    rows = objects(2, 10, 4)
    rows["split"] = ["Training", "Test"] * 40
    sides = by_path(sides_of(rows, group_by="thing"))
    assert all(len({sides[p] for p in part["path"]}) == 1 for _, part in rows.groupby("thing"))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.7])
def test_nearly_the_share_is_held_out_by_groups_too(share: float) -> None:
    sides = sides_of(objects(2, 40, 3), group_by="thing", test_share=share)
    assert (sides.frame["_side"] == "test").mean() == pytest.approx(share, abs=0.05)


def test_a_pattern_that_does_not_match_names_the_path() -> None:
    rows = about([*"aabb"])
    rows.loc[2, "path"] = "/pictures/b/odd.jpg"
    with pytest.raises(TrainingError, match=r"'\\\\d\{3\}' does not match /pictures/b/odd\.jpg; widen the pattern"):
        sides_of(rows, group_by=r"\d{3}")


def test_a_group_that_took_no_part_in_the_match_is_no_group() -> None:
    """Else all such pictures would be one group, and a large part of the table on one side, with no word said."""
    rows = objects(2, 12, 3)
    with pytest.raises(TrainingError, match="does not match"):
        sides_of(rows, group_by=r"(thing\d+-[0-5])?_")


def test_what_is_neither_column_nor_pattern_is_said() -> None:
    rows = objects(2, 10, 2)
    with pytest.raises(ConfigError) as raised:
        sides_of(rows, group_by="(thing")
    sentence = str(raised.value)
    assert "classify.group_by '(thing' is no column (['label', 'split', 'thing']) and no regular expression" in sentence
    assert "\n" not in sentence


def test_labelled_rows_without_a_group_are_groups_of_their_own() -> None:
    rows = objects(2, 10, 2)
    rows.loc[[0, 5, 7], "thing"] = None
    # A row that has no label needs no group either.
    rows.loc[7, "label"] = None
    sides = sides_of(rows, group_by="thing")
    assert sides.warnings == ("2 labelled pictures have no thing: each is a group of its own",)
    assert len(sides.frame) == len(rows) - 1
    chosen = sides.frame.merge(rows[["path", "thing"]], on="path").dropna(subset=["thing"])
    assert (chosen.groupby("thing")["_side"].nunique() == 1).all()
    # Without any group it is as if none were asked for, and told.
    assert "have no thing" in sides_of(objects(2, 10, 2).assign(thing=None), group_by="thing").warnings[0]


def test_too_few_groups_are_said() -> None:
    with pytest.raises(TrainingError, match=r"there are 2 groups and 5 are needed; set classify\.group_by to a finer"):
        sides_of(objects(2, 1, 20), group_by="thing")


@pytest.mark.parametrize("column", ["side", "fold"])
def test_a_label_column_may_have_the_name_of_one_of_ours(column: str) -> None:
    """Fruits are photographed from a side, and many a set has a column `fold`."""
    rows = objects(2, 12, 3).rename(columns={"thing": column})
    sides = sides_of(rows, group_by=column, grid=GRID)
    expected = sides_of(objects(2, 12, 3), group_by="thing", grid=GRID)
    assert by_path(sides) == by_path(expected)
    assert by_path(sides, "_fold") == by_path(expected, "_fold")


# Groups by several columns


def aeroplanes() -> pd.DataFrame:
    """Photographs in chains: each shares its registration with one neighbour and its day with the other."""
    rows = about([*"ab"] * 60)
    rows["registration"] = [f"r{i // 2}" for i in range(120)]
    # Two registrations a day, and one of the four photographs of a day at another hour.
    rows["taken"] = [f"2020-01-{i // 6 + 1:02d}" + (" 10:15" if i % 4 == 0 else "") for i in range(120)]
    return rows


def test_neither_registration_nor_day_straddles_the_split() -> None:
    rows = aeroplanes()
    sides = sides_of(rows, group_by=["registration", "taken"], grid=GRID)
    frame = sides.frame.merge(rows, on="path", validate="one_to_one")
    for key in (frame["registration"], frame["taken"].str[:10]):
        assert (frame.groupby(key)["_side"].nunique() == 1).all()
        assert (frame.groupby(key)["_fold"].nunique() == 1).all()
    assert "Whole groups by 'registration' or 'taken' kept together, 2" in sides.description
    # By one of them alone days are torn apart.
    alone = sides_of(rows, group_by="registration").frame.merge(rows, on="path")
    assert (alone.groupby(alone["taken"].str[:10])["_side"].nunique() == 2).any()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=40))
@settings(max_examples=60)
def test_components_are_those_of_a_walk(pairs: list[tuple[int, int]]) -> None:
    """Against a walk over the rows, with values that are missing here and there."""
    values = [(None if one == 0 else f"r{one}", None if two == 0 else f"d{two}") for one, two in pairs]
    component: list[int] = list(range(len(values)))
    for _ in values:
        for i, (one, two) in enumerate(values):
            for j, (other, another) in enumerate(values):
                if (one is not None and one == other) or (two is not None and two == another):
                    component[i] = component[j] = min(component[i], component[j])
    rows = about([*"ab"] * (len(values) // 2) + ["a"] * (len(values) % 2))
    rows = rows.assign(one=[one for one, _ in values], two=[two for _, two in values])
    found = group_rows(rows, ["one", "two"], [])
    # The same partition, whatever its parts are called.
    assert len(set(found)) == len(set(component)) == len(set(zip(found, component, strict=True)))


def test_rows_are_alone_that_have_no_value_of_any_column() -> None:
    rows = aeroplanes()
    rows.loc[[0, 5], "registration"] = None
    rows.loc[0, "taken"] = None
    told = sides_of(rows, group_by=["registration", "taken"]).warnings
    assert told == ("1 labelled pictures have no registration and no taken: each is a group of its own",)


# By whole values


def test_whole_values_are_judged_on() -> None:
    rows = about([*"ab"] * 20, ["Training"] * 40, source=["web"] * 10 + ["klas"] * 20 + [None] * 10)
    sides = sides_of(rows, hold_out={"source": ["web"]})
    assert by_path(sides) == dict(zip(rows["path"], ["test"] * 10 + ["train"] * 30, strict=True))
    assert sides.description == "Judged on source 'web', learnt from the rest."
    both = sides_of(rows, hold_out={"source": ["web", "klas"]}, grid=GRID)
    assert Counter(by_path(both).values()) == {"test": 30, "train": 10}
    assert (both.frame.loc[both.frame["_side"] == "train", "_fold"] >= 0).all()


def test_what_shares_a_group_with_what_is_judged_on_is_not_learnt_from() -> None:
    rows = about([*"ab"] * 20, source=["web"] * 10 + ["klas"] * 30, thing=[f"t{i // 4}" for i in range(40)])
    sides = sides_of(rows, hold_out={"source": "web"}, group_by="thing")
    assert Counter(by_path(sides).values()) == {"test": 10, "train": 28}
    assert sides.warnings == ("2 pictures share 'thing' with those that are judged on, and are not learnt from",)


@pytest.mark.parametrize(
    ("held", "error", "sentence"),
    [
        (
            {"sauce": ["web"]},
            ConfigError,
            r"classify.hold_out: 'sauce' is none of the label columns",
        ),
        ({"source": ["wob"]}, TrainingError, "no labelled picture has 'wob' as source: 'klas', 'web'"),
        ({"source": ["web", "klas"]}, TrainingError, "nothing to learn from"),
        ({"path": ["x"]}, ConfigError, "'path' is none of the label columns"),
    ],
)
def test_values_that_are_not_there_are_told(held: dict[str, list[str]], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        sides_of(about([*"ab"] * 20, source=["web", "klas", "klas", "web"] * 10), hold_out=held)


# Labels


@pytest.mark.parametrize(("labels", "found"), [([None] * 4, 0), (["a"] * 6, 1), (["a", None, "a", None], 1)])
def test_fewer_than_two_labels_are_refused(labels: list[str | None], found: int) -> None:
    with pytest.raises(TrainingError, match=f"needs two labels or more, and the features have {found}; set"):
        sides_of(about(labels))


def test_no_rows_are_refused() -> None:
    with pytest.raises(TrainingError, match="needs two labels or more, and the features have 0"):
        sides_of(about([]))


@pytest.mark.parametrize("by_split", [True, False])
def test_rows_without_a_label_are_left_out(by_split: bool) -> None:
    labels = [*"ab"] * 10 + [None] * 5
    splits = ["Training"] * 12 + ["Test"] * 8 + ["Training"] * 5 if by_split else None
    rows = about(labels, splits)
    assert set(by_path(sides_of(rows))) == set(rows["path"][:20])


def test_a_split_that_only_rows_without_a_label_have_does_not_count() -> None:
    rows = about([*"ab"] * 10 + [None] * 2, [None] * 20 + ["Training", "Test"])
    assert sides_of(rows).description.lower().startswith("at random, 20% held out")


def test_too_few_rows_of_a_class_are_one_sentence() -> None:
    with pytest.raises(TrainingError, match="cannot hold out 20% of 21 labelled pictures in 2 classes") as raised:
        sides_of(about(["a"] * 20 + ["b"]))
    assert "\n" not in str(raised.value)


# Folds


def test_there_are_no_folds_without_a_grid() -> None:
    assert set(sides_of(about([*"ab"] * 20), folds=4).frame["_fold"]) == {-1}


@pytest.mark.parametrize("splits", [None, ["Training"] * 64 + ["Test"] * 16])
def test_folds_are_of_the_rows_learnt_from_and_each_class_in_proportion(splits: list[str] | None) -> None:
    rows = about([*"aaab"] * 20, splits)
    sides = sides_of(rows, grid=GRID, folds=4)
    frame = sides.frame.merge(rows[["path", "label"]], on="path", validate="one_to_one")
    assert (frame["_side"] == "train").sum() == 64
    assert set(frame.loc[frame["_side"] == "test", "_fold"]) == {-1}
    learning = frame[frame["_side"] == "train"]
    # 48 of a and 16 of b in four folds.
    assert Counter(zip(learning["label"], learning["_fold"], strict=True)) == {
        **{("a", fold): 12 for fold in range(4)},
        **{("b", fold): 4 for fold in range(4)},
    }


@pytest.mark.parametrize("group_by", ["thing", r"/(thing\d+-\d+)_"])
def test_groups_are_whole_in_folds(group_by: str) -> None:
    rows = objects(3, 15, 3)
    sides = sides_of(rows, grid=GRID, group_by=group_by)
    frame = sides.frame.merge(rows[["path", "thing"]], on="path", validate="one_to_one")
    assert (frame.groupby("thing")["_fold"].nunique() == 1).all()
    assert set(frame.loc[frame["_side"] == "train", "_fold"]) == {0, 1, 2}
    assert set(frame.loc[frame["_side"] == "test", "_fold"]) == {-1}


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(TrainingError, match="there are 16 groups and 30 are needed"):
        sides_of(objects(2, 10, 3), grid=GRID, group_by="thing", folds=30)


def test_the_frame_has_three_columns_and_a_row_a_path() -> None:
    rows = objects(2, 10, 2)
    before = rows.copy()
    frame = sides_of(rows, grid=GRID).frame
    assert list(frame.columns) == ["path", "_side", "_fold"]
    assert frame["path"].is_unique
    assert set(frame["_side"]) == {"train", "test"}
    pd.testing.assert_frame_equal(rows, before)


# Classes that are on one side alone


def test_classes_that_are_judged_on_alone_are_named_and_not_learnt() -> None:
    rows = about([*"aabbab", "z", "y"], ["Training"] * 4 + ["Test"] * 4)
    sides = sides_of(rows)
    assert (sides.labels, sides.unseen) == (("a", "b"), ("y", "z"))
    assert len(sides.warnings) == 1 and "'y', 'z'" in sides.warnings[0]
    assert Counter(by_path(sides).values()) == {"train": 4, "test": 4}
    assert sides_of(about([*"abab"], ["Training"] * 2 + ["Test"] * 2)).warnings == ()


def test_one_class_to_learn_from_is_refused() -> None:
    with pytest.raises(TrainingError, match="leaves one class to learn from, 'a'"):
        sides_of(about([*"aaab"], ["Training"] * 2 + ["Test"] * 2))


def test_a_class_of_one_picture_is_left_out_and_named() -> None:
    sides = sides_of(about([*"aaaabbbb", "c"]), test_share=0.25)
    assert (sides.labels, sides.unseen) == (("a", "b"), ())
    assert len(by_path(sides)) == 8 and len(sides.warnings) == 1 and "'c'" in sides.warnings[0]


@pytest.mark.parametrize("each", [2, 3])
def test_classes_of_two_or_three_pictures_are_on_both_sides(each: int) -> None:
    rows = about([kind for kind in "abcdefghij" for _ in range(each)])
    sides = sides_of(rows, test_share=0.2)
    kinds = {(path.split("/")[2], side) for path, side in by_path(sides).items()}
    assert kinds == {(kind, side) for kind in "abcdefghij" for side in ("train", "test")}
    assert sides.warnings == ()
