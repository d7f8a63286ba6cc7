"""The part of a configuration that says how a network is taught. Touches nothing."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mirabelle.config.section import Params, Section


class Augment(Section):
    """Other views of each picture, drawn anew in each epoch."""

    enabled: bool = Field(False, description="Show them; naming any other key of this part does, too.")
    rotation_degrees: float = Field(40, ge=0, le=180, description="Turn by up to so much, either way.")
    width_shift: float = Field(0.2, ge=0, lt=1, description="Move sideways by up to this share of the width.")
    height_shift: float = Field(0.2, ge=0, lt=1, description="Move up or down by up to this share of the height.")
    shear: float = Field(0.2, ge=0, lt=1, description="Slant by up to this share of the height.")
    zoom: float = Field(0.2, ge=0, lt=1, description="Enlarge or shrink by up to this share.")
    flip: Literal["none", "horizontal", "vertical", "both"] = Field(
        "horizontal", description="Mirror every other picture."
    )
    fill: Literal["nearest", "reflect", "constant"] = Field(
        "nearest", description="What is seen beyond the edge: its last pixels, the picture mirrored, or decode.ground."
    )

    @model_validator(mode="before")
    @classmethod
    def _enabled_by_naming(cls, value: Any) -> Any:
        return {"enabled": True, **value} if isinstance(value, dict) and value else value


class Finetune(Section):
    """A network that learns from the pictures themselves; which of them it learns from, `classify` says."""

    network: str = Field(
        "small", description="`small`, a network of one's own of four blocks; or any backbone, to be taught further."
    )
    weights: str | None = Field(
        None,
        description="What it starts from: `imagenet`, a file, or `random:<seed>`; a model.keras of an earlier lesson"
        " gives its answer, too, so that a frozen network's lesson can come first. Default: imagenet; for `small`"
        " random, by `finetune.seed`.",
    )
    input_px: int | None = Field(None, ge=1, le=4096, description="Side of the square it sees. Default: its own.")
    label: str = Field("label", description="The label column to learn.")
    step: str | None = Field(
        None,
        description="A value of the first column of `classify.chain`: learn the second column's labels by the pictures"
        " of this one, as a step of the chain, in place of `finetune.label`.",
    )
    pooling: Literal["flatten", "avg", "max"] = Field(
        "flatten", description="How the last layer's height and width are folded away."
    )
    hidden: tuple[int, ...] = Field((256,), description="Widths of the layers between it and the answer.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of each of these that is left out at random.")
    l2: float = Field(0.0, ge=0, description="Penalty on the squares of the weights of these layers.")
    unfreeze_from: str = Field(
        "none",
        description="`none`: its own layers stay as they are; `all`; or the layer from which on they learn. `small`"
        " always learns whole, as do random weights.",
    )
    augment: Augment = Augment()
    epochs: int = Field(30, ge=1, description="Rounds, at most.")
    steps_per_epoch: int | None = Field(None, ge=1, description="Batches a round. Default: each picture once.")
    batch_images: int = Field(32, ge=1, description="Pictures in a batch.")
    optimizer: str = Field("RMSprop", description="Any of keras.optimizers, by name.")
    optimizer_params: Params = Field(
        default_factory=lambda: {"learning_rate": 1e-5}, description="Its parameters, by Keras's own names."
    )
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "constant",
        description="Of the learning rate: cosine falls to nothing over the rounds; plateau halves it after three"
        " rounds that brought nothing.",
    )
    patience: int | None = Field(
        None, ge=1, description="End after so many rounds that brought nothing on the pictures set aside."
    )
    validation_share: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="Of the pictures to learn from, set aside to choose the best round by, whole groups together; 0:"
        " the last round counts.",
    )
    class_weights: bool = Field(False, description="Give rare classes as much say as frequent ones.")
    precision: Literal["float32", "bf16"] = Field("float32", description="Of the arithmetic; weights are float32.")
    seed: int = Field(0, ge=0, description="Of first weights, order, views and what is left out.")
