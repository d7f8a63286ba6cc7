"""Every error Mirabelle raises on purpose, and what each means for the exit code.

    MirabelleError
    ├── UserError               exit 2: the user can mend it; printed as one sentence, no traceback
    │   ├── ConfigError         one or more mistakes in the configuration, all of them at once
    │   ├── ListingError        the images or the label table cannot be read as configured
    │   ├── WeightsError        the network's weights cannot be had, opened or trusted
    │   ├── PreflightError      a worker cannot do the work: a missing import, too old a library, no such precision
    │   ├── OutputError         the output folder cannot be used, or holds what the command needs not
    │   │   └── OutputInUse     exit 3: another run is at work on it; for a schedule no cause to wake anyone
    │   ├── FingerprintMismatch features of two embeddings would be mixed
    │   ├── BundleError         a bundle cannot be made, opened or trusted
    │   └── TrainingError       there is not enough, or not the right data, to fit what was asked
    ├── BarNotMet               exit 1: the run did its work and failed its own bar (too many rejects)
    ├── RunFailed               exit 1: the run broke in a way that running it again may mend
    ├── TransientError          worth retrying, a bounded number of times
    └── ImageError              one image got no features; becomes a row in ``rejects``
        ├── FetchError
        ├── DecodeError
        └── EmbedError

Runs on the driver and on executors. Imports nothing of ours and nothing heavy. Every class keeps its arguments in
``args`` so that it survives pickling between a worker and the driver.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class MirabelleError(Exception):
    """Root of the tree: all that Mirabelle raises on purpose, with the exit code that the command ends with."""

    exit_code: ClassVar[int] = 1


class UserError(MirabelleError):
    """Something the user can mend. The message is one sentence that names the thing and the way out."""

    exit_code: ClassVar[int] = 2


class ConfigError(UserError):
    """One or more mistakes in the configuration; ``problems`` lists them all."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return f"{len(self.problems)} mistakes in the configuration:" + "".join(f"\n  - {p}" for p in self.problems)


class ListingError(UserError):
    """The images or the label table cannot be read as configured."""


class WeightsError(UserError):
    """The network's weights cannot be had, opened or trusted."""


class PreflightError(UserError):
    """A worker cannot do the work that was asked of it."""


class OutputError(UserError):
    """The output folder cannot be used, or lacks what the command needs."""


class OutputInUse(OutputError):
    """Another run is at work on the output; it needs nobody, only time."""

    exit_code: ClassVar[int] = 3


class FingerprintMismatch(UserError):
    """Features of two embeddings would be mixed."""


class BundleError(UserError):
    """A bundle cannot be made, opened or trusted."""


class TrainingError(UserError):
    """There is not enough data, or not of the right kind, to fit what was asked."""


class BarNotMet(MirabelleError):
    """The run did its work, kept it, and failed its own bar; ``summary`` has (name, text) lines of what it did."""

    def __init__(self, message: str, summary: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message, summary)
        self.summary = summary

    def __str__(self) -> str:
        return str(self.args[0])


class RunFailed(MirabelleError):
    """The run broke in a way that is not the user's mistake; what was committed stays."""


class TransientError(MirabelleError):
    """Worth retrying a bounded number of times."""


class Stage(StrEnum):
    """Where on its road an image was lost."""

    FETCH = "fetch"
    DECODE = "decode"
    EMBED = "embed"


class RejectCode(StrEnum):
    """Why an image got no features: a closed enumeration, the ``code`` column of ``rejects``."""

    # fetch
    MISSING = "missing"
    """Listed, but no longer there when the worker came to read it."""
    DENIED = "denied"
    """There, but this user may not read it."""
    UNREADABLE = "unreadable"
    """The store failed in another way; ``detail`` has its words."""
    TOO_MANY_BYTES = "too_many_bytes"
    """Larger than ``decode.max_bytes``; never read."""
    # decode
    EMPTY = "empty"
    """Zero bytes."""
    NOT_AN_IMAGE = "not_an_image"
    """The content is no image format that is known here, whatever the name says."""
    FORMAT_NOT_ALLOWED = "format_not_allowed"
    """An image, of a format that is not decoded, or not among ``decode.formats``."""
    NO_DECODER = "no_decoder"
    """An image of an allowed format, for which the worker lacks a package; tried again by the next run."""
    TOO_MANY_PIXELS = "too_many_pixels"
    """More to decode than ``decode.max_pixels`` allows, by the header; never decoded."""
    TRUNCATED = "truncated"
    """The file ends before the picture does."""
    CORRUPT = "corrupt"
    """The right format, and damaged."""
    # embed
    NOT_FINITE = "not_finite"
    """The network answered NaN or infinity."""
    ENGINE_FAILED = "engine_failed"
    """The engine could not run this image; ``detail`` has its words."""


class ImageError(MirabelleError):
    """One image got no features.

    Args:
        code: why, from the closed enumeration.
        detail: one line for a person; never more than a few hundred characters.
    """

    stage: ClassVar[Stage]

    def __init__(self, code: RejectCode, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code.value}: {self.detail}" if self.detail else self.code.value


class FetchError(ImageError):
    """The image's bytes could not be read."""

    stage = Stage.FETCH


class DecodeError(ImageError):
    """The bytes are no picture we can or may open."""

    stage = Stage.DECODE


class EmbedError(ImageError):
    """The network gave no usable features."""

    stage = Stage.EMBED
