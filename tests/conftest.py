"""What all tests share: the real images and weights where they are, and small pictures made here."""

import fcntl
import json
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mirabelle.decode import DecodeOptions
from mirabelle.network.embedding import NORMALISATIONS, Embedding
from mirabelle.network.preparing import Network
from remarks import remark, remarks_of

# One server for all tests of a process, whichever tier they are of: stores know where it is from the first one on.
pytest_plugins = ["object_store"]

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"

# A real network, small and at a small size.
SMALL = [
    "backbone.name=mobilenet",
    "backbone.weights=random:1",
    "backbone.input_px=32",
    "images.layout={split}/{label}/{name}",
]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under pytest-xdist a worker hands its remarks to the process that prints the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["remarks"] = remarks_of(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist has ended."""
    for text in getattr(node, "workeroutput", {}).get("remarks", []):
        remark(node.config, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the remarks."""
    for text in sorted(set(remarks_of(config))):
        terminalreporter.write_line(text, yellow=True)


@pytest.fixture(scope="session")
def fruits() -> Path:
    """A part of Fruits-360, in Training/<kind>/ and Test/<kind>/."""
    folder = SHARED / "data" / "fruits"
    if not folder.is_dir():
        pytest.skip("the real pictures (shared/data/fruits) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def vgg16_weights() -> Path:
    """VGG16's ImageNet weights without the top."""
    path = SHARED / "weights" / "vgg16_imagenet_notop.weights.h5"
    if not path.is_file():
        pytest.skip("the real weights (shared/weights) are not on this machine")
    return path


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run of the tests share, and no other run."""
    own = tmp_path_factory.getbasetemp()
    # Under pytest-xdist every worker's folder stands in the run's.
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture
def not_under_nohup() -> Iterator[None]:
    """What the test starts heeds a terminal that hangs up, also where the tests themselves were told not to."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold a lock file, so that of the run's processes one at a time is in here."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def cache(run_folder: Path) -> Path:
    """A cache folder for converted networks that the whole run shares."""
    folder = run_folder / "cache"
    folder.mkdir(exist_ok=True)
    return folder


def draw(path: Path, seed: int, size: tuple[int, int] = (24, 24), tint: tuple[int, int, int] = (0, 0, 0)) -> None:
    """A small PNG of noise around a tint; lossless, so that tests know its pixels."""
    noise = np.random.default_rng(seed).integers(0, 100, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise + np.array(tint)).clip(0, 255).astype(np.uint8)).save(path, format="PNG")


TINTS = {"amber": (150, 100, 0), "beryl": (0, 150, 100), "coral": (150, 0, 50)}


@pytest.fixture(autouse=True)
def logger_as_the_command_sets_it() -> None:
    """The command sends our log to its console; other tests read it from pytest.

    Set anew before each test, not put back after it: a fixture of a module or a session may run the command, too.
    """
    logger = logging.getLogger("mirabelle")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.INFO)
    # Converting a network leaves the root's handlers, pytest's among them, with errors alone.
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.NOTSET)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three kinds of pictures, told apart by their tint: 12 a kind to learn from and 6 to be judged on."""
    return draw_kinds(tmp_path / "pictures")


def draw_kinds(root: Path) -> Path:
    """The pictures of the fixture of that name, in a folder."""
    for kind, tint in TINTS.items():
        for number in range(18):
            split = "Training" if number < 12 else "Test"
            draw(root / split / kind / f"{number}.png", number, tint=tint)
    return root


def break_some(root: Path) -> dict[str, str]:
    """Add broken files to ``pictures`` and return the code each should be rejected with, by path."""
    whole = (root / "Training" / "amber" / "0.png").read_bytes()
    broken = {
        "Training/amber/cut.png": (whole[: len(whole) // 2], "truncated"),
        "Training/beryl/empty.jpg": (b"", "empty"),
        "Test/coral/page.jpg": (b"<!doctype html><title>not found</title>", "not_an_image"),
    }
    for name, (content, _) in broken.items():
        (root / name).write_bytes(content)
    return {str(root / name): code for name, (_, code) in broken.items()}


def mean_colour_network(input_px: int = 8) -> Network:
    """A network whose features anyone can work out: the mean red, green and blue of the picture."""
    import openvino
    from openvino import opset13 as ops

    pixels = ops.parameter([-1, input_px, input_px, 3], openvino.Type.u8, name="pixels")
    mean = ops.reduce_mean(ops.convert(pixels, "f32"), ops.constant(np.array([1, 2])), keep_dims=False)
    model = openvino.Model([mean], [pixels])
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(model, Path(folder) / "model.xml", compress_to_fp16=False)
        files = {name: (Path(folder) / name).read_bytes() for name in ("model.xml", "model.bin")}
    embedding = Embedding(
        backbone="meancolour",
        weights="none",
        weights_digest="0" * 64,
        input_px=input_px,
        layer="mean",
        pooling="avg",
        preprocessing="v1 bilinear",
        precision="float32",
        width=3,
    )
    return Network(embedding, "openvino", NORMALISATIONS["none"], DecodeOptions(), files, was_cached=False)


@pytest.fixture(scope="session")
def network() -> Network:
    """The mean-colour network at 8 px."""
    return mean_colour_network()


def mean_colour(path: Path, input_px: int = 8) -> np.ndarray:
    """What ``network`` should say of a picture, by Pillow and numpy alone."""
    with Image.open(path) as image:
        small = image.convert("RGB").resize((input_px, input_px), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.float64).mean(axis=(0, 1))


def read_manifest(output: Path) -> dict:
    """The newest manifest of an output."""
    return json.loads(sorted((output / "runs").glob("*.json"))[-1].read_text())
