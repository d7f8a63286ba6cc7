"""The shapes of what ``/v1`` answers, as its OpenAPI document has them. Pure."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """What all of them have: no member that is not said here."""

    model_config = ConfigDict(extra="forbid")


class Model(Shape):
    """The bundle that answered."""

    id: str
    name: str
    fingerprint: str = Field(description="Features may be compared only where it is equal.")


class Likely(Shape):
    """A label and how likely it is."""

    label: str
    probability: float = Field(ge=0, le=1)


class Coarse(Shape):
    """The upper level of a chain."""

    label: str
    probability: float
    sure: bool
    probabilities: list[Likely]


class Milliseconds(Shape):
    """Where a picture's time went."""

    decode: float
    wait: float = Field(description="Until a batch took it.")
    network: float = Field(description="The network's time for the whole batch.")


class Rejected(Shape):
    """Why a picture got no answer, with the code that the batch job's rejects have."""

    code: str
    stage: str
    detail: str


class Picture(Shape):
    """What every picture's answer begins with."""

    name: str | None = Field(description="The file's own name, if it came with one.")
    width_px: int | None = None
    height_px: int | None = None


class RejectedPicture(Picture):
    """A picture that got no answer."""

    rejected: Rejected


class Predicted(Picture):
    """A picture's answer; ``sure`` is false below a chain's threshold."""

    given: str | None = Field(description="The answer, of a chain as fine as it is sure of; null: it is not sure.")
    label: str
    probability: float
    sure: bool
    probabilities: list[Likely] = Field(description="The likeliest labels, likeliest first.")
    coarse: Coarse | None = None
    features: list[float] | None = None
    explanation: str | None = Field(None, description="PNG as a data: address, white where the network looked most.")
    ms: Milliseconds


class Embedded(Picture):
    """A picture's features, and what a PCA made of them."""

    features: list[float]
    reduced: list[float] | None
    ms: Milliseconds


class Neighbour(Shape):
    """A picture of the training set."""

    path: str
    label: str | None
    cosine: float
    thumbnail: str | None = Field(description="As a data: address.")


class Near(Picture):
    """A picture's nearest ones among those that were learnt from, nearest first."""

    neighbours: list[Neighbour]
    ms: Milliseconds


class Answer(Shape):
    """What every answer begins with."""

    model: Model
    request_id: str


class Predictions(Answer):
    """One entry for each picture, in order."""

    pictures: list[Predicted | RejectedPicture]


class Embeddings(Answer):
    """One entry for each picture, in order."""

    pictures: list[Embedded | RejectedPicture]


class Neighbours(Answer):
    """One entry for each picture, in order."""

    pictures: list[Near | RejectedPicture]


class Problem(BaseModel):
    """RFC 9457: what went wrong, and the way out."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Where /docs explains the code.")
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    error: str
