"""What the parts of a configuration have in common. Touches nothing."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeGuard

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    """Frozen, and strict: a key that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _numbers(value: Any) -> Any:
    """``1e-5`` is a text to YAML 1.1, which wants a point in it, and a number to whoever writes it."""
    if isinstance(value, dict):
        return {key: _numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    is_number = isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value)
    return float(value) if is_number else value


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


# One or several.
Patterns = Annotated[tuple[str, ...], BeforeValidator(_several)]
# Parameters of somebody else's, by their own names.
Params = Annotated[dict[str, Any], BeforeValidator(_numbers)]
Grid = Annotated[dict[str, list[Any]], BeforeValidator(_numbers)]


def is_section(annotation: Any) -> TypeGuard[type[Section]]:
    """Whether a key's type is a part with keys of its own."""
    return isinstance(annotation, type) and issubclass(annotation, Section)
