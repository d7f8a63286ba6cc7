"""What is left of a network that was taught: its facts, its file, its predictions. Driver only."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mirabelle import schema
from mirabelle.config.finetuning import Finetune
from mirabelle.evaluation import FOLD, SIDE, Metrics, evaluate
from mirabelle.finetune import Epoch, Taught, start_of
from mirabelle.network import backbones
from mirabelle.network.preparing import preprocessing
from mirabelle.pipeline.job import Job
from mirabelle.pipeline.labelled import Labelled
from mirabelle.storage import join

# What a network says of pictures that it did not learn from and is not judged on, beside the network.
ASIDE = "aside"


def facts_of(job: Job, taught: Taught, labelled: Labelled) -> dict[str, Any]:
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
        "label": settings.label if settings.step is None else job.config.classify.chain[1],
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
    more = [", augmented"] if settings.augment.enabled else []
    more += [f", of {settings.step}"] if settings.step is not None else []
    return "".join([taught.row.name, learns, *more])


def recipe_of(facts: dict[str, Any], labelled: Labelled) -> str:
    """Eight digits that change when anything does that a lesson's outcome follows from."""
    what = {key: value for key, value in facts.items() if key not in ("id", "versions")}
    frame = labelled.frame[[schema.PATH, schema.SIZE_BYTES, schema.ETAG, schema.LABEL, SIDE, FOLD]]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode())
    digest.update(frame.to_csv(index=False).encode(errors="surrogatepass"))
    return digest.hexdigest()[:8]


def judge(job: Job, labelled: Labelled, said: npt.NDArray[np.float64]) -> Metrics:
    """Put the predictions away, in the form that ``train`` has, and judge them."""
    labels = labelled.labels
    job.write_table(join(job.folder("predictions"), "part-00000.parquet"), predictions(labelled, labelled.test, said))
    padded = np.pad(said, ((0, 0), (0, len(labels) - said.shape[1])))
    predicted = said.argmax(axis=1).astype(np.int64)
    return evaluate(labelled.numbers[labelled.test], predicted, padded, labels)


def predictions(labelled: Labelled, positions: npt.NDArray[np.int64], said: npt.NDArray[np.float64]) -> pa.Table:
    """What a network says of some pictures, in the columns that ``train`` writes."""
    dropped = [schema.SIZE_BYTES, schema.MODIFIED, schema.ETAG, SIDE, FOLD]
    table = pa.Table.from_pandas(labelled.frame.iloc[positions].drop(columns=dropped), preserve_index=False)
    names = [labelled.labels[i] for i in said.argmax(axis=1)]
    lists = pa.array(said.astype(np.float32).tolist(), pa.list_(pa.float32()))
    table = table.append_column(schema.PREDICTED, pa.array(names, pa.string()))
    return table.append_column(schema.PROBABILITIES, lists)


def write_model(job: Job, taught: Taught, facts: dict[str, Any], history: Sequence[Epoch]) -> None:
    """The network, its history and its facts, which say that it is whole."""
    keras = backbones.import_keras()
    folder = job.folder("finetuned")
    with tempfile.TemporaryDirectory(dir=job.scratch) as local:
        path = Path(local) / "model.keras"
        # Another of the same layers: what only teaching needs, the optimizer's numbers, stays out.
        keras.Model(taught.model.inputs, taught.model.outputs).save(path)
        facts = {**facts, "model_bytes": path.stat().st_size}
        job.store.upload(str(path), join(folder, "model.keras"))
    job.write_table(join(folder, "history.parquet"), pa.Table.from_pylist([asdict(epoch) for epoch in history]))
    job.write_json(join(folder, "finetuned.json"), facts)
