"""The part of a configuration that says what `mirabelle explore` looks at. Touches nothing."""

from __future__ import annotations

from pydantic import Field

from mirabelle.config.section import Section


class Explore(Section):
    """What is known of the images, before any network sees them."""

    within: str | None = Field(
        None,
        description="A finer label, whose shares within each label are shown. Default: model_type, if it is there.",
    )
    groups: tuple[str, ...] | None = Field(
        None,
        description="Columns whose equal values mean pictures that belong together. Default: those of registration,"
        " group, session, airline, photographer, source and taken (by its day) that are there.",
    )
    top: int = Field(20, ge=1, le=1000, description="Values of a column that the page shows.")
    pictures: bool = Field(True, description="Read the pictures: their formats and sizes, and which are alike.")
    near_distance: int = Field(
        3,
        ge=0,
        le=7,
        description="Bits of 64 in which the perceptual hashes of two pictures that look alike may differ.",
    )
