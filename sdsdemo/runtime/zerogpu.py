"""ZeroGPU: a Space there has a GPU only inside a decorated function. Anywhere else nothing changes.

Such a function runs in a fork: its arguments and results are pickled, so it takes and yields only plain values and
paths, and returns weights as a file. A file also stops it, since events of this process do not reach the fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def is_here() -> bool:
    """Whether this is a Space on ZeroGPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")


def on_gpu(function: Function, seconds: int) -> Function:
    """The function with a GPU for at most so many seconds on ZeroGPU; elsewhere the function itself."""
    if not is_here():
        return function
    import spaces

    lent: Function = spaces.GPU(duration=seconds)(function)
    return lent
