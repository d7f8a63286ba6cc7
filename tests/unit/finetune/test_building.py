"""Networks to be taught: their size, what of them learns, and how their file is told from others."""

from pathlib import Path

import numpy as np
import pytest

from mirabelle.config.finetuning import Finetune
from mirabelle.errors import ConfigError, WeightsError
from mirabelle.finetune import attention, build
from mirabelle.network import backbones, heads, weights

pytestmark = pytest.mark.slow


def test_the_networks_of_the_seeds_job(vgg16_weights: Path, tmp_path: Path) -> None:
    """VGG16 at 150 px, 4 x 4 x 512 into 256 into one number."""
    settings = Finetune(network="vgg16", weights=str(vgg16_weights), input_px=150)
    frozen = build(settings, 2, tmp_path)
    assert frozen.parameters == (16_812_353, 2_097_665)
    assert frozen.below is not None
    deep = build(settings.model_copy(update={"unfreeze_from": "block3_conv1"}), 2, tmp_path)
    assert deep.parameters == (16_812_353, 16_552_193)
    assert deep.below is None
    assert deep.base_digest == frozen.base_digest == weights.VGG16_DIGEST


def settings(**more: object) -> Finetune:
    return Finetune.model_validate({"input_px": 32, "hidden": [8], **more})


def test_a_network_of_ones_own_learns_whole_and_the_same_seed_makes_the_same(tmp_path: Path) -> None:
    one, again, other = (build(settings(seed=seed), 3, tmp_path) for seed in (1, 1, 2))
    assert one.parameters[0] == one.parameters[1]
    for a, b in zip(one.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(one.model.get_weights(), other.model.get_weights(), strict=True))
    assert one.model.output.shape[1:] == (3,)
    assert build(settings(), 2, tmp_path).model.output.shape[1:] == (1,)


def test_what_stays_the_same_in_every_round_is_apart(tmp_path: Path, mobilenet_file: Path) -> None:
    named = {"network": "mobilenet", "weights": str(mobilenet_file), "pooling": "avg"}
    frozen = build(settings(**named), 2, tmp_path)
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    assert frozen.below is not None
    assert frozen.head is not None
    parted = frozen.head.predict_on_batch(frozen.below.predict_on_batch(pixels))
    np.testing.assert_allclose(parted, frozen.model.predict_on_batch(pixels), atol=1e-6)
    # Other views are other pictures in every round.
    assert build(settings(**named, augment={"zoom": 0.1}), 2, tmp_path).below is None


def test_a_layer_that_is_not_there_is_told(tmp_path: Path, mobilenet_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"unfreeze_from 'block9' is no layer of this network; take none, all, or"):
        build(settings(network="mobilenet", weights=str(mobilenet_file), unfreeze_from="block9"), 2, tmp_path)
    with pytest.raises(ConfigError, match="too small for small; it needs 16 or more"):
        build(settings(input_px=8), 2, tmp_path)
    with pytest.raises(WeightsError, match=r"small has no ImageNet weights; set backbone\.weights to random"):
        build(settings(weights="imagenet"), 2, tmp_path)


def test_the_file_of_a_taught_network_is_told_from_others(tmp_path: Path) -> None:
    taught = build(settings(hidden=[16, 8]), 2, tmp_path)
    path = tmp_path / "model.keras"
    taught.model.save(path)
    assert heads.head_of(path) == heads.Head(32, "head_hidden_2")
    row = backbones.find("small")
    loaded = weights.load(row, weights.parse(str(path)), 32, tmp_path)
    features = backbones.headless(loaded, "head_hidden_2", "avg")
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    assert features.predict_on_batch(pixels).shape == (2, 8)
    with pytest.raises(WeightsError, match=r"was taught at 32 px, and backbone\.input_px is 64"):
        weights.load(row, weights.parse(str(path)), 64, tmp_path)
    with pytest.raises(WeightsError, match="is no vgg16: it has no layer block5_pool"):
        weights.load(backbones.find("vgg16"), weights.parse(str(path)), 32, tmp_path)
    none = build(settings(hidden=[]), 2, tmp_path)
    none.model.save(path)
    assert heads.head_of(path) == heads.Head(32, "head_features")
    backbones.random_network(row, 32, 0).save(path)
    assert heads.head_of(path) is None
    path.write_bytes(b"no archive")
    assert heads.head_of(path) is None
    assert heads.head_of(tmp_path / "gone.keras") is None
    assert heads.head_of(None) is None


def test_an_earlier_lesson_is_gone_on_with(tmp_path: Path, mobilenet_file: Path) -> None:
    named = {"network": "mobilenet", "pooling": "avg"}
    first = build(settings(**named, weights=str(mobilenet_file)), 3, tmp_path)
    path = tmp_path / "model.keras"
    first.model.save(path)
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    told = {**named, "weights": str(path), "seed": 5, "unfreeze_from": "conv_pw_12"}
    second = build(settings(**told), 3, tmp_path)
    np.testing.assert_allclose(second.model.predict_on_batch(pixels), first.model.predict_on_batch(pixels), atol=1e-6)
    assert second.base_digest == first.base_digest
    assert first.parameters[1] < second.parameters[1] < second.parameters[0]
    # With other labels there is another answer, and its size is the lesson's own where none is given.
    assert build(Finetune(**{**told, "hidden": [8]}), 2, tmp_path).input_px == 32
    assert build(settings(**told), 2, tmp_path).model.output.shape[1] == 1


def test_attention_is_of_every_picture_and_within_bounds(tmp_path: Path, mobilenet_file: Path) -> None:
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    for network, classes in (({}, 2), ({"network": "mobilenet", "weights": str(mobilenet_file)}, 4)):
        taught = build(settings(**network), classes, tmp_path)
        heat = attention(taught.model, taught.row.layer, pixels)
        assert len(heat) == 3
        assert heat.min() >= 0
        assert heat.max() <= 1


def test_attention_finds_what_alone_counts(tmp_path: Path) -> None:
    """A network whose answer grows with the light of a place, and with nothing else."""
    import keras

    inputs = keras.Input((16, 16, 3))
    seen = keras.layers.Conv2D(1, 1, use_bias=False, name="seen", kernel_initializer="ones")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(keras.layers.GlobalAveragePooling2D()(seen)))
    model.layers[-1].set_weights([np.array([[3.0]], np.float32), np.array([0.5], np.float32)])
    pixels = np.zeros((1, 16, 16, 3), np.float32)
    pixels[0, 3, 11] = 1
    heat = attention(model, "seen", pixels)[0]
    assert np.unravel_index(heat.argmax(), heat.shape) == (3, 11)
    assert heat.sum() == pytest.approx(1)
