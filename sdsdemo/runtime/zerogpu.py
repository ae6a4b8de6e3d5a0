"""ZeroGPU, where a Space has a GPU only inside a decorated function; anywhere else nothing changes.

Such a function runs in a fork: what it is given and what it yields is pickled, so plain values and paths only, and the
weights come back as a file. It is stopped by a file too, as an event of this process does not reach the fork.
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
