"""Every classifier of an output, judged on the same pictures. Driver only; needs no Spark."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mirabelle import schema
from mirabelle.config import Config
from mirabelle.console import Console
from mirabelle.errors import ConfigError, FetchError, OutputError, TrainingError
from mirabelle.evaluation import Answers, Standing, compare, group_rows
from mirabelle.pipeline.job import MAX_FACTS_BYTES, Job, open_job
from mirabelle.report import Compared
from mirabelle.storage import join
from mirabelle.table.runlog import read_manifests

KINDS = ("classifier", "finetuned")
# A classifier with fewer pictures than this in common with the newest one is of another split.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Candidate:
    """A classifier that an output has.

    Attributes:
        facts: as they stand with it.
        name: in the table.
        said: its predictions, by path.
        training_seconds: of its fit alone, and of its features' extraction where it is of features; None: not known.
        predicting_seconds: a picture; likewise.
        size_bytes: of what was fitted: of a classifier on features without the network that makes them.
    """

    facts: dict[str, Any]
    name: str
    said: pd.DataFrame
    training_seconds: float | None
    predicting_seconds: float | None
    size_bytes: int


@dataclass(frozen=True)
class Comparison:
    """Classifiers on the pictures that all of them were judged on.

    Attributes:
        standings: the best first.
        candidates: by name.
        pictures, groups: how many they were judged on, and of how many groups.
        left_out: sentences about those that are not compared.
    """

    standings: list[Standing]
    candidates: dict[str, Candidate]
    pictures: int
    groups: int
    left_out: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """A row a classifier, the best first, as plain values."""
        found = []
        for standing in self.standings:
            one = self.candidates[standing.name]
            costs = {
                "training_seconds": one.training_seconds,
                "predicting_seconds": one.predicting_seconds,
                "size_bytes": one.size_bytes,
            }
            found.append({"id": one.facts["id"], **standing.to_json(), **costs})
        return found


def compare_classifiers(config: Config, console: Console, break_lease: bool = False) -> tuple[Comparison, str]:
    """Write ``comparison/<id>/comparison.json`` of all classifiers in an output; gives them and its path.

    Raises:
        OutputError: there are not two that can be compared.
    """
    with open_job(config, "compare", console, break_lease) as job:
        with job.runlog.time("compare"):
            found = comparison_of(job)
        if found is None:
            raise OutputError(
                f"{job.output} has not two classifiers that were judged on the same pictures; `mirabelle train` and"
                " `mirabelle finetune` make them, with one classify part for all"
            )
        path = join(job.folder("comparison"), "comparison.json")
        facts = {"id": job.runlog.run_id, "pictures": found.pictures, "groups": found.groups}
        job.write_json(path, {**facts, "left_out": found.left_out, "classifiers": found.rows()})
        job.runlog.update(comparison=path)
    for sentence in found.left_out:
        console.warn(sentence)
    return found, path


def comparison_of(job: Job) -> Comparison | None:
    """All classifiers of the newest one's labels that were judged on the same pictures; None: fewer than two."""
    candidates, left_out = _candidates(job)
    if not candidates:
        return None
    newest = candidates[0]
    labels = list(newest.facts["labels"])
    chosen: list[Candidate] = []
    for one in candidates:
        common = len(one.said.index.intersection(newest.said.index))
        if list(one.facts["labels"]) != labels:
            left_out.append(f"{one.name} knows other labels, and is not compared")
        elif common < LEAST_SHARE * max(len(one.said), len(newest.said)):
            left_out.append(f"{one.name} was judged on other pictures, {common:,} of them the same; train it again")
        else:
            chosen.append(one)
    if len(chosen) < 2:
        return None
    paths = chosen[0].said.index
    for one in chosen[1:]:
        paths = paths.intersection(one.said.index)
    paths = paths.sort_values()
    truth, every = _numbers(chosen[0].said.loc[paths, schema.LABEL], labels)
    answers = [_answers(one, paths, every) for one in chosen]
    groups = _groups(job, chosen, paths)
    standings = compare(truth, answers, groups, job.config.classify.seed)
    return Comparison(standings, {one.name: one for one in chosen}, len(paths), len(set(groups)), left_out)


def compared(job: Job) -> Compared | None:
    """For the page: this output's classifiers, where there are several; what is damaged stops no report."""
    try:
        found = comparison_of(job)
    except (OutputError, ConfigError, TrainingError) as error:
        job.console.warn(f"the classifiers are not compared: {error}")
        return None
    return Compared(found.rows(), found.pictures, found.groups) if found else None


def standing_of(job: Job, facts: dict[str, Any]) -> tuple[Standing, int, int]:
    """How one classifier did, and on how many pictures of how many groups; ``facts`` as they stand with it."""
    said = (
        job.read_parquet(join(job.output, "predictions", facts["id"])).to_pandas().set_index(schema.PATH).sort_index()
    )
    one = Candidate(facts, f"{facts['estimator']} on {facts['features']}", said, None, None, 0)
    truth, every = _numbers(said[schema.LABEL], list(facts["labels"]))
    groups = _groups(job, [one], said.index)
    seed = facts.get("split_by", {}).get("seed", 0)
    return compare(truth, [_answers(one, said.index, every)], groups, seed)[0], len(said), len(set(groups))


def as_table(found: Comparison) -> str:
    """The comparison in words and columns, for a terminal."""
    names = ("", "accuracy", "macro-F1", "log-loss", "calibration", "p of next", "taught", "a picture", "size")
    rows = [names]
    for row in found.rows():
        figures = [_with_interval(row[key], row[f"{key}_interval"]) for key in ("accuracy", "macro_f1", "log_loss")]
        rows.append(
            (
                row["name"],
                *figures,
                f"{row['calibration_error']:.3f}",
                "" if row["p_next"] is None else f"{row['p_next']:.2g}",
                duration(row["training_seconds"]),
                duration(row["predicting_seconds"]),
                f"{row['size_bytes'] / 1e6:,.1f} MB",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    told = f"{found.pictures:,} pictures of {found.groups:,} groups; intervals hold 95 of 100 draws of groups"
    return "\n".join([*lines, told])


def duration(seconds: float | None) -> str:
    """A time of any size in a few characters; nothing where it is not known."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{1000 * seconds:.1f} ms"
    return f"{seconds:,.1f} s" if seconds < 600 else f"{seconds / 60:,.0f} min"


def _with_interval(figure: float, interval: list[float]) -> str:
    return f"{figure:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _candidates(job: Job) -> tuple[list[Candidate], list[str]]:
    """All finished classifiers, the newest first; of those that were made in one way the newest alone."""
    manifests = {manifest["run_id"]: manifest for manifest in read_manifests(job.store, job.output)}
    found: list[tuple[str, dict[str, Any]]] = []
    for kind in KINDS:
        folder = join(job.output, kind)
        entries = job.store.walk(folder) if job.store.exists(folder) else iter(())
        for entry in entries:
            if entry.path.endswith(f"/{kind}.json"):
                found.append((kind, _read(job, entry.path)))
    candidates: dict[str, Candidate] = {}
    ways: set[str] = set()
    left_out: list[str] = []
    for kind, facts in sorted(found, key=lambda one: str(one[1]["id"]), reverse=True):
        name = f"{facts['estimator']} on {facts['features']}"
        way = json.dumps([facts.get(key) for key in ("fingerprint", "settings", "params", "split", "labels")] + [name])
        if facts.get("settings", {}).get("step"):
            left_out.append(f"{name} ({facts['id'][:15]}) is a step of a chain, and is not compared")
        elif facts.get("interrupted") or not job.store.exists(join(job.output, "predictions", facts["id"])):
            left_out.append(f"{name} ({facts['id']}) was interrupted, and is not compared")
        elif way not in ways:
            ways.add(way)
            # Its id tells it from one with other parameters.
            name = f"{name} ({facts['id'][:15]})" if name in candidates else name
            candidates[name] = _candidate(job, kind, facts, name, manifests)
    return list(candidates.values()), left_out


def _read(job: Job, path: str) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(job.store.read(path, MAX_FACTS_BYTES))
        return {**facts, "labels": facts["labels"], "id": facts["id"]}
    except (ValueError, KeyError, TypeError, FetchError) as error:
        raise OutputError(f"{path} is damaged ({error}); remove its folder, and run its stage again") from error


def _candidate(
    job: Job, kind: str, facts: dict[str, Any], name: str, manifests: dict[str, dict[str, Any]]
) -> Candidate:
    said = job.read_parquet(join(job.output, "predictions", facts["id"])).to_pandas().set_index(schema.PATH)
    folder = join(job.output, kind, facts["id"])
    size = sum(entry.size_bytes for entry in job.store.walk(folder) if not entry.path.endswith(f"/{kind}.json"))
    if kind == "finetuned":
        costs = facts["teaching_seconds"], facts["predicting_seconds_per_image"]
        return Candidate(facts, name, said, *costs, facts["model_bytes"])
    fitted = manifests.get(facts["id"], {}).get("seconds", {}).get("train")
    # Of a picture nearly all is the network's.
    speeds = [m.get("images_per_second") for m in manifests.values() if m.get("fingerprint") == facts["fingerprint"]]
    known = [speed for speed in speeds if speed]
    return Candidate(facts, name, said, fitted, 1 / known[-1] if known else None, size)


def _numbers(labels: pd.Series, known: list[str]) -> tuple[np.ndarray[Any, np.dtype[np.int64]], list[str]]:
    """Each label's number, and all labels: those that were learnt, then those that were judged on alone."""
    every = [*known, *sorted(set(labels) - set(known))]
    place = {label: i for i, label in enumerate(every)}
    return np.array([place[label] for label in labels], np.int64), every


def _answers(one: Candidate, paths: pd.Index, every: list[str]) -> Answers:
    said = one.said.loc[paths]
    place = {label: i for i, label in enumerate(every)}
    predicted = np.array([place[label] for label in said[schema.PREDICTED]], np.int64)
    probabilities = np.array(said[schema.PROBABILITIES].tolist(), np.float64)
    return Answers(one.name, predicted, np.pad(probabilities, ((0, 0), (0, len(every) - probabilities.shape[1]))))


def _groups(job: Job, chosen: list[Candidate], paths: pd.Index) -> list[str]:
    """The group of each picture, by the configuration's groups or those that the newest was parted by."""
    told = [one.facts.get("split_by", {}).get("group_by", ()) for one in chosen]
    group_by = tuple(job.config.classify.group_by) or next((tuple(one) for one in told if one), ())
    if not group_by:
        return [str(path) for path in paths]
    # A column that was learnt stands under another name there.
    frames = [one.said.loc[paths].reset_index() for one in chosen]
    frame = max(frames, key=lambda one: sum(name in one.columns for name in group_by))
    return group_rows(frame, group_by, [])
