"""Labelled pictures to a network that was taught by them, and its judgement. Driver only; needs no Spark."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mirabelle import schema
from mirabelle.config import Config
from mirabelle.config.finetuning import Finetune
from mirabelle.config.stores import resolved_options, store_of, with_local_weights
from mirabelle.console import Console
from mirabelle.errors import BarNotMet, PreflightError
from mirabelle.evaluation import FOLD, SIDE, Metrics, evaluate
from mirabelle.finetune import Epoch, Kept, Lesson, Rows, Taught, build, start_of, teach
from mirabelle.network import backbones, weights
from mirabelle.network.embedding import NORMALISATIONS
from mirabelle.network.preparing import cache_folder, check_room, decode_options, preprocessing
from mirabelle.pipeline.checks import validate
from mirabelle.pipeline.failures import recording_failure
from mirabelle.pipeline.job import Job
from mirabelle.pipeline.labelled import Labelled, choose, labelled_rows, put_table, read_labelled
from mirabelle.pipeline.source import list_source
from mirabelle.pipeline.taught_report import report_taught
from mirabelle.signals import interruption
from mirabelle.storage import absolute, join
from mirabelle.table.lease import hold
from mirabelle.table.runlog import RunLog

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
    output = absolute(config.output)
    store = store_of(config, output)
    runlog = RunLog(store, output, "finetune", told)
    root = absolute(config.images.root) if config.images.root else ""
    with (
        tempfile.TemporaryDirectory(prefix="mirabelle-") as scratch,
        hold(store, output, runlog.run_id, "finetune", break_lease) as lease,
    ):
        job = Job(config, store, resolved_options(config), root, output, runlog, console, lease, scratch)
        runlog.write()
        with recording_failure(runlog):
            _carry_out(job)
        if job.failed_bars:
            runlog.update(failed_bars=job.failed_bars)
        problems = "; ".join(job.failed_bars)
        runlog.finish("failed" if problems else "done", problems or None, int(bool(problems)))
    if problems:
        raise BarNotMet(problems, tuple(job.summary))
    return job.summary


def _check_network(config: Config) -> None:
    """Raise for a network that cannot be before any picture is read."""
    row = backbones.find(config.finetune.network)
    backbones.check(row, config.finetune.input_px or row.input_px)
    weights.parse(start_of(config.finetune)).identity()
    try:
        backbones.import_keras()
    except ImportError as error:
        raise PreflightError(f"teaching a network needs Keras ({error}); install mirabelle[keras]") from error


def _carry_out(job: Job) -> None:
    settings = job.config.finetune
    rows = labelled_rows(job, list_source(job))
    cache = cache_folder(job.config)
    # Before any picture is read, what can be wrong shows.
    foretold = len(choose(job, rows).labels)
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
    facts = _facts(job, taught, labelled)
    kept = Kept(job.store, join(job.output, "finetuned", f"unfinished-{_recipe(facts, labelled)}"))
    try:
        with job.runlog.time("teach"):
            history, best = _teach(job, model, lesson, kept)
    except BaseException as error:
        if interruption(error) and (found := kept.get()):
            rounds, best = [Epoch(**one) for one in found[0]], found[1]
            _write_model(job, taught, {**facts, "interrupted": True, "best_epoch": best}, rounds)
            error.add_note(f"the best so far, of epoch {best}, is in {job.folder('finetuned')}")
        raise
    with job.runlog.time("judge"):
        said = lesson.probabilities(model, labelled.test)
        metrics = _judge(job, labelled, said)
        seconds = _seconds_a_picture(taught.model, of_pixels, labelled.test)
    _tell(job, facts["estimator"], metrics, history, best)
    facts |= {"metrics": metrics.to_json(), "epochs": len(history), "best_epoch": best}
    taken = sum(epoch.seconds for epoch in history) + job.runlog.manifest["seconds"].get("below", 0.0)
    facts |= {"teaching_seconds": round(taken, 3), "predicting_seconds_per_image": seconds}
    _write_model(job, taught, facts, history)
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


def _facts(job: Job, taught: Taught, labelled: Labelled) -> dict[str, Any]:
    """What a taught network is, before anything is known of how good."""
    settings = job.config.finetune
    total, trainable = taught.parameters
    start = start_of(settings)
    return {
        "id": job.runlog.run_id,
        "estimator": _name(taught, settings),
        "features": f"pictures of {taught.input_px} px",
        "network": taught.row.name,
        "weights": start,
        "weights_digest": taught.base_digest,
        "input_px": taught.input_px,
        "preprocessing": preprocessing(job.config, taught.row.normalisation, "float32"),
        "settings": settings.model_dump(mode="json"),
        "parameters": total,
        "trainable_parameters": trainable,
        "label": settings.label,
        "labels": list(labelled.sides.labels),
        "split": labelled.sides.description,
        "split_by": asdict(job.config.classify.split_by()),
        "train_rows": len(labelled.train),
        "validation_rows": len(labelled.validation),
        "test_rows": len(labelled.test),
        "rejected": len(labelled.pictures.errors),
        "versions": job.runlog.manifest["versions"],
    }


def _name(taught: Taught, settings: Finetune) -> str:
    """A network in a table of several: ``vgg16 from block3_conv1, other views``."""
    first = settings.unfreeze_from
    learns = {"none": " frozen", "all": " whole"}.get(first, f" from {first}")
    learns = "" if start_of(settings).startswith("random:") else learns
    return f"{taught.row.name}{learns}{', augmented' if settings.augment.enabled else ''}"


def _recipe(facts: dict[str, Any], labelled: Labelled) -> str:
    """Eight digits that change when anything does that a lesson's outcome follows from."""
    what = {key: value for key, value in facts.items() if key not in ("id", "versions")}
    frame = labelled.frame[[schema.PATH, schema.SIZE_BYTES, schema.ETAG, schema.LABEL, SIDE, FOLD]]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode())
    digest.update(frame.to_csv(index=False).encode(errors="surrogatepass"))
    return digest.hexdigest()[:8]


def _judge(job: Job, labelled: Labelled, said: npt.NDArray[np.float64]) -> Metrics:
    """Put the predictions away, in the form that ``train`` has, and judge them."""
    labels, frame = labelled.labels, labelled.frame.iloc[labelled.test]
    predicted = said.argmax(axis=1)
    dropped = [schema.SIZE_BYTES, schema.MODIFIED, schema.ETAG, SIDE, FOLD]
    table = pa.Table.from_pandas(frame.drop(columns=dropped), preserve_index=False)
    table = table.append_column(schema.PREDICTED, pa.array([labels[i] for i in predicted], pa.string()))
    lists = pa.array(said.astype(np.float32).tolist(), pa.list_(pa.float32()))
    put_table(
        job, join(job.folder("predictions"), "part-00000.parquet"), table.append_column(schema.PROBABILITIES, lists)
    )
    padded = np.pad(said, ((0, 0), (0, len(labels) - said.shape[1])))
    return evaluate(labelled.numbers[labelled.test], predicted.astype(np.int64), padded, labels)


def _write_model(job: Job, taught: Taught, facts: dict[str, Any], history: list[Epoch]) -> None:
    """The network, its history and its facts, which say that it is whole."""
    keras = backbones.import_keras()
    folder = job.folder("finetuned")
    with tempfile.TemporaryDirectory(dir=job.scratch) as local:
        path = Path(local) / "model.keras"
        # Another of the same layers: what only teaching needs, the optimizer's numbers, stays out.
        keras.Model(taught.model.inputs, taught.model.outputs).save(path)
        facts = {**facts, "model_bytes": path.stat().st_size}
        job.store.upload(str(path), join(folder, "model.keras"))
    put_table(job, join(folder, "history.parquet"), pa.Table.from_pylist([asdict(epoch) for epoch in history]))
    job.write_json(join(folder, "finetuned.json"), facts)


def _tell(job: Job, estimator: str, metrics: Metrics, history: list[Epoch], best: int) -> None:
    figures = {"accuracy": metrics.accuracy, "macro_f1": metrics.macro_f1}
    job.runlog.update(finetuned={"estimator": estimator, "epochs": len(history), "best_epoch": best, **figures})
    text = (
        f"{estimator}: accuracy {metrics.accuracy:.4f}, macro-F1 {metrics.macro_f1:.4f}, epoch {best} of {len(history)}"
    )
    job.console.say(text)
    job.summary += [("finetuned", text), ("model", join(job.folder("finetuned"), "model.keras"))]
