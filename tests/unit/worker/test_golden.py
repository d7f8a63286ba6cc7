"""Features as they once were: a few pictures and drawn weights against a file, so that nothing drifts unseen.

Where a change is meant (other preprocessing, another Keras that draws other weights), say so in the changelog, raise
what the fingerprint is made of, and write the file anew: ``python tests/unit/test_golden.py``.
"""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from mirabelle.config import load
from mirabelle.listing.calibration import prepare_network
from mirabelle.network.engines import native_precisions
from mirabelle.spark.embed import spec_of
from mirabelle.worker.embedder import Embedder, Tally

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
FEATURES = GOLDEN / "features.npz"
NETWORKS = ("resnet50", "vgg16")
# Of a network that is quick to quantise, on the pictures themselves.
INT8_FEATURES = GOLDEN / "int8.npz"
INT8_NETWORK = "small"
SEED = 7


def features_of(backbone: str, precision: str, cache: Path) -> tuple[str, np.ndarray]:
    """The digest of the drawn weights, and float32 (pictures, width) by the code that workers run."""
    settings = [f"backbone.name={backbone}", f"backbone.weights=random:{SEED}", f"cache={cache}"]
    places = [f"images.root={GOLDEN}", f"output={cache / 'golden'}"]
    network = prepare_network(load(None, [*places, f"engine.precision={precision}", *settings], {}))
    outcomes = Embedder(spec_of(network), network.files).embed([str(path) for path in pictures()], Tally())
    return network.embedding.weights_digest, np.stack([outcome.features for outcome in outcomes])


def pictures() -> list[Path]:
    """A grey fruit, a transparent one, one turned by its EXIF, and a large one that inexact decoding makes smaller."""
    return sorted(path for path in GOLDEN.iterdir() if path.suffix != ".npz")


@pytest.mark.parametrize("backbone", NETWORKS)
def test_features_are_those_of_the_golden_file(backbone: str, cache: Path) -> None:
    with np.load(FEATURES) as golden:
        names, digest, expected = golden["names"], str(golden[f"{backbone}_digest"]), golden[backbone]
    assert names.tolist() == [path.name for path in pictures()]
    found_digest, found = features_of(backbone, "float32", cache)
    assert found_digest == digest, f"the weights drawn from seed {SEED} are others than they were"
    # CPUs differ in the last bits; the bound is that of the tests against Keras.
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


@pytest.mark.skipif("bf16" not in native_precisions(), reason="this CPU has no bf16")
@pytest.mark.parametrize("backbone", NETWORKS)
def test_features_in_bf16_stay_close_to_the_golden_file(backbone: str, cache: Path) -> None:
    with np.load(FEATURES) as golden:
        expected = golden[backbone]
    _, found = features_of(backbone, "bf16", cache)
    assert cosines(found, expected).min() > 0.999


def test_features_in_int8_stay_close_to_the_golden_file(cache: Path) -> None:
    pytest.importorskip("nncf")
    with np.load(INT8_FEATURES) as golden:
        digest, expected = str(golden["digest"]), golden["features"]
    found_digest, found = features_of(INT8_NETWORK, "int8", cache)
    assert found_digest == digest
    # Float32 is 2e-5 away. Where CPUs differ in a last bit, a value may fall on the other side of one of 256 steps.
    assert cosines(found, expected).min() > 1 - 5e-6


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = {name: features_of(name, "float32", Path(folder)) for name in NETWORKS}
        int8_digest, int8_features = features_of(INT8_NETWORK, "int8", Path(folder))
    digests = {f"{name}_digest": np.array(digest) for name, (digest, _) in made.items()}
    arrays = {name: features for name, (_, features) in made.items()}
    np.savez_compressed(FEATURES, names=np.array([path.name for path in pictures()]), **digests, **arrays)
    np.savez_compressed(INT8_FEATURES, digest=np.array(int8_digest), features=int8_features)
