"""Networks taught by drawn pictures, as a user has it done: what is left, what is refused, what outlives a kill."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose

from conftest import REPOSITORY, draw
from documents import commands
from mirabelle import load_config
from mirabelle.cli import main
from mirabelle.decode import decode
from mirabelle.network import backbones
from mirabelle.network.engines import open_engine
from mirabelle.network.preparing import prepare_network
from mirabelle.storage import DiskStore
from mirabelle.verification import verify

PX = 16
QUICK = {
    "input_px": PX,
    "hidden": [8],
    "batch_images": 16,
    "epochs": 5,
    "optimizer": "Adam",
    "optimizer_params": {"learning_rate": 0.003},
}
TINTS = {"amber": (150, 100, 0), "beryl": (0, 150, 100), "coral": (150, 0, 50)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels, thirty pictures of each, in pairs of one thing; and two files that are no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, (label, tint) in enumerate(TINTS.items()):
        for i in range(30):
            draw(folder / label / f"thing{i // 2}" / f"{i}.png", 100 * number + i, (20, 20), tint)
    (folder / "amber" / "thing0" / "bad.png").write_bytes(b"no picture")
    (folder / "coral" / "thing3" / "empty.jpg").write_bytes(b"")
    return folder


def settings(pictures: Path, output: Path, **finetune: Any) -> list[str]:
    told = {**QUICK, **finetune}
    return [
        f"images.root={pictures}",
        "images.layout={label}/{thing}/{name}",
        f"output={output}",
        "classify.group_by=(.*)/",
        "limits.max_reject_share=0.1",
        f"finetune={json.dumps(told)}",
    ]


def command(*arguments: str) -> list[str]:
    verb, *sets = arguments
    return [verb, "--quiet", *(word for one in sets for word in ("--set", one))]


@pytest.fixture(scope="module")
def taught(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("taught")
    assert main(command("finetune", *settings(pictures, output, augment={"zoom": 0.1}))) == 0
    return output


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_all_that_it_leaves(taught: Path, pictures: Path) -> None:
    facts = json.loads(only(taught, "finetuned/*/finetuned.json").read_text())
    run = facts["id"]
    assert facts["labels"] == ["amber", "beryl", "coral"]
    assert facts["rejected"] == 2
    assert facts["train_rows"] + facts["validation_rows"] + facts["test_rows"] == 90
    history = pd.read_parquet(taught / "finetuned" / run / "history.parquet")
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert history["val_loss"].idxmin() + 1 == facts["best_epoch"]
    rejects = pd.read_parquet(taught / "finetuned" / run / "rejects.parquet")
    assert sorted(rejects["code"]) == ["empty", "not_an_image"]
    manifest = json.loads((taught / "runs" / f"{run}.json").read_text())
    assert manifest["status"] == "done"
    assert manifest["counts"] == {"listed": 92, "read": 90, "rejected": 2}
    # No group on both sides, and what was learnt is worth something.
    predictions = pq.read_table(taught / "predictions" / run)
    assert predictions.column_names == ["path", "label", "split", "thing", "predicted", "probabilities"]
    assert str(predictions.schema.field("probabilities").type) == "list<element: float>"
    rows = predictions.to_pandas()
    assert (rows["label"] == rows["predicted"]).mean() == pytest.approx(facts["metrics"]["accuracy"])
    assert facts["metrics"]["accuracy"] > 0.8
    assert_allclose(np.stack(rows["probabilities"]).sum(axis=1), 1, atol=1e-5)
    held = {str(Path(path).parent) for path in rows["path"]}
    assert all(len(list(Path(folder).glob("*.png"))) <= 3 for folder in held)
    assert len(rows) == sum(len([p for p in Path(f).glob("*.png") if p.name != "bad.png"]) for f in held)
    # Nothing unfinished is left, and it agrees with itself.
    assert not list((taught / "finetuned").glob("unfinished-*"))
    assert not verify(DiskStore(), str(taught)).findings
    page = only(taught, "predictions/*/part-00000.parquet")
    content = page.read_bytes()
    page.write_bytes(content[:-200])
    assert "part-00000.parquet cannot be read" in str(verify(DiskStore(), str(taught)).findings)
    page.write_bytes(content)


def test_the_page_shows_how_it_learnt(taught: Path) -> None:
    page = only(taught, "report/*/index.html").read_text()
    for words in ("How it learnt", "The views it was shown", "Where it looked", "Confusion matrix", "chart-loss"):
        assert words in page
    assert "Principal components" not in page
    assert page.count('alt="a view of it"') == 8


def test_comparing(taught: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two networks on the same pictures; one of other labels is left out, and told of."""
    output = tmp_path / "output"
    shutil.copytree(taught, output)
    # Alone it has nothing to be compared with.
    assert main(command("compare", f"output={output}")) == 2
    assert "has not two classifiers that were judged on the same pictures" in capsys.readouterr().err
    two = 'images.include=["amber/**", "beryl/**"]'
    assert main(command("finetune", *settings(pictures, output, epochs=1), two)) == 0
    assert main(command("finetune", *settings(pictures, output, epochs=1))) == 0
    assert "Beside each other" in max(output.glob("report/*/index.html")).read_text()
    capsys.readouterr()
    # Aloud, as it warns of what is left out.
    assert main(["compare", "--set", f"output={output}"]) == 0
    told = capsys.readouterr()
    assert re.search(r"^small, augmented on pictures of 16 px +\d\.\d{3} \[", told.out, re.MULTILINE)
    assert "knows other labels, and is not compared" in told.err
    found = json.loads(only(output, "comparison/*/comparison.json").read_text())
    rows = found["classifiers"]
    assert [row["name"] for row in rows] == sorted(
        (row["name"] for row in rows), key=lambda name: -next(r["accuracy"] for r in rows if r["name"] == name)
    )
    for row in rows:
        predictions = pd.read_parquet(output / "predictions" / row["id"])
        assert row["accuracy"] == pytest.approx((predictions["label"] == predictions["predicted"]).mean())
        assert len(predictions) == found["pictures"]
        assert len({str(Path(path).parent) for path in predictions["path"]}) == found["groups"]
    assert not verify(DiskStore(), str(output)).findings


@pytest.mark.long
def test_beside_a_classifier_on_features_and_first_in_a_chain(pictures: Path, tmp_path: Path) -> None:
    table, output = tmp_path / "facts.csv", tmp_path / "output"
    paths = [path for path in sorted(pictures.rglob("*.png")) if path.name != "bad.png"]
    kinds = ["cold" if "beryl" in str(path) else "warm" for path in paths]
    facts = {"path": map(str, paths), "tint": [path.parent.parent.name for path in paths], "label": kinds}
    pd.DataFrame(facts).to_csv(table, index=False)
    told = [
        *(one for one in settings(pictures, output) if not one.startswith("images.")),
        *(f"images.manifest={table}", f"cache={tmp_path / 'cache'}"),
        *("backbone.name=small", "backbone.weights=random:0", "backbone.input_px=32"),
    ]
    assert main(command("finetune", *told)) == 0
    network = only(output, "finetuned/*/model.keras").parent.name
    chain = ["classify.chain=[label, tint]", "classify.min_rows=10"]
    assert main(command("run", *told, *chain)) == 0
    assert "Beside each other" in max(output.glob("report/*/index.html")).read_text()
    assert main(command("compare", *told)) == 0
    found = json.loads(only(output, "comparison/*/comparison.json").read_text())
    assert len(found["classifiers"]) == 2
    for row in found["classifiers"]:
        assert row["training_seconds"] > 0
        assert row["predicting_seconds"] > 0
        assert row["size_bytes"] > 1000
    assert main(command("finetune", *told, *chain, "finetune.step=warm")) == 0
    step = max(output.glob("finetuned/*")).name
    assert json.loads((output / "finetuned" / step / "finetuned.json").read_text())["labels"] == ["amber", "coral"]
    by_network = ["classify.precision=0.8", f"classify.networks={{label: {network}, warm: {step}}}"]
    assert main(command("train", *told, *chain, *by_network)) == 0
    rows = pd.read_parquet(max(output.glob("predictions/*"))).set_index("path")
    own = pd.read_parquet(output / "predictions" / network).set_index("path").loc[rows.index]
    assert rows["predicted"].equals(own["predicted"])
    assert (rows["chain_predicted"] == "beryl").equals(rows["predicted"] == "cold")
    assert rows["chain_level"].isin(["fine", "coarse", "not sure"]).all()
    assert not verify(DiskStore(), str(output)).findings
    assert main(command("train", *told, *chain, "classify.networks={label: none}")) == 2


def test_it_is_a_backbone(taught: Path, pictures: Path, tmp_path: Path) -> None:
    """Its penultimate features by OpenVINO are those of the model itself."""
    model = only(taught, "finetuned/*/model.keras")
    told = [f"images.root={pictures}", f"output={tmp_path}", f"cache={tmp_path}", "backbone.name=small"]
    config = load_config(None, [*told, f"backbone.weights={model}", "engine.precision=float32"])
    network = prepare_network(config)
    embedding = network.embedding
    assert (embedding.input_px, embedding.layer, embedding.width) == (PX, "head_hidden_1", 8)
    keras = backbones.import_keras()
    whole = keras.saving.load_model(model, compile=False)
    own = keras.Model(whole.input, whole.get_layer("head_hidden_1").output)
    paths = sorted((pictures / "beryl").rglob("*.png"))[:5]
    pixels = np.stack([decode(path.read_bytes(), PX).pixels for path in paths])
    expected = own.predict_on_batch(pixels / np.float32(127.5) - 1)
    engine = open_engine(network.engine, network.files, network.normalisation, "float32", 1)
    assert_allclose(engine.embed(pixels), expected, atol=1e-5)


def test_two_classes_and_another_column(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "facts.csv"
    paths = [path for path in sorted(pictures.rglob("*.png")) if path.name != "bad.png"]
    kind = ["warm" if "beryl" not in str(path) else "cold" for path in paths]
    pd.DataFrame({"path": map(str, paths), "label": "x", "kind": kind}).to_csv(table, index=False)
    told = [f"images.manifest={table}", f"output={tmp_path / 'out'}", f"finetune={json.dumps({**QUICK, 'epochs': 1})}"]
    assert main(command("finetune", *told, "finetune.label=kind")) == 0
    facts = json.loads(only(tmp_path / "out", "finetuned/*/finetuned.json").read_text())
    assert facts["labels"] == ["cold", "warm"]
    assert facts["parameters"] == 240_832 + 128 * 8 + 8 + 9
    predictions = pd.read_parquet(tmp_path / "out" / "predictions")
    assert_allclose(np.stack(predictions["probabilities"]).sum(axis=1), 1, atol=1e-5)
    # One of the columns that there are is named where it is not there.
    assert main(command("finetune", *told, "finetune.label=colour")) == 2
    assert "finetune.label 'colour' is none of the label columns ['label', 'kind']" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"network": "vgg61"}, "'vgg61' is not known; take one of"),
        ({"network": "vgg16", "input_px": 16}, "16 is too small for vgg16; it needs 32 or more"),
        ({"unfreeze_form": "all"}, "finetune.unfreeze_form"),
        ({"network": "mobilenet", "input_px": 32, "weights": "gone.keras"}, "there is no weights file gone.keras"),
    ],
)
def test_mistakes_are_one_sentence(
    pictures: Path, tmp_path: Path, more: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command("finetune", *settings(pictures, tmp_path / "out", **more))) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert "Traceback" not in told


def test_a_dry_run_says_what_would_be_taught(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command("finetune", *settings(pictures, tmp_path / "out"))
    assert main([word for word in words if word != "--quiet"] + ["--dry-run"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    found = re.search(
        r"would teach small 3 labels by (\d+) pictures, choose the epoch by (\d+) and judge it on (\d+)", told
    )
    assert found
    # The two that are no pictures are not known yet.
    assert sum(map(int, found.groups())) == 92
    assert not (tmp_path / "out").exists()


def test_too_many_bad_pictures_fail_the_bar_and_keep_the_work(pictures: Path, tmp_path: Path) -> None:
    told = [*settings(pictures, tmp_path, epochs=1), "limits.max_reject_share=0.01"]
    assert main(command("finetune", *told)) == 1
    assert only(tmp_path, "finetuned/*/model.keras").is_file()
    manifest = json.loads(only(tmp_path, "runs/*.json").read_text())
    assert (manifest["status"], manifest["exit_code"]) == ("failed", 1)
    assert manifest["exit_code"] is not True


def start(*told: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "mirabelle", "finetune", *(word for one in told for word in ("--set", one))]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rounds(output: Path) -> int:
    found = list(output.glob("finetuned/unfinished-*/state.json"))
    return len(json.loads(found[0].read_text())["history"]) if found else 0


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - began < 120
        time.sleep(0.01)


@pytest.mark.long
def test_kills(pictures: Path, tmp_path: Path) -> None:
    """Three SIGKILLs, anywhere; then it ends as the one that was left alone."""
    more = {"epochs": 12, "augment": {"zoom": 0.1}, "dropout": 0.3}
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert main(command("finetune", *settings(pictures, alone, **more))) == 0
    for number in (1, 4, 8):
        process = start(*settings(pictures, killed, **more))
        wait_for(lambda number=number: rounds(killed) >= number, process)
        process.kill()
        process.communicate()
    done = start(*settings(pictures, killed, **more), "limits.executor_wait_seconds=1")
    told = done.communicate(timeout=180)[1]
    assert done.returncode == 0, told
    assert re.search(r"going on behind epoch \d+, where an earlier run came to", told)
    one, other = (pd.read_parquet(only(output, "finetuned/2*/history.parquet")) for output in (alone, killed))
    same = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
    assert_allclose(one[same], other[same], atol=1e-4)
    first, second = (pd.read_parquet(output / "predictions").sort_values("path") for output in (alone, killed))
    assert_allclose(np.stack(first["probabilities"]), np.stack(second["probabilities"]), atol=1e-3)


@pytest.mark.long
def test_ctrl_c_keeps_the_best_so_far(pictures: Path, tmp_path: Path) -> None:
    process = start(*settings(pictures, tmp_path, epochs=1000))
    wait_for(lambda: rounds(tmp_path) >= 3, process)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130, told
    assert "the best so far, of epoch" in told
    facts = json.loads(only(tmp_path, "finetuned/2*/finetuned.json").read_text())
    assert facts["interrupted"]
    assert backbones.import_keras().saving.load_model(only(tmp_path, "finetuned/2*/model.keras"), compile=False)


def typed() -> list[str]:
    """What the documents tell people to type, each command once."""
    found = [*commands("README.md"), *commands("docs/planes.md")]
    ours = ("mirabelle finetune", "mirabelle compare", "mirabelle train --config conf/planes.yaml")
    return list(dict.fromkeys(one for one in found if one.startswith(ours)))


@pytest.mark.long
def test_what_the_documents_tell_people_to_type(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the shipped configuration, on pictures and first weights of one's own, at a size that takes no minutes."""
    monkeypatch.chdir(REPOSITORY)
    table = tmp_path / "photos.parquet"
    paths = [path for path in sorted(pictures.rglob("*.png")) if path.name != "bad.png"]
    tints = [path.parents[1].name for path in paths]
    makers = ["Airbus" if tint == "amber" else "Boeing" for tint in tints]
    facts = {"path": [*map(str, paths)], "constructor": makers, "model_type": tints}
    pd.DataFrame({**facts, "registration": [str(path.parent) for path in paths]}).to_parquet(table)
    output = tmp_path / "out"
    own = [f"images.manifest={table}", f"output={output}", "finetune.weights=random:0", f"cache={tmp_path / 'cache'}"]
    own += ["finetune.input_px=32", "finetune.epochs=1", "finetune.hidden=[8]"]
    own += ["backbone.name=small", "backbone.weights=random:0", "backbone.input_px=32"]
    given = [word for setting in own for word in ("--set", setting)]
    told = typed()
    assert len(told) == 7
    order = ["finetune", "compare", "train"]
    ids: dict[str, str] = {}
    for one in sorted(told, key=lambda line: order.index(line.split()[1])):
        if "mirabelle train" in one and not list(output.glob("features")):
            assert main(["run", "--config", "conf/planes.yaml", *given]) == 0
        line = re.sub(r"(\w+): ID", lambda name: f"{name[1]}: {ids[name[1]]}", one)
        _, *words = shlex.split(line)
        assert main([*words, *given]) == 0, one
        if words[0] == "finetune":
            ids["Boeing" if "finetune.step" in one else "constructor"] = max(output.glob("finetuned/2*")).name
    found = json.loads(only(output, "comparison/*/comparison.json").read_text())
    assert len(found["classifiers"]) == 3
    by_networks = json.loads(max(output.glob("classifier/*/classifier.json")).read_text())
    assert by_networks["first"] == ids["constructor"]
    assert [step["network"] for step in by_networks["chain"]["steps"]] == [None, ids["Boeing"]]
    assert not verify(DiskStore(), str(output)).findings
