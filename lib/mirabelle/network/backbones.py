"""The networks that can be chosen, and how one is built without its top. [Keras, lazily]

Driver only: a worker gets the finished network. Knows nothing of where weights come from; ``weights.py`` finds them.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirabelle.errors import ConfigError, WeightsError
from mirabelle.network import gpu
from mirabelle.network.heads import PREFIX
from mirabelle.network.small import NAME as SMALL
from mirabelle.network.small import small

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Backbone:
    """A row of the registry.

    Attributes:
        name: what the configuration calls it.
        builder: the function in ``keras.applications``; empty for the one that is our own.
        input_px: side of the square picture it was trained on.
        min_px: the smallest side its strides allow.
        normalisation: a key of ``embedding.NORMALISATIONS``.
        layer: the last layer before the top.
        width: channels of that layer.
        licence: of the published ImageNet weights.
        rescales_for_imagenet: Keras adds a layer when it loads its own ImageNet weights, so that a bare weights file
            gives another network (``keras.applications.efficientnet``).
    """

    name: str
    builder: str
    input_px: int
    min_px: int
    normalisation: str
    layer: str
    width: int
    licence: str
    rescales_for_imagenet: bool = False


# Sizes, layers and normalisations: keras.applications' own sources; licences: its documentation of each family.
_MIT, _APACHE, _BSD, _CC, _NONE = "MIT", "Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "none published"
REGISTRY: dict[str, Backbone] = {
    row.name: row
    for row in (
        Backbone("resnet50", "ResNet50", 224, 32, "caffe", "conv5_block3_out", 2048, _MIT),
        Backbone("vgg16", "VGG16", 224, 32, "caffe", "block5_pool", 512, _CC),
        Backbone("vgg19", "VGG19", 224, 32, "caffe", "block5_pool", 512, _CC),
        Backbone("resnet101", "ResNet101", 224, 32, "caffe", "conv5_block3_out", 2048, _MIT),
        Backbone("resnet152", "ResNet152", 224, 32, "caffe", "conv5_block3_out", 2048, _MIT),
        Backbone("resnet50v2", "ResNet50V2", 224, 32, "tf", "post_relu", 2048, _MIT),
        Backbone("mobilenet", "MobileNet", 224, 32, "tf", "conv_pw_13_relu", 1024, _APACHE),
        Backbone("mobilenetv2", "MobileNetV2", 224, 32, "tf", "out_relu", 1280, _APACHE),
        Backbone("efficientnetb0", "EfficientNetB0", 224, 32, "none", "top_activation", 1280, _APACHE, True),
        Backbone("efficientnetv2b0", "EfficientNetV2B0", 224, 32, "none", "top_activation", 1280, _APACHE),
        Backbone("densenet121", "DenseNet121", 224, 32, "torch", "relu", 1024, _BSD),
        Backbone("inceptionv3", "InceptionV3", 299, 75, "tf", "mixed10", 2048, _APACHE),
        Backbone("xception", "Xception", 299, 71, "tf", "block14_sepconv2_act", 2048, _MIT),
        Backbone(SMALL, "", 150, 16, "tf", "block4_pool", 128, _NONE),
    )
}


@dataclass(frozen=True)
class LayerSummary:
    """One layer of a network: its name, class, output shape without the batch, and parameter count."""

    name: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int


def import_keras() -> Any:
    """Keras, without its backend's remarks about the machine."""
    # Read when the backend is first imported; a user who wants the remarks sets it.
    gpu.set_up(exact=False)
    if "keras" not in sys.modules:
        with _deaf_stderr():
            import keras
    import keras

    return keras


@contextmanager
def _deaf_stderr() -> Iterator[None]:
    """Drop what is written to stderr below Python: TensorFlow says a little there before it can be told to be quiet."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def find(name: str) -> Backbone:
    """The registry's row for ``name``, whatever its case.

    Raises:
        ConfigError: there is none; the sentence lists those there are.
    """
    row = REGISTRY.get(name.lower())
    if row is None:
        raise ConfigError(f"backbone.name {name!r} is not known; take one of {', '.join(REGISTRY)}")
    return row


def check(row: Backbone, input_px: int) -> None:
    """Refuse an input too small for the network's strides; raises ``ConfigError``."""
    if input_px < row.min_px:
        raise ConfigError(f"backbone.input_px {input_px} is too small for {row.name}; it needs {row.min_px} or more")


def topology(row: Backbone, input_px: int, weights: str | None = None) -> keras.Model:
    """The network without its top; ``weights`` None draws them from Keras's global seed, ``imagenet`` lets Keras fetch.

    Raises:
        whatever Keras raises when it cannot download.
    """
    keras = import_keras()
    # Some layers are named by counting, and the digest and the cache go by names: count from the start each time.
    # Clearing also forgets the policy for precision, which is the caller's.
    policy = keras.config.dtype_policy()
    keras.backend.clear_session()
    keras.config.set_dtype_policy(policy)
    if not row.builder:
        return small(keras, input_px)
    builder = getattr(keras.applications, row.builder)
    return builder(include_top=False, weights=weights, input_shape=(input_px, input_px, 3))


def random_network(row: Backbone, input_px: int, seed: int) -> keras.Model:
    """The network with weights drawn from ``seed``: the same seed and Keras give the same tensors."""
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    return topology(row, input_px)


def network_from_file(row: Backbone, input_px: int, path: Path) -> keras.Model:
    """The network with weights from a Keras file.

    Args:
        path: ``.keras`` (a whole model that holds the backbone's layers by name, at any depth), or ``.weights.h5`` or
            ``.h5`` (weights of the network without its top). Opened in safe mode: no code in it is run.

    Raises:
        WeightsError: the file does not open, or is of another network.
    """
    keras = import_keras()
    model = topology(row, input_px)
    try:
        with warnings.catch_warnings():
            # Keras only warns where it leaves a layer with the weights it was drawn with.
            warnings.simplefilter("error", UserWarning)
            if path.suffix == ".keras":
                _copy_layers(keras.saving.load_model(path, compile=False, safe_mode=True), model)
            else:
                model.load_weights(path)
    except (ValueError, OSError, KeyError, TypeError, UserWarning) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} does not fit {row.name} without its top: {reason}") from error
    return model


def taught_network(row: Backbone, input_px: int, path: Path) -> keras.Model:
    """A network that was taught here, head and all, from its ``.keras`` file, opened in safe mode.

    Raises:
        WeightsError: the file does not open, or is of another network or size.
    """
    keras = import_keras()
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} does not open: {' '.join(str(error).split())[:200]}") from error
    if row.layer not in {layer.name for layer in model.layers}:
        raise WeightsError(f"{path} is no {row.name}: it has no layer {row.layer}; mend backbone.name")
    if (side := model.input_shape[1]) != input_px:
        raise WeightsError(f"{path} was taught at {side} px, and backbone.input_px is {input_px}")
    return model


def in_float32(model: keras.Model) -> keras.Model:
    """The same network with every layer in float32, whatever policy it was taught under; itself, where it is so."""
    keras = import_keras()
    if all(layer.dtype_policy.name == "float32" for layer in model.layers):
        return model
    config = model.get_config()
    for layer in config["layers"]:
        layer["config"]["dtype"] = "float32"
    plain = type(model).from_config(config)
    # Under every such policy the weights themselves are float32.
    plain.set_weights(model.get_weights())
    assert isinstance(plain, keras.Model)
    return plain


def headless(model: keras.Model, layer: str, pooling: str) -> keras.Model:
    """``model`` from its input to ``layer``'s output, folded to one vector a picture: float32 (n, width).

    Raises:
        ConfigError: no such layer, or one whose output is not (height, width, channels).
    """
    keras = import_keras()
    names = [candidate.name for candidate in model.layers]
    if layer not in names:
        raise ConfigError(f"backbone.layer {layer!r} is not in this network; its last are {', '.join(names[-6:])}")
    output = model.get_layer(layer).output
    if layer.startswith(PREFIX) and len(output.shape) == 2:
        # Behind a taught network's own folding. Under a name of its own, as the layer may be that of another dtype.
        return keras.Model(model.inputs, keras.layers.Activation("linear", name="features", dtype="float32")(output))
    if len(output.shape) != 4:
        raise ConfigError(
            f"backbone.layer {layer!r} has shape {tuple(output.shape)[1:]}; choose one with height and width"
        )
    folds = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
        "flatten": keras.layers.Flatten,
    }
    # Float32 whatever the policy, so that reduced precision ends where the network does.
    folded = folds[pooling](name=f"{pooling}_features", dtype="float32")(output)
    return keras.Model(model.inputs, folded)


def weights_digest(model: keras.Model) -> str:
    """sha256 over the layers in ASCII order of name: the name, then its tensors as little-endian float32 in C order.

    Kernels are (height, width, in, out), as Keras keeps them.
    """
    digest = hashlib.sha256()
    for layer in sorted(model.layers, key=lambda layer: str(layer.name)):
        if layer.weights:
            digest.update(layer.name.encode())
            for tensor in layer.get_weights():
                digest.update(tensor.astype("<f4").tobytes())
    return digest.hexdigest()


def summarise(model: keras.Model) -> list[LayerSummary]:
    """The network's layers in order."""
    return [
        LayerSummary(layer.name, type(layer).__name__, _output_shape(layer), layer.count_params())
        for layer in model.layers
    ]


def _copy_layers(source: Any, target: keras.Model) -> None:
    """Copy tensors by layer name, wherever in ``source`` the layer is nested; changes ``target``.

    Raises:
        ValueError: a layer is missing or has tensors of other shapes.
    """
    known = {layer.name: layer for layer in _flatten(source)}
    missing = [layer.name for layer in target.layers if layer.weights and layer.name not in known]
    if missing:
        raise ValueError(f"it has no layer {missing[0]}, nor {len(missing) - 1} others")
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(known[layer.name].get_weights())


def _flatten(layer: Any) -> Iterator[Any]:
    for inner in getattr(layer, "layers", []):
        yield from _flatten(inner)
    yield layer


def _output_shape(layer: Any) -> tuple[int | None, ...]:
    output = layer.output
    first = output[0] if isinstance(output, list) else output
    return tuple(first.shape)[1:]
