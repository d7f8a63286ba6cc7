"""What the parts of a configuration have in common. Touches nothing."""

from __future__ import annotations

from typing import Any, TypeGuard

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, and strict: a key that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def is_section(annotation: Any) -> TypeGuard[type[Section]]:
    """Whether a key's type is a part with keys of its own."""
    return isinstance(annotation, type) and issubclass(annotation, Section)
