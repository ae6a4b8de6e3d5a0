"""Checks that data from a file has the expected shape, with pydantic. Reads no file and knows no format.

A shape is a type for what JSON can hold: `dict[str, list[str]]`, `list[float]`, or a `typing_extensions.TypedDict`
(use `list`, not `tuple`). Checks are strict: a number in quotes is not a number. Keys that a `TypedDict` does not name
are allowed, and stay in the value.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def shaped(value: Any, shape: Any) -> Any:
    """`value` itself, checked against a shape. Raises `ValueError` whose text names the first place that does not fit.

    Where the value is not what it should be all through, the text is like "models.mini-clip: input should be a valid
    string".
    """
    from pydantic import ValidationError

    try:
        _adapter(shape).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise ValueError(f"{place}: {message}" if place else message) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


@lru_cache(maxsize=256)
def _adapter(shape: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(shape)
