"""Airbus or Boeing, by five networks on one split, and by logistic regression on features: some hours on two cores.

Usage: scripts/planes.py PHOTOS WEIGHTS OUT [--epochs N] [--only NAME ...]

PHOTOS has photos.csv and photos/; WEIGHTS are ImageNet's of VGG16. Only sources with both makers are taken. What is
there already is not done again, and what was killed goes on. Writes OUT/curves.svg, how right each network was after
each epoch; `mirabelle compare` shows all of them beside each other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

SOURCES = ("klas", "web", "jet")
# Aeroplanes are photographed upright.
AUGMENT = {"rotation_degrees": 10, "width_shift": 0.1, "height_shift": 0.1, "shear": 0.1}


def networks(weights: Path, epochs: int) -> dict[str, dict[str, Any]]:
    """The ``finetune`` part of each.

    The deepest one learns by SGD: RMSprop moves every weight by its whole rate in the first steps, which undoes what
    VGG16 knows (at 5e-5 it fell to chance within an epoch), and at a rate that does not it is slow. Pictures set aside
    would choose its epoch, and some two hundred of few days choose badly: its rate falls to nothing instead, and the
    last epoch counts.
    """
    vgg = {"network": "vgg16", "weights": str(weights)}
    own = {"network": "small", "optimizer_params": {"learning_rate": 1e-4}, "epochs": 4 * epochs, "patience": epochs}
    frozen = {**vgg, "epochs": 4 * epochs, "patience": epochs}
    return {
        "own": own,
        "own-augmented": {**own, "augment": AUGMENT},
        "frozen-flattened": {**frozen, "optimizer_params": {"learning_rate": 1e-4}, "l2": 0.01},
        "frozen": {**frozen, "pooling": "avg", "optimizer_params": {"learning_rate": 1e-3}, "l2": 1e-4},
        # It goes on where the frozen network's lesson ended: a first answer at random would spoil what is below it.
        "finetuned": {
            **vgg,
            "pooling": "avg",
            "optimizer": "SGD",
            "optimizer_params": {"learning_rate": 3e-3, "momentum": 0.9, "global_clipnorm": 1.0},
            "schedule": "cosine",
            "epochs": epochs,
            "validation_share": 0,
            "unfreeze_from": "block3_conv1",
            "augment": AUGMENT,
        },
    }


def manifest(photos: Path, out: Path) -> Path:
    """What is learnt from, as a table with whole paths."""
    table = pd.read_csv(photos / "photos.csv", dtype=str)
    table = table[table["source"].isin(SOURCES)]
    table["path"] = [str(photos / "photos" / name) for name in table["file"]]
    path = out / "photos.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.drop(columns="file").to_parquet(path, index=False)
    return path


def frozen(output: Path) -> Path:
    """The model of the frozen network's lesson, the pooled one's."""
    told = {path: json.loads(path.read_text())["settings"] for path in output.glob("finetuned/*/finetuned.json")}
    of = [
        path for path, settings in told.items() if settings["unfreeze_from"] == "none" and settings["pooling"] == "avg"
    ]
    return max(of).with_name("model.keras")


def draw(output: Path, lessons: dict[str, str], target: Path) -> None:
    """Accuracy by epoch on the pictures learnt from and on those set aside, one chart a network.

    Args:
        output: that has the lessons.
        lessons: the id of each, by the network's name.
        target: an SVG file.
    """
    import altair as alt
    import vl_convert

    rows = [
        {"network": name, "epoch": epoch["epoch"], "pictures": of, "right": epoch[column]}
        for name, lesson in lessons.items()
        for epoch in pd.read_parquet(output / "finetuned" / lesson / "history.parquet").to_dict("records")
        for column, of in (("accuracy", "learnt from"), ("val_accuracy", "set aside"))
        # Nothing was set aside of some.
        if not pd.isna(epoch.get(column))
    ]
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line()
        .encode(
            x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("right:Q", title="share that is right", scale=alt.Scale(domain=[0.5, 1])),
            color=alt.Color("pictures:N", scale=alt.Scale(range=["#7a4fbf", "#d98b2b"])),
            facet=alt.Facet("network:N", title=None, columns=3, sort=list(lessons)),
        )
        .properties(width=220, height=150)
        .resolve_scale(x="independent")
        .configure(background="white")
    )
    target.write_text(vl_convert.vegalite_to_svg(chart.to_json()), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--epochs", type=int, default=14, help="of the deepest network; the others have four times that"
    )
    parser.add_argument(
        "--only", nargs="*", help="some of own, own-augmented, frozen-flattened, frozen, finetuned, features"
    )
    given = parser.parse_args()
    command = str(Path(sys.executable).with_name("mirabelle"))
    output = given.out.resolve() / "output"
    usual = [
        f"images.manifest={manifest(given.photos.resolve(), given.out.resolve())}",
        f"output={output}",
        "labels.label=constructor",
        "classify.group_by=[registration, taken, group]",
    ]
    weights = given.weights.resolve()
    wanted = {**networks(weights, given.epochs), "features": {}}
    marks = given.out / "done"
    marks.mkdir(exist_ok=True)
    for name, part in wanted.items():
        if (given.only is not None and name not in given.only) or (marks / name).exists():
            continue
        runs: list[tuple[str, list[str]]] = []
        if part:
            # VGG16 in bfloat16 is six times as fast where the CPU has it.
            precision = "bf16" if part["network"] == "vgg16" else "float32"
            told = {"input_px": 150, "precision": precision, **part}
            if name == "finetuned":
                told["weights"] = str(frozen(output))
            runs.append(("finetune", [f"finetune={json.dumps(told)}"]))
        else:
            backbone = ["backbone.name=vgg16", f"backbone.weights={weights}"]
            runs += [
                ("run", backbone),
                ("train", [*backbone, "classify.features=full", "classify.params={regParam: 0.01}"]),
            ]
        for verb, more in runs:
            print(f"\n{name}: mirabelle {verb}", flush=True)
            code = subprocess.call([command, verb, *(word for one in [*usual, *more] for word in ("--set", one))])
            if code:
                return code
        newest = max(path.name for path in output.glob("finetuned/*")) if part else ""
        (marks / name).write_text(newest)
    lessons = {name: (marks / name).read_text() for name in networks(weights, given.epochs) if (marks / name).exists()}
    if lessons:
        draw(output, lessons, given.out / "curves.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
