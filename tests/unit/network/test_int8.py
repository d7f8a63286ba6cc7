"""int8: what quantising keeps, where the network is kept, and what its pictures are."""

import hashlib
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from conftest import SMALL, draw_kinds
from mirabelle.cluster.packing import pack_network
from mirabelle.config import Config, load
from mirabelle.errors import ConfigError, ListingError, OutputError, PreflightError
from mirabelle.listing.calibration import draw, prepare_network
from mirabelle.listing.source import read_listing
from mirabelle.network import int8, preparing
from mirabelle.network.embedding import Embedding
from mirabelle.network.engines import open_engine, open_model
from mirabelle.network.preparing import Network

IMAGES = 12
# With drawn weights the values of MobileNet, which other tests have, die out on the way.
LIVELY = ["backbone.name=small", "backbone.input_px=32"]


@pytest.fixture
def config(pictures: Path, tmp_path: Path, cache: Path) -> Config:
    return configured(pictures, tmp_path, cache)


def configured(pictures: Path, folder: Path, cache: Path, *settings: str) -> Config:
    places = [f"images.root={pictures}", f"output={folder / 'output'}", f"cache={cache}"]
    asked = ["engine.precision=int8", f"engine.calibration_images={IMAGES}"]
    return load(None, [*places, *SMALL, *LIVELY, *asked, *settings], {})


def features(network: Network, pixels: np.ndarray) -> np.ndarray:
    return open_engine("openvino", network.files, network.normalisation, network.embedding.precision, 1).embed(pixels)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Config, Network]:
    """Made once for the tests that only look at it."""
    pytest.importorskip("nncf")
    folder = tmp_path_factory.mktemp("int8")
    config = configured(draw_kinds(folder / "pictures"), folder, cache)
    return config, prepare_network(config)


@pytest.mark.slow
def test_features_in_int8_are_close_to_those_in_float32(quantised: tuple[Config, Network], tmp_path: Path) -> None:
    config, network = quantised
    plain = preparing.prepare_network(config, "float32")
    pixels = draw(config, read_listing(config, str(tmp_path))).pixels
    found, expected = features(network, pixels), features(plain, pixels)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert 0.98 < cosine.min() < 1 - 1e-6, "not int8 where they are the same, and no good where they are far off"
    assert len(network.files["model.bin"]) < 0.3 * len(plain.files["model.bin"])


@pytest.mark.slow
def test_a_network_that_eight_bits_cannot_hold_is_refused(config: Config) -> None:
    pytest.importorskip("nncf")
    backbone = config.backbone.model_copy(update={"name": "mobilenet"})
    with pytest.raises(PreflightError, match=r"next to nothing of what it says in float32 \(mean cosine 0\.00\)"):
        prepare_network(config.model_copy(update={"backbone": backbone}))


@pytest.mark.slow
def test_weights_and_activations_of_all_layers_are_bytes(quantised: tuple[Config, Network]) -> None:
    operations = open_model(quantised[1].files).get_ordered_ops()
    layers = [op for op in operations if op.get_type_name() == "Convolution"]
    # A float layer's weights are a constant, others' are scaled out of bytes.
    weights = [layer.input(1).get_source_output().get_node().get_type_name() for layer in layers]
    assert weights == ["Multiply"] * 4
    assert sum(op.get_type_name() == "FakeQuantize" for op in operations) >= 4, "activations, too"


@pytest.mark.slow
def test_the_pictures_stand_in_the_fingerprint(quantised: tuple[Config, Network], tmp_path: Path, cache: Path) -> None:
    config, network = quantised
    with_other_seed = configured(
        Path(config.images.root), tmp_path, cache, "engine.calibration_seed=1", "decode.exact=always"
    )
    other = prepare_network(with_other_seed)
    assert not other.was_cached
    assert other.embedding.calibration != network.embedding.calibration
    assert f"on {IMAGES} pictures, sha256" in other.embedding.calibration
    # Decoding changes the fingerprint and not the network.
    again = prepare_network(configured(Path(config.images.root), tmp_path, cache, "decode.exact=always"))
    assert again.was_cached
    assert again.files == network.files
    assert again.embedding.calibration == network.embedding.calibration
    assert again.embedding.fingerprint != network.embedding.fingerprint


@pytest.mark.slow
def test_an_output_keeps_its_network_whatever_pictures_come(
    quantised: tuple[Config, Network], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, network = quantised
    settings = {"output": str(tmp_path / "output"), "cache": str(tmp_path / "cache")}
    elsewhere = config.model_copy(update=settings)
    assert not preparing.is_cached(elsewhere, "int8")
    preparing.keep_network(elsewhere, network)
    assert preparing.is_cached(elsewhere, "int8")

    def none() -> int8.Calibration:
        raise AssertionError("pictures were drawn again")

    # Nor does it need NNCF, Keras or a cache.
    monkeypatch.setitem(sys.modules, "nncf", None)
    kept = preparing.prepare_network(elsewhere, "int8", none)
    assert kept.was_cached
    assert (kept.embedding, kept.files) == (network.embedding, network.files)
    # Another choice is another network.
    engine = config.engine.model_copy(update={"calibration_seed": 3})
    assert not preparing.is_cached(elsewhere.model_copy(update={"engine": engine}), "int8")
    (weights,) = (tmp_path / "output").rglob("model.bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(OutputError, match=r"the int8 network in .* is damaged .*; remove that folder"):
        preparing.prepare_network(elsewhere, "int8", none)


@pytest.mark.slow
def test_without_nncf_a_network_that_was_packed_does(
    quantised: tuple[Config, Network], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, network = quantised
    packed = tmp_path / "cache"
    archive = pack_network(config, tmp_path)
    shutil.unpack_archive(archive, packed, filter="data")
    for name in ("nncf", "keras"):
        monkeypatch.setitem(sys.modules, name, None)
    settings = {"output": str(tmp_path / "output"), "cache": str(packed)}
    found = prepare_network(config.model_copy(update=settings))
    assert found.embedding.fingerprint == network.embedding.fingerprint
    assert found.files == network.files


def test_without_nncf_there_is_one_sentence(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    empty = config.model_copy(update={"cache": str(tmp_path / "cache")})
    with pytest.raises(
        PreflightError, match=r"NNCF .* not installed; install mirabelle\[int8\], set .* to bf16"
    ) as told:
        prepare_network(empty)
    assert told.value.exit_code == 2


def test_the_pictures_are_drawn_by_seed_and_bad_ones_passed_over(
    config: Config, pictures: Path, tmp_path: Path
) -> None:
    images = read_listing(config, str(tmp_path))
    calibration = draw(config, images)
    assert calibration.pixels.shape == (IMAGES, 32, 32, 3)
    assert draw(config, images).digest == calibration.digest
    order = np.random.default_rng(0).permutation(54)
    paths = sorted(pictures.rglob("*.png"), key=str)
    files = [paths[i].read_bytes() for i in order]
    assert calibration.digest == sha256_of(files[:IMAGES])
    paths[order[0]].write_bytes(b"no picture")
    assert draw(config, images).digest == sha256_of(files[1 : IMAGES + 1])


def sha256_of(files: list[bytes]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(file).digest() for file in files)).hexdigest()


def test_pictures_that_are_all_bad_are_one_sentence(config: Config, pictures: Path, tmp_path: Path) -> None:
    for path in pictures.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(ListingError, match="none of those drawn can be read"):
        draw(config, read_listing(config, str(tmp_path)))


def test_keras_does_not_run_it(pictures: Path, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ConfigError, match="int8 is run by openvino alone"):
        configured(pictures, tmp_path, cache, "engine.name=keras")


def test_fingerprints_of_other_precisions_are_what_they_were() -> None:
    embedding = Embedding("vgg16", "imagenet", "ab" * 32, 224, "block5_pool", "avg", "v1 bilinear", "bf16", 512)
    assert "calibration" not in embedding.to_json()
    # Worked out by the revision before there was int8.
    assert embedding.fingerprint == "ce613a4190e8ba9be62b731473ef95fb0518a674ef5c47f27a5738d5872253ba"
    parts = {**asdict(embedding), "precision": "int8", "calibration": "on 3 pictures"}
    quantised = Embedding(**parts)
    assert Embedding.from_json(quantised.to_json()) == quantised
    assert quantised.fingerprint != Embedding(**{**parts, "calibration": "on 4 pictures"}).fingerprint
