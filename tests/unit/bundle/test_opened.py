"""What a bundle answers, of a network and a classifier whose answers anyone can work out."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundles import INPUT_PX, LABELS, colours, made, put, put_tar
from conftest import draw, mean_colour
from mirabelle.bundle import Answer, Bundle, Rejected, open_bundle
from mirabelle.bundle.index import Index, unit
from mirabelle.errors import BundleError, DecodeError, RejectCode
from mirabelle.reduction import Projection


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(str(put(tmp_path_factory.mktemp("bundle") / "colours", made())), threads=1)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Six pictures of noise, each tinted with one of the labels' colours."""
    paths = []
    for number in range(6):
        tint = tuple(80 if channel == number % 3 else 0 for channel in range(3))
        paths.append(tmp_path / f"{number}.png")
        draw(paths[-1], number, size=(30, 20), tint=tint)
    return paths


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def test_it_says_what_the_colours_say(bundle: Bundle, pictures: list[Path]) -> None:
    answers = bundle.predict(pictures)
    for path, answer in zip(pictures, answers, strict=True):
        expected = softmax(mean_colour(path, INPUT_PX) / 10)
        assert isinstance(answer, Answer)
        assert answer.label == LABELS[int(expected.argmax())] == LABELS[int(path.stem) % 3]
        assert [one.label for one in answer.probabilities] == [LABELS[i] for i in np.argsort(-expected)]
        np.testing.assert_allclose([one.probability for one in answer.probabilities], -np.sort(-expected), atol=1e-6)
        assert answer.sure and answer.coarse is None and answer.probability == answer.probabilities[0].probability


def test_a_projection_in_between_is_undone_by_a_classifier_made_for_it(tmp_path: Path, pictures: list[Path]) -> None:
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    projection = Projection(np.array([40.0, 50.0, 60.0]), axes, np.ones(3), 10, 3.0)
    whole = open_bundle(str(put(tmp_path / "b", made(colours(projection)))))
    found = whole.predictions(pictures)
    assert whole.info.components == 3
    for path, one in zip(pictures, found, strict=True):
        np.testing.assert_allclose(one.probabilities, softmax(mean_colour(path, INPUT_PX) / 10), atol=1e-6)
        np.testing.assert_allclose(one.reduced, (mean_colour(path, INPUT_PX) - projection.mean) @ axes.T, atol=1e-3)


def test_bad_pictures_fail_alone_and_in_their_place(bundle: Bundle, pictures: list[Path], tmp_path: Path) -> None:
    whole = pictures[0].read_bytes()
    images = [whole, b"", pictures[1], b"<html>", str(tmp_path / "gone.png"), whole[: len(whole) // 2], whole]
    answers = bundle.predict(images, top=1)
    codes = [one.code if isinstance(one, Rejected) else one.label for one in answers]
    assert codes == ["red", "empty", "green", "not_an_image", "missing", "truncated", "red"]
    assert [one.stage for one in answers if isinstance(one, Rejected)] == ["decode", "decode", "fetch", "decode"]
    assert answers[0] == answers[-1] and len(answers[0].probabilities) == 1  # type: ignore[union-attr]
    assert bundle.predict([]) == []


def test_limits_are_those_of_the_run(tmp_path: Path, pictures: list[Path]) -> None:
    decode = {"ground": [0, 0, 0], "orient": True, "max_pixels": 599, "max_bytes": 10**6, "accept_truncated": False}
    small = open_bundle(str(put(tmp_path / "b", made(decode={**decode, "exact": True}))))
    with pytest.raises(DecodeError) as told:
        small.decode(pictures[0].read_bytes())
    assert told.value.code is RejectCode.TOO_MANY_PIXELS
    short = open_bundle(str(put(tmp_path / "c", made(decode={**decode, "max_bytes": 100, "exact": True}))))
    with pytest.raises(DecodeError) as told:
        short.decode(pictures[0].read_bytes())
    assert told.value.code is RejectCode.TOO_MANY_BYTES
    assert [one.code for one in short.predict([pictures[0], pictures[0].read_bytes()])] == ["too_many_bytes"] * 2  # type: ignore[union-attr]


def test_numbers_that_are_none_are_a_reject(bundle: Bundle) -> None:
    features = np.array([[1, 2, 3], [np.nan, 0, 0], [np.inf, 0, 0]], np.float32)
    outputs = bundle.classify(features)
    assert outputs.finite.tolist() == [True, False, False]
    answers = bundle.answer(outputs)
    assert isinstance(answers[0], Answer)
    assert [one.code for one in answers[1:]] == ["not_finite"] * 2  # type: ignore[union-attr]


def test_pixels_of_another_shape_are_refused(bundle: Bundle) -> None:
    assert len(bundle.infer(np.zeros((0, INPUT_PX, INPUT_PX, 3), np.uint8))) == 0
    for shape, kind in (((1, 9, 8, 3), np.uint8), ((8, 8, 3), np.uint8), ((1, 8, 8, 3), np.float32)):
        with pytest.raises(ValueError, match="must be uint8"):
            bundle.infer(np.zeros(shape, kind))  # type: ignore[arg-type]


def test_threads_do_not_get_each_others_answers(bundle: Bundle) -> None:
    batches = [np.full((1 + i % 5, INPUT_PX, INPUT_PX, 3), i, np.uint8) for i in range(200)]
    # On all threads and on each half of them.
    halves = [(None, 0, 1)[i % 3] for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(bundle.infer, batches, halves))
    for i, outputs in enumerate(found):
        np.testing.assert_array_equal(outputs.features, np.full((1 + i % 5, 3), i, np.float32))


def test_the_heat_is_where_the_answer_is(bundle: Bundle) -> None:
    pixels = np.full((INPUT_PX, INPUT_PX, 3), 90, np.uint8)
    pixels[2, 5] = (250, 90, 90)
    heat = bundle.explain(pixels)
    assert heat.shape == (8, 8) and heat.dtype == np.float32
    assert np.unravel_index(heat.argmax(), heat.shape) == (2, 5) and heat.max() == 1
    assert np.delete(heat.ravel(), heat.argmax()).max() < 0.05
    assert bundle.explain(np.full((INPUT_PX, INPUT_PX, 3), 90, np.uint8)).max() == 0


def test_the_heat_is_of_the_answer_which_need_not_be_the_likeliest(bundle: Bundle) -> None:
    pixels = np.full((INPUT_PX, INPUT_PX, 3), 90, np.uint8)
    pixels[2, 4:6], pixels[6, 1] = (250, 90, 90), (90, 250, 90)
    assert bundle.explain(pixels)[6, 1] < 0.05
    assert bundle._looker is not None
    heat = bundle._looker.look(pixels, lambda rows: (bundle._scores(rows)[0], np.ones(len(rows), np.int64)))
    assert np.unravel_index(heat.argmax(), heat.shape) == (6, 1)


def test_neighbours_are_the_nearest_by_cosine(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).uniform(0, 255, (50, 3)).astype(np.float32)
    small = [f"webp {i}".encode() for i in range(50)]
    index = Index(
        unit(rows), [f"p{i}" for i in range(50)], ["x"] * 50, np.cumsum([*map(len, small)]).tolist(), b"".join(small)
    )
    files = made(files=index.to_files(), index={"pictures": 50, "of": "features"})
    whole = open_bundle(str(put_tar(tmp_path / "b.tar", files)))
    asked = rows[7] * 3
    found = whole.neighbours(asked, 4)
    cosines = rows @ asked / np.linalg.norm(rows, axis=1) / np.linalg.norm(asked)
    assert [one.path for one in found] == [f"p{i}" for i in np.argsort(-cosines)[:4]]
    assert found[0].path == "p7" and found[0].thumbnail == b"webp 7" and found[0].label == "x"
    np.testing.assert_allclose([one.cosine for one in found], -np.sort(-cosines)[:4], atol=1e-6)
    assert len(whole.neighbours(asked, 99)) == 50 and whole.neighbours(asked, 0) == []


def test_without_an_index_the_way_to_one_is_told(bundle: Bundle) -> None:
    assert not bundle.info.has_index
    with pytest.raises(BundleError, match="--index"):
        bundle.neighbours(np.zeros(3, np.float32), 1)


def test_what_it_is(bundle: Bundle) -> None:
    info = bundle.info
    assert (info.labels, info.coarse_labels, info.input_px, info.width) == (LABELS, (), INPUT_PX, 3)
    assert info.fingerprint == info.embedding["fingerprint"] and info.card == "# colours\n" and len(info.sha256) == 64


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"format": 3}, "has the form 3"),
        ({"classifiers": []}, "do not fit together"),
        ({"thresholds": {}}, "do not fit together"),
        ({"embedding": {}}, "do not fit together"),
        ({"decode": {"ground": [0, 0, 0], "colour": 1}}, "do not fit together"),
        ({"reduction": {"file": "gone.npz", "components": 1}}, "do not fit together"),
        (
            {"network": {"files": {"model.xml": "MODEL_CARD.md", "model.bin": "MODEL_CARD.md"}}},
            "not in OpenVINO's form",
        ),
        ({"index": {"pictures": 3}}, "do not fit together"),
    ],
)
def test_facts_that_do_not_fit_are_refused(tmp_path: Path, facts: dict[str, object], told: str) -> None:
    with pytest.raises(BundleError, match=told):
        open_bundle(str(put(tmp_path / "b", made(**facts))))


@pytest.mark.parametrize(
    "change", [{"kind": "pickle"}, {"link": "eval"}, {"kind": "trees"}, {"thresholds": [1.0]}, {"labels": ["a"]}]
)
def test_a_classifier_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    told = json.loads(made()["bundle.json"])["classifiers"][0]
    with pytest.raises(BundleError, match="the bundle's classifier"):
        open_bundle(str(put(tmp_path / "b", made(classifiers=[{**told, **change}]))))


def test_another_decoder_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    parts = colours()
    other = replace(parts.network, embedding=replace(parts.network.embedding, preprocessing="v99 bilinear"))
    with pytest.raises(BundleError, match="decoder v99"):
        open_bundle(str(put(tmp_path / "b", made(replace(parts, network=other)))))


BARRED = (
    "pyspark",
    "keras",
    "tensorflow",
    "pandas",
    "pyarrow",
    "pydantic",
    "yaml",
    "duckdb",
    "sklearn",
    "scipy",
    "rich",
)


def test_opening_and_asking_needs_none_of_the_drivers_packages(tmp_path: Path) -> None:
    tar = put_tar(tmp_path / "b.tar", made())
    picture = str(tmp_path / "green.png")
    Image.new("RGB", (9, 9), (9, 200, 9)).save(picture)
    code = f"""
import sys
sys.modules.update(dict.fromkeys({BARRED!r}))
import mirabelle
bundle = mirabelle.open_bundle({str(tar)!r})
seen = bundle.decode(open({picture!r}, "rb").read())
print(bundle.predict([{picture!r}])[0].label, bundle.explain(seen.pixels).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "green (8, 8)", done.stderr
