"""A network to be taught: a backbone, an answer behind it, and which of its layers learn. [Keras]"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirabelle.config.finetuning import Finetune
from mirabelle.errors import ConfigError
from mirabelle.network import backbones, heads, weights
from mirabelle.network.backbones import Backbone
from mirabelle.network.small import NAME as SMALL

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Taught:
    """A network and what is to be taught of it.

    Attributes:
        model: float32 (n, side, side, 3), normalised as ``row`` wants it, into (n, 1) of two classes, the probability
            of the second, or (n, k) of more.
        row: its backbone.
        input_px: side of its square.
        base_digest: of the backbone's weights before anything is taught.
        below: the part that says the same of a picture in every round; None: some of it learns, or pictures differ.
        head: what is behind that part, with the same layers; None likewise.
    """

    model: keras.Model
    row: Backbone
    input_px: int
    base_digest: str
    below: keras.Model | None
    head: keras.Model | None

    @property
    def parameters(self) -> tuple[int, int]:
        """How many there are, and how many of them learn."""
        return self.model.count_params(), sum(math.prod(weight.shape) for weight in self.model.trainable_weights)


def start_of(settings: Finetune) -> str:
    """What the network starts from, as ``backbone.weights`` has it."""
    return settings.weights or (f"random:{settings.seed}" if settings.network.lower() == SMALL else "imagenet")


def build(settings: Finetune, classes: int, cache: Path) -> Taught:
    """The network, ready to be compiled.

    Args:
        settings: which, and what is put behind it.
        classes: two or more.
        cache: for weights.

    Raises:
        ConfigError: no such network or layer, or a size too small for it.
        WeightsError: its weights cannot be had.
    """
    keras = backbones.import_keras()
    row = backbones.find(settings.network)
    source = weights.parse(start_of(settings))
    head = heads.head_of(source.path)
    side = settings.input_px or (head.input_px if head else row.input_px)
    backbones.check(row, side)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if settings.precision == "bf16" else "float32")
    try:
        loaded = weights.load(row, source, side, cache)
        # Of one that was taught before, its backbone; its answer is taken over below.
        base = keras.Model(loaded.inputs, loaded.get_layer(row.layer).output) if head else loaded
        digest = backbones.weights_digest(base)
        _choose(base, "all" if source.seed is not None else settings.unfreeze_from)
        keras.utils.set_random_seed(settings.seed)
        model = keras.Model(base.inputs, _answer(keras, settings, base.get_layer(row.layer).output, classes))
        if head:
            _take_over(loaded, model)
        below = above = None
        # Other views of a picture differ from round to round, so what is below would not be the same.
        if not settings.augment.enabled and not any(layer.trainable and layer.weights for layer in base.layers):
            folded = base.get_layer(row.layer).output
            below, above = keras.Model(base.inputs, folded), keras.Model(folded, model.output)
    finally:
        keras.config.set_dtype_policy(before)
    return Taught(model, row, side, digest, below, above)


def _take_over(loaded: keras.Model, model: keras.Model) -> None:
    """What an earlier lesson taught the layers behind the backbone, as far as they are of one shape."""
    known = {layer.name: layer.get_weights() for layer in loaded.layers if layer.name.startswith(heads.PREFIX)}
    for layer in model.layers:
        tensors = known.get(layer.name, [])
        if [tensor.shape for tensor in tensors] == [tuple(weight.shape) for weight in layer.weights]:
            layer.set_weights(tensors)


def _choose(base: keras.Model, unfreeze_from: str) -> None:
    """Which layers of a backbone learn."""
    names = [layer.name for layer in base.layers]
    if unfreeze_from not in ("none", "all") and unfreeze_from not in names:
        shown = [layer.name for layer in base.layers if layer.weights]
        raise ConfigError(
            f"finetune.unfreeze_from {unfreeze_from!r} is no layer of this network; take none, all, or one of"
            f" {', '.join(shown[-8:])} or an earlier one"
        )
    first = {"none": len(names), "all": 0}.get(unfreeze_from)
    first = names.index(unfreeze_from) if first is None else first
    for number, layer in enumerate(base.layers):
        layer.trainable = number >= first


def _answer(keras: Any, settings: Finetune, found: Any, classes: int) -> Any:
    """The layers behind the backbone; of two classes one number, of more one each, in float32 whatever the policy."""
    layers = keras.layers
    folds = {
        "flatten": layers.Flatten,
        "avg": layers.GlobalAveragePooling2D,
        "max": layers.GlobalMaxPooling2D,
    }
    found = folds[settings.pooling](name=heads.FOLDED)(found)
    for number, width in enumerate(settings.hidden, 1):
        penalty = keras.regularizers.L2(settings.l2) if settings.l2 else None
        found = layers.Dense(width, "relu", kernel_regularizer=penalty, name=heads.hidden(number))(found)
        if settings.dropout:
            found = layers.Dropout(settings.dropout, name=f"{heads.PREFIX}dropout_{number}")(found)
    units, activation = (1, "sigmoid") if classes == 2 else (classes, "softmax")
    return layers.Dense(units, activation, dtype="float32", name=heads.ANSWER)(found)
