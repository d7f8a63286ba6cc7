"""Labelled pictures to a network that was taught by them, and its judgement. Driver only; needs no Spark."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mirabelle.config import Config
from mirabelle.config.stores import with_local_weights
from mirabelle.console import Console
from mirabelle.errors import PreflightError
from mirabelle.evaluation import FOLD, SIDE, Metrics
from mirabelle.finetune import Epoch, Kept, Lesson, Rows, build, start_of, teach
from mirabelle.listing.source import read_listing
from mirabelle.network import backbones, weights
from mirabelle.network.cached import cache_folder, check_room
from mirabelle.network.embedding import NORMALISATIONS
from mirabelle.network.heads import head_of
from mirabelle.network.preparing import decode_options
from mirabelle.pipeline.checks import validate
from mirabelle.pipeline.job import Job, open_job
from mirabelle.pipeline.labelled import choose, labelled_rows, read_labelled
from mirabelle.pipeline.source import list_source, warn_of_rows
from mirabelle.pipeline.taught import ASIDE, facts_of, judge, predictions, recipe_of, write_model
from mirabelle.pipeline.taught_report import report_taught
from mirabelle.signals import interruption
from mirabelle.storage import absolute, join

if TYPE_CHECKING:
    import keras

Ints = npt.NDArray[np.int64]

TIMED_BATCHES = 3


def finetune(config: Config, console: Console, break_lease: bool = False) -> list[tuple[str, str]]:
    """Teach a network and write ``finetuned/<id>/``, ``predictions/<id>/`` and ``report/<id>/``.

    Args:
        config: validated; its ``finetune`` part says what is taught, its ``classify`` part from which pictures.
        console: a person's view.
        break_lease: take the output from a run that is believed dead.

    Returns:
        What was done, as (name, text).

    Raises:
        UserError: the user can mend it; rounds that ended are kept.
        BarNotMet: it was taught, and more pictures were bad than ``limits.max_reject_share`` allows.
    """
    told = config.masked()
    config = with_local_weights(config, cache_folder(config), "finetune")
    validate(config, ())
    _check_network(config)
    with open_job(config, "finetune", console, break_lease, told) as job:
        _carry_out(job)
    return job.summary


def dry_run(config: Config, console: Console) -> None:
    """Say what ``finetune`` would teach, and by how many pictures; reads none of them and writes nothing."""
    validate(config, ())
    _check_network(config)
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as scratch:
        images = read_listing(config, scratch)
        rows = labelled_rows(config, images)
    warn_of_rows(images, config, console)
    sides, _ = choose(config, rows)
    learnt = sides.frame[SIDE] == "train"
    aside = learnt & (sides.frame[FOLD] == 0)
    console.say(sides.description)
    train, validation, test = (int(part.sum()) for part in (learnt & ~aside, aside, ~learnt))
    console.say(
        f"would teach {config.finetune.network} {len(sides.labels):,} labels by {train:,} pictures, choose the epoch by"
        f" {validation:,} and judge it on {test:,}, below {absolute(config.output)}/finetuned"
    )


def _check_network(config: Config) -> None:
    """Raise for a network that cannot be before any picture is read."""
    row = backbones.find(config.finetune.network)
    source = weights.parse(start_of(config.finetune))
    source.identity()
    head = head_of(source.path)
    backbones.check(row, config.finetune.input_px or (head.input_px if head else row.input_px))
    try:
        backbones.import_keras()
    except ImportError as error:
        raise PreflightError(f"teaching a network needs Keras ({error}); install mirabelle[keras]") from error


def _carry_out(job: Job) -> None:
    settings = job.config.finetune
    rows = labelled_rows(job.config, list_source(job))
    cache = cache_folder(job.config)
    # Before any picture is read, what can be wrong shows.
    foretold = len(choose(job.config, rows)[0].labels)
    with job.runlog.time("model"):
        taught = build(settings, foretold, cache)
    total, learning = taught.parameters
    start = start_of(settings)
    job.console.say(
        f"{taught.row.name} from {start} at {taught.input_px} px: {total:,} parameters, {learning:,} of them learn"
    )
    options = decode_options(job.config)
    labelled = read_labelled(job, rows, taught.input_px, options)
    if len(labelled.sides.labels) != foretold:
        # A label is gone, all of whose pictures are bad.
        taught = build(settings, len(labelled.sides.labels), cache)
    lesson = Lesson(
        settings,
        labelled.pictures.rows,
        labelled.numbers,
        labelled.train,
        labelled.validation,
        len(labelled.sides.labels),
        NORMALISATIONS[taught.row.normalisation],
        options.ground,
    )
    of_pixels = lesson
    if taught.below is not None:
        with job.runlog.time("below"):
            below = _below(job, taught.below, lesson)
        lesson = replace(lesson, rows=below, normalisation=None)
    model = taught.head or taught.model
    facts = facts_of(job, taught, labelled)
    kept = Kept(job.store, join(job.output, "finetuned", f"unfinished-{recipe_of(facts, labelled)}"))
    try:
        with job.runlog.time("teach"):
            history, best = _teach(job, model, lesson, kept)
    except BaseException as error:
        if interruption(error) and (found := kept.get()):
            rounds, best = [Epoch(**one) for one in found[0]], found[1]
            write_model(job, taught, {**facts, "interrupted": True, "best_epoch": best}, rounds)
            error.add_note(f"the best so far, of epoch {best}, is in {job.folder('finetuned')}")
        raise
    with job.runlog.time("judge"):
        said = lesson.probabilities(model, labelled.test)
        metrics = judge(job, labelled, said)
        # For a chain that it may be a step of.
        asked = np.concatenate([labelled.validation, labelled.others])
        if len(asked):
            path = join(job.folder("finetuned"), ASIDE, "part-00000.parquet")
            job.write_table(path, predictions(labelled, asked, lesson.probabilities(model, asked)))
        seconds = _seconds_a_picture(taught.model, of_pixels, labelled.test)
    _tell(job, facts["estimator"], metrics, history, best)
    facts |= {"metrics": metrics.to_json(), "epochs": len(history), "best_epoch": best}
    taken = sum(epoch.seconds for epoch in history) + job.runlog.manifest["seconds"].get("below", 0.0)
    facts |= {"teaching_seconds": round(taken, 3), "predicting_seconds_per_image": seconds}
    write_model(job, taught, facts, history)
    kept.remove()
    with job.runlog.time("report"):
        report_taught(job, taught, labelled.pictures, labelled.frame, labelled.rejects, facts, history)


def _seconds_a_picture(model: keras.Model, lesson: Lesson, positions: npt.NDArray[np.int64]) -> float:
    """What predicting takes, of the whole network, by a few batches behind one that makes it ready."""
    few = positions[: TIMED_BATCHES * lesson.settings.batch_images]
    lesson.probabilities(model, few)
    began = time.perf_counter()
    lesson.probabilities(model, few)
    return (time.perf_counter() - began) / len(few)


def _below(job: Job, below: keras.Model, lesson: Lesson) -> Rows:
    """What the part of a network that says the same in every round makes of each picture, made once."""
    shape = tuple(int(side) for side in below.output.shape[1:])
    many, done = len(lesson.classes), 0
    check_room(Path(job.scratch), 4 * math.prod(shape) * many, "keeping what the frozen layers make", "TMPDIR")
    kept = Rows(job.scratch, shape, np.float32)
    with job.console.track(many, lambda: (done, 0), "frozen layers") as refresh:
        for found in lesson.answers(below, np.arange(many)):
            kept.write(done, found)
            done += len(found)
            refresh()
    return kept


def _teach(job: Job, model: keras.Model, lesson: Lesson, kept: Kept) -> tuple[list[Epoch], int]:
    line = ""

    def tell(text: str) -> None:
        nonlocal line
        line = text
        refresh()

    found = kept.get()
    if found:
        job.console.say(f"going on behind epoch {len(found[0])}, where an earlier run came to")
    with job.console.counting(lambda: line) as refresh:
        history, best = teach(model, replace(lesson, told=tell), kept)
    taken = sum(epoch.seconds for epoch in history)
    waited = sum(epoch.waiting_seconds for epoch in history) / max(taken, 1e-9)
    images = sum(epoch.images for epoch in history)
    job.console.say(
        f"{len(history)} epochs, {images / max(taken, 1e-9):,.1f} images/s, {waited:.1%} of the time waiting for"
        f" pictures; the best was epoch {best}"
    )
    job.runlog.update(images_per_second=round(images / max(taken, 1e-9), 2), waiting_share=round(waited, 4))
    return history, best


def _tell(job: Job, estimator: str, metrics: Metrics, history: list[Epoch], best: int) -> None:
    figures = {"accuracy": metrics.accuracy, "macro_f1": metrics.macro_f1}
    job.runlog.update(finetuned={"estimator": estimator, "epochs": len(history), "best_epoch": best, **figures})
    text = (
        f"{estimator}: accuracy {metrics.accuracy:.4f}, macro-F1 {metrics.macro_f1:.4f}, epoch {best} of {len(history)}"
    )
    job.console.say(text)
    job.summary += [("finetuned", text), ("model", join(job.folder("finetuned"), "model.keras"))]
