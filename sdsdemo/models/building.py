"""Modules are built by one thread of the process at a time.

While diffusers and transformers load weights they change torch for every thread: `nn.Module.register_parameter` makes
parameters without storage, and the functions of `torch.nn.init` do nothing. A module that another thread builds
meanwhile would have no weights, or whatever was in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import ParamSpec, TypeVar

BUILDING = RLock()
"""Hold it where a module is made or loaded."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def builds_alone(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function that holds `BUILDING` while it runs."""

    @wraps(function)
    def alone(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with BUILDING:
            return function(*args, **kwargs)

    return alone
