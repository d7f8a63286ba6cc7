"""Planted leaks: what both sides share is found and told, and the figures without it are those of honest pictures."""

import numpy as np
import pandas as pd
import pytest

from mirabelle.evaluation import find_doubts
from mirabelle.evaluation.doubts import near_duplicates

WIDTH = 24


def honest(rows: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Pictures of two labels, each of its own, whose features overlap; a classifier that is right on seven of ten."""
    random = np.random.default_rng(seed)
    labels = np.where(random.random(rows) < 0.5, "a", "b")
    features = random.normal(size=(rows, WIDTH)).astype(np.float32)
    features[:, 0] += np.where(labels == "a", 0.7, -0.7)
    right = random.random(rows) < 0.7
    predicted = np.where(right, labels, np.where(labels == "a", "b", "a"))
    paths = [f"/{seed}/{i}.jpg" for i in range(rows)]
    return pd.DataFrame({"path": paths, "label": labels, "predicted": predicted}), features


def leaking(copies: int) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray, np.ndarray]:
    """Honest pictures, and beside them some on either side that are all but the same, and that are judged rightly."""
    judged, features = honest(600, 1)
    learnt, others = honest(1500, 2)
    noise = np.random.default_rng(3).normal(scale=0.02, size=(copies, WIDTH)).astype(np.float32)
    more = learnt.iloc[:copies].assign(path=[f"/copy/{i}.jpg" for i in range(copies)])
    more["predicted"] = more["label"]
    judged = pd.concat([judged, more], ignore_index=True)
    return judged, learnt, np.concatenate([features, others[:copies] + noise]), others


def test_near_duplicates_are_found_and_the_figure_without_them_is_the_true_one() -> None:
    judged, learnt, features, others = leaking(300)
    assert (judged["label"] == judged["predicted"]).mean() == pytest.approx(0.8, abs=0.02)
    (doubt,) = find_doubts(judged, learnt, (features, others))
    assert doubt.kind == "near_duplicates"
    assert doubt.rows[600:].mean() > 0.99
    assert doubt.rows[:600].mean() < 0.02
    assert doubt.sentence.startswith(f"{int(doubt.rows.sum())} of 900 images judged on look almost the same")
    assert doubt.accuracy == pytest.approx(0.7, abs=0.04)
    assert doubt.macro_f1 == pytest.approx(0.7, abs=0.04)


def test_honest_pictures_are_not_doubted() -> None:
    judged, features = honest(600, 1)
    learnt, others = honest(1500, 2)
    assert find_doubts(judged, learnt, (features, others)) == []
    near, threshold = near_duplicates(features, others, judged["label"].tolist(), learnt["label"].tolist())
    assert near.mean() < 0.01
    assert 0.5 < threshold < 0.95


def test_one_aeroplane_on_both_sides_is_told() -> None:
    judged, learnt, *_ = leaking(300)
    judged["registration"] = [None] * 300 + [f"J{i}" for i in range(300)] + [f"L{i}" for i in range(300)]
    learnt["registration"] = [f"L{i}" for i in range(1500)]
    (doubt,) = find_doubts(judged, learnt)
    assert doubt.kind == "astride"
    assert doubt.sentence == "300 of 900 images judged on share a value of registration with one that was learnt from."
    assert doubt.rows.tolist() == [False] * 600 + [True] * 300
    assert doubt.accuracy == pytest.approx(0.7, abs=0.04)


def test_days_count_without_their_hours() -> None:
    judged, _ = honest(40, 1)
    learnt, _ = honest(40, 2)
    judged["taken"], learnt["taken"] = "2020-01-02 10:00", "2020-01-02 18:30"
    (doubt,) = find_doubts(judged, learnt)
    assert "share a value of taken" in doubt.sentence
    # Nothing is left to be judged on.
    assert doubt.accuracy is None


def test_a_source_of_one_label_is_told() -> None:
    judged, learnt, *_ = leaking(300)
    learnt["source"] = np.where((learnt["label"] == "b") & (np.arange(1500) % 2 == 0), "ap", "web")
    judged["source"] = ["web"] * 600 + ["ap" if label == "b" else "web" for label in judged["label"][600:]]
    (doubt,) = find_doubts(judged, learnt)
    assert doubt.kind == "decided"
    assert "are told by source alone: 'ap' is 'b'." in doubt.sentence
    assert doubt.rows.sum() == (judged["source"] == "ap").sum()
    # The type tells the maker, as it always does: no fault of the split's.
    judged["model"], learnt["model"] = judged["label"] + "320", learnt["label"] + "320"
    assert len(find_doubts(judged, learnt)) == 1
