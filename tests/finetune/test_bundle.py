"""Networks that were taught, bundled: the answer of OpenVINO and NumPy is the one that Keras was judged by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import draw
from mirabelle import open_bundle
from mirabelle.bundle import Answer
from mirabelle.cli import main
from mirabelle.serve.current import self_test

TINTS = {"amber": (150, 100, 0), "beryl": (0, 150, 100), "coral": (150, 0, 50)}
QUICK = {
    "input_px": 16,
    "hidden": [8],
    "batch_images": 16,
    "epochs": 2,
    "optimizer": "Adam",
    "optimizer_params": {"learning_rate": 0.003},
}


def learn(root: Path, labels: int, *more: str, **finetune: Any) -> Path:
    """Teach a small network, and bundle it; the bundle's folder."""
    for number, (label, tint) in enumerate(list(TINTS.items())[:labels]):
        for i in range(20):
            draw(root / "pictures" / label / f"{i}.png", 100 * number + i, (20, 20), tint)
    told = [
        f"output={root / 'output'}",
        f"cache={root / 'cache'}",
        f"images.root={root / 'pictures'}",
        "images.layout={label}/{name}",
        f"finetune={json.dumps({**QUICK, **finetune})}",
    ]
    settings = [word for one in told for word in ("--set", one)]
    assert main(["finetune", "--quiet", *settings]) == 0
    # Of those that bundling needs, the first two alone.
    assert main(["bundle", "--quiet", *settings[:4], *(word for one in more for word in ("--set", one))]) == 0
    (folder,) = (path for path in (root / "output" / "bundle").iterdir() if path.is_dir())
    return folder


def differences(folder: Path) -> tuple[float, int]:
    """How far a bundle's probabilities are off those of the judgement, and how many it was judged on."""
    whole = open_bundle(str(folder))
    said = pd.concat([pd.read_parquet(path) for path in (folder.parents[1] / "predictions").rglob("*.parquet")])
    found = whole.predictions(said["path"].tolist())
    off = 0.0
    for one, row in zip(found, said.to_dict("records"), strict=True):
        assert isinstance(one.answer, Answer) and one.answer.label == row["predicted"]
        off = max(off, float(np.abs(one.probabilities - row["probabilities"]).max()))
    return off, len(said)


@pytest.mark.parametrize(
    ("labels", "finetune"),
    [(3, {}), (2, {"pooling": "avg", "hidden": []})],
    ids=["three labels", "two labels, nothing hidden"],
)
def test_it_says_what_the_network_was_judged_by(tmp_path: Path, labels: int, finetune: dict[str, Any]) -> None:
    folder = learn(tmp_path, labels, **finetune)
    off, many = differences(folder)
    facts = json.loads((folder / "bundle.json").read_text())
    assert off <= 1e-5 and many == facts["checks"]["pictures"] > 5
    whole = open_bundle(str(folder))
    assert whole.info.labels == tuple(TINTS)[:labels] and whole.info.components == 0
    assert whole.info.width == (8 if labels == 3 else 128)
    # Its answer rests on places.
    picture = next((tmp_path / "pictures" / "amber").iterdir()).read_bytes()
    heat = whole.explain(whole.decode(picture).pixels)
    assert heat.shape == (1, 1) and heat[0, 0] in (0, 1)
    assert "others." in whole.info.card and "small" in whole.info.card
    # Its runs are read by the verbs that look at an output.
    assert main(["inspect", str(folder.parents[1])]) == 0


def test_one_taught_in_bf16_is_close(tmp_path: Path) -> None:
    folder = learn(tmp_path, 2, precision="bf16")
    off, _ = differences(folder)
    assert off < 0.05
    assert json.loads((folder / "bundle.json").read_text())["checks"]["probabilities_off"] == pytest.approx(
        off, abs=1e-6
    )


def test_its_training_pictures_are_its_neighbours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = learn(tmp_path, 2)
    output = folder.parents[1]
    sets = ["--set", f"output={output}", "--set", f"cache={tmp_path / 'cache'}"]
    assert main(["bundle", "--quiet", *sets, "--set", "decode.ground=[0, 0, 0]"]) == 2
    assert "give the configuration that it was taught with" in capsys.readouterr().err
    # What it learnt from is listed anew, so the configuration must say where that is.
    assert main(["bundle", "--quiet", "--index", *sets]) == 2
    assert "images.root is not set" in capsys.readouterr().err
    (where := tmp_path / "where.yaml").write_text(
        f"images: {{root: {tmp_path / 'pictures'}, layout: '{{label}}/{{name}}'}}\n"
    )
    assert main(["bundle", "--quiet", "--index", "--config", str(where), *sets]) == 0
    whole = open_bundle(str(max(path for path in (output / "bundle").iterdir() if path.is_dir())))
    held = set(pd.concat([pd.read_parquet(path) for path in (output / "predictions").rglob("*.parquet")])["path"])
    learnt = [path for path in sorted((tmp_path / "pictures").rglob("*.png")) if str(path) not in held]
    assert whole.info.has_index and len(learnt) > 10
    (one,) = whole.predictions([learnt[0]])
    assert one.features is not None
    found = whole.neighbours(one.features, 100)
    assert {near.path for near in found} == set(map(str, learnt))
    assert (found[0].path, found[0].label) == (str(learnt[0]), learnt[0].parent.name)
    assert found[0].cosine == pytest.approx(1, abs=1e-6) and found[0].thumbnail.startswith(b"RIFF")
    # Nothing else could check it.
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    assert main(["bundle", "--quiet", *sets]) == 2
    assert "can be read any more" in capsys.readouterr().err


def test_a_chain_of_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One whose second step is Spark's on features of another size, and one all of whose steps are networks."""
    rows = []
    for number, (tint, colour) in enumerate(TINTS.items()):
        for i in range(20):
            draw(path := tmp_path / "pictures" / tint / f"{i}.png", 100 * number + i, (20, 20), colour)
            rows.append({"path": str(path), "label": "cold" if tint == "beryl" else "warm", "tint": tint})
    pd.DataFrame(rows).to_csv(tmp_path / "photos.csv", index=False)
    output = tmp_path / "output"
    told = [f"images.manifest={tmp_path / 'photos.csv'}", f"output={output}", f"cache={tmp_path / 'cache'}"]
    told += ["backbone.name=small", "backbone.weights=random:0", "backbone.input_px=32", "spark.master=local[2]"]
    told += [f"finetune={json.dumps(QUICK)}", "classify.chain=[label, tint]", "classify.min_rows=10"]

    def run(*words: str) -> None:
        given = [word for one in told for word in ("--set", one)]
        assert main([words[0], "--quiet", *given, *words[1:]]) == 0

    run("run")
    run("finetune")
    first = max((output / "finetuned").iterdir()).name
    run("finetune", "--set", "finetune.step=warm")
    step = max((output / "finetuned").iterdir()).name
    for networks, pixels in ((f"{{label: {first}}}", (48, 32, 3)), (f"{{label: {first}, warm: {step}}}", (16, 16, 3))):
        run("train", "--set", f"classify.networks={networks}", "--set", "classify.precision=0.8")
        # A configuration need not name what the classifier's facts have.
        run("bundle", "--index")
        folder = max(path for path in (output / "bundle").iterdir() if path.is_dir())
        whole = open_bundle(str(folder))
        assert whole.info.pixels == pixels
        assert whole.info.labels == ("cold / beryl", "warm / amber", "warm / coral")
        said = pd.read_parquet(max((output / "predictions").iterdir())).set_index("path").sort_index()
        for row, one in zip(said.itertuples(), whole.predictions(said.index.tolist()), strict=True):
            assert isinstance(one.answer, Answer) and one.answer.coarse is not None
            assert one.answer.coarse.label == row.predicted
            assert one.answer.label == f"{row.predicted} / {row.chain_predicted}"
            assert one.answer.probability == pytest.approx(row.chain_probability, abs=1e-5)
            given = {"fine": one.answer.label, "coarse": row.predicted, "not sure": None}[row.chain_level]
            assert one.answer.given == given
        facts = json.loads((folder / "bundle.json").read_text())
        assert facts["format"] == 2 and len(facts["networks"]) == 1
        assert facts["checks"]["probabilities_off"] <= 1e-5 and facts["checks"]["pictures"] == len(said)
        assert "further network 1: small" in whole.info.card
        (one,) = whole.predictions([rows[0]["path"]])
        assert one.features is not None
        near = whole.neighbours(one.features, 100)
        assert len(near) == 60 - len(said)
        # Each is called as finely as the chain's answers are.
        assert {(Path(found.path).parent.name, found.label) for found in near} == {
            (label.split(" / ")[1], label) for label in whole.info.labels
        }
        heat = whole.explain(whole.decode(Path(rows[0]["path"]).read_bytes()).pixels)
        assert heat.shape == (1, 1)
        self_test(whole, 2)
        run("compact", "--dry-run")
