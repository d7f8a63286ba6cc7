"""The part of a configuration that says what runs the network, and how exactly. Touches nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mirabelle.config.section import Section


class Certify(Section):
    """What `mirabelle certify` measures, and what the precision that `auto` takes must keep to."""

    images: int = Field(500, ge=20, description="Pictures that `mirabelle certify` measures on.")
    seed: int = Field(0, ge=0, description="Draws those pictures; and the folds of its classifier.")
    min_cosine: float | None = Field(
        None,
        gt=0,
        le=1,
        description="With it, or with max_accuracy_loss, engine.precision auto takes the fastest precision that passes"
        " by the newest certificate of this output: the lowest cosine of a picture's features to Keras's in float32.",
    )
    max_accuracy_loss: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Of a classifier, at most, by the worse end of its interval: 0.01 is one picture in a hundred. It"
        " needs labels.",
    )

    @property
    def is_bar(self) -> bool:
        """Whether anything is asked of a precision."""
        return self.min_cosine is not None or self.max_accuracy_loss is not None


class Engine(Section):
    """What runs it."""

    name: Literal["openvino", "keras"] = Field(
        "openvino",
        description="What runs the network: openvino (CPU), or keras (the reference; on a GPU where its backend sees"
        " one, docs/cluster/gpu.md).",
    )
    precision: Literal["auto", "float32", "bf16", "int8"] = Field(
        "auto",
        description="auto is bf16 where every executor's CPU has it natively, else float32, and with keras always"
        " float32; see engine.certify, too."
        " int8: quantised once, on the driver (mirabelle[int8]), on some of the pictures; faster than bf16 on CPUs with"
        " VNNI or AMX, and its features are others: `mirabelle certify` says how far.",
    )
    calibration_images: int = Field(
        300,
        ge=1,
        description="Pictures of the listing that int8 is quantised on, once for an output: later runs take the network"
        " that it keeps.",
    )
    calibration_seed: int = Field(0, ge=0, description="Draws those pictures. Another seed is another embedding.")
    batch_bytes: int | None = Field(
        None,
        ge=1,
        description="Decoded pictures in one batch, in bytes; at least one picture goes in whatever. Left out: 4 MiB,"
        " and 32 MiB on a GPU.",
    )
    certify: Certify = Certify()

    @model_validator(mode="after")
    def _quantised_by_openvino(self) -> Engine:
        if self.precision == "int8" and self.name != "openvino":
            raise ValueError("engine.precision int8 is run by openvino alone; leave engine.name out")
        return self
