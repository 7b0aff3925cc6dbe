"""Base class of all groups of settings."""

import re
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
_EXPONENT = re.compile(r"[+-]?\d+(?:\.\d*)?[eE]\+?\d{1,2}")


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys.

    The string below a field is its description.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _read_exponents(cls, data: Any) -> Any:
        """Return the settings with `1e3`, which YAML 1.1 reads as text, as a whole number."""
        if not isinstance(data, Mapping):
            return data
        fields = cls.model_fields
        return {
            name: float(value)
            if isinstance(value, str)
            and _EXPONENT.fullmatch(value)
            and name in fields
            and _takes(fields[name].annotation, int)
            else value
            for name, value in data.items()
        }


def _takes(annotation: Any, kind: type) -> bool:
    """Return whether an annotation is a type, or a union or `Annotated` with it."""
    if typing.get_origin(annotation) in (tuple, list, dict):
        return False
    return annotation is kind or any(_takes(one, kind) for one in typing.get_args(annotation))
