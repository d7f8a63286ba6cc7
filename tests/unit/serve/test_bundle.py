"""`mirabelle serve` of a bundle as `mirabelle bundle` writes them: the same answers, by nothing else that is needed."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from bundles import colours, made, put, put_tar
from conftest import SHARED
from mirabelle import open_bundle
from mirabelle.bundle import Answer, Prediction, Rejected
from mirabelle.bundle.chaining import Chain, Step
from mirabelle.bundle.classifying import Classifier, linear
from mirabelle.cli import main

from .conftest import Serve, log_of, picture

# What an image of the server lacks. The last ones are of the driver's side and of tests.
ABSENT = (
    *("pyspark", "py4j", "keras", "tensorflow", "h5py", "duckdb", "pandas", "pyarrow", "scipy", "sklearn"),
    *("yaml", "jinja2", "altair", "vl_convert", "pathspec", "httpx", "requests", "multipart", "python_multipart"),
)


@contextmanager
def served(bundle: Path, *options: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """The command, in a process where nothing of ``ABSENT`` can be imported."""
    line = f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r})); from mirabelle.cli import entry; entry()"
    command = [sys.executable, "-c", line, "serve", str(bundle), "--port", "0", *options]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            first = process.stderr.readline()
            assert "serving" in first, first + process.stderr.read()
            with httpx.Client(base_url=f"http://127.0.0.1:{first.rpartition(':')[2].strip()}", timeout=30) as client:
                yield client, process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def some_pictures() -> dict[str, bytes]:
    """Good and bad ones; those of shared/data where they are."""
    found = {
        "red.png": picture((200, 40, 30)),
        "grey.jpg": picture((90, 90, 90), (33, 57), "JPEG"),
        "blue.webp": picture((10, 20, 240), (300, 5), "WEBP"),
        "cut.png": picture()[:60],
        "empty.jpg": b"",
        "page.png": b"<!doctype html>",
    }
    noise = np.random.default_rng(1).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    found["noise.jpg"] = file.getvalue()
    if SHARED.is_dir():
        fruits = sorted((SHARED / "data" / "fruits" / "Test").rglob("*.jpg"))[::11]
        for path in [*sorted((SHARED / "data" / "awkward").iterdir()), *fruits]:
            found[path.name] = path.read_bytes()
    return found


@pytest.mark.slow
def test_answers_are_those_of_the_bundle(tmp_path: Path) -> None:
    folder = put(tmp_path / "bundle", made())
    contents = some_pictures()
    expected = open_bundle(str(folder)).predictions(list(contents.values()))
    names = list(contents)
    found = {}
    with served(folder, "--set", "max_body_bytes=200000000") as (client, _):
        for start in range(0, len(names), 20):
            # One that is good in each form, so that the others' rejects stand beside an answer.
            some = ["red.png", *names[start : start + 20]]
            files = [("picture", (name, contents[name])) for name in some]
            told = client.post("/v1/predict?top=3&features=true", files=files).json()["pictures"]
            found |= dict(zip(some, told, strict=True))
    for name, one in zip(names, expected, strict=True):
        check(found[name], one, name)


def check(told: dict, one: Prediction, name: str) -> None:
    if isinstance(one.answer, Rejected):
        assert told["rejected"] == {"code": one.answer.code, "stage": one.answer.stage, "detail": one.answer.detail}
        return
    assert isinstance(one.answer, Answer)
    assert one.features is not None
    assert (told["width_px"], told["height_px"], told["label"]) == (one.width_px, one.height_px, one.answer.label), name
    assert told["features"] == pytest.approx(one.features.tolist(), abs=1e-5), name
    likely = {each["label"]: each["probability"] for each in told["probabilities"]}
    assert likely == pytest.approx({each.label: each.probability for each in one.answer.probabilities}, abs=1e-5), name


@pytest.mark.slow
def test_a_tar_is_served_and_ends_well(tmp_path: Path) -> None:
    path = put_tar(tmp_path / "bundle.tar", made())
    with served(path, "--set", "linger_seconds=0", "--set", "threads=1") as (client, process):
        told = client.post("/v1/predict", content=picture((0, 250, 0)), headers={"content-type": "image/png"}).json()
        assert told["pictures"][0]["label"] == "green"
        assert told["model"]["name"] == "colours"
        asked = client.post("/v1/predict?explain=true", content=picture(), headers={"content-type": "image/png"})
        assert asked.json()["pictures"][0]["explanation"].startswith("data:image/png;base64,")
        near = client.post("/v1/neighbours", content=picture(), headers={"content-type": "image/png"})
        assert (near.status_code, near.json()["code"]) == (404, "no_index")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert log_of(out)[-1]["event"] == "stopped"


def chained() -> Chain:
    """Over red, green and blue: what is red is the tomato or the cherry, by its green; the others have no step."""
    first = Classifier("linear", "softmax", linear(np.eye(3) / 20, np.zeros(3)))
    second = Classifier("linear", "softmax", linear(np.array([[0, 0, 0], [0, 0.1, 0]]), np.array([4.0, 0.0])))
    return Chain(first, ("blue", "green", "red"), {"red": Step(("tomato", "cherry"), second)}, 0.8, 0.5)


def test_a_chain_answers_on_both_levels_and_as_finely_as_it_is_sure(serve: Serve, tmp_path: Path) -> None:
    folder = put(tmp_path / "chain", made(replace(colours(), chain=chained())))
    one = serve(address=str(folder), opens=open_bundle)
    by_hand = open_bundle(str(folder))
    coloured = [(90, 60, 250), (0, 60, 250), (90, 40, 250), (100, 100, 100)]
    files = [("a", (f"{number}.png", picture(colour), "image/png")) for number, colour in enumerate(coloured)]
    answer = one.client.post("/v1/predict?top=10", files=files)
    expected = by_hand.predict([content for _, (_, content, _) in files])
    assert {told["given"] for told in answer.json()["pictures"]} > {None}
    for told, wanted in zip(answer.json()["pictures"], expected, strict=True):
        assert isinstance(wanted, Answer) and wanted.coarse is not None
        assert (told["given"], told["label"], told["sure"]) == (wanted.given, wanted.label, wanted.sure)
        assert told["probability"] == pytest.approx(wanted.probability, abs=1e-6)
        assert told["coarse"]["label"] == wanted.coarse.label
        assert told["coarse"]["sure"] == wanted.coarse.sure
        assert [each["label"] for each in told["probabilities"]] == [each.label for each in wanted.probabilities]
    schema = one.client.get("/openapi.json").json()
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(answer.json(), {**schema["components"]["schemas"]["Predictions"], **schema})
    data = [base64.b64encode(content).decode() for _, (_, content, _) in files]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data}
    wanted_outputs = [{"name": "given"}, {"name": "coarse"}]
    told = one.client.post("/v2/models/colours/infer", json={"inputs": [tensor], "outputs": wanted_outputs}).json()
    assert told["outputs"][0]["data"] == [each.given or "" for each in expected if isinstance(each, Answer)]
    assert told["outputs"][1]["shape"] == [4, 3]


def test_a_bundle_that_was_changed_is_not_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = put(tmp_path / "bundle", made())
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**manifest, "name": "other"}))
    assert main(["serve", str(folder), "--port", "0"]) == 2
    assert "error:" in capsys.readouterr().err


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--explain"]) == 0
    assert "max_body_bytes" in capsys.readouterr().out
    assert main(["serve"]) == 2
    assert main(["serve", "nowhere", "--set", "prot=1"]) == 2
    assert "did you mean port" in capsys.readouterr().err
