"""ZeroGPU: a Space there has a GPU only inside a decorated function. Anywhere else nothing changes.

Such a function runs in a fork: its arguments and what it yields are pickled, so they are plain values and paths, never
a model or a tensor of the GPU; weights leave it as a file. A file also stops it, since events of this process do not
reach the fork. Nor do exceptions: a `UserError` crosses as a value.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import wraps
from pickle import PicklingError
from typing import Any, ParamSpec, TypeVar

from sdsdemo.errors import UserError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

NO_GPU = "This Space could not lend a GPU: {said}. The Mini models answer without one."
NO_REASON = "none could be reserved, so try again in a minute"
CUT_OFF = "The GPU was taken back before the work was done: ask for less noise, fewer captions or fewer models at once."
OUR_FAULTS = (PicklingError, TypeError, AttributeError, AssertionError)
"""What the platform's wrapper raises when a value cannot cross the fork, or when we call it wrongly."""
TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """A `UserError` on its way out of the fork."""

    text: str


def is_here() -> bool:
    """Whether this is a Space on ZeroGPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def on_gpu(
    function: Callable[P, Iterator[T]], seconds: Callable[P, int], cut_off: str = CUT_OFF
) -> Callable[P, Iterator[T]]:
    """A generator function with a GPU on ZeroGPU; elsewhere the function itself. Call it before the page is launched.

    seconds: how long it may take, of the same arguments. cut_off: what to say if the GPU is taken back.
    While iterated, the function raises `UserError` as before, and where no GPU can be had or it is taken back.
    """
    if not is_here():
        return function
    import spaces

    lent: Callable[P, Any] = spaces.GPU(duration=seconds)(_problems_as_values(function))

    @wraps(function)
    def asked(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        try:
            with closing(lent(*args, **kwargs)) as found:
                for item in found:
                    if isinstance(item, _Problem):
                        raise UserError(item.text)
                    yield item
        except (UserError, *OUR_FAULTS):
            raise
        except Exception as error:
            log.warning("a GPU function ended early: %r", error)
            raise UserError(_why(error, cut_off)) from error

    return asked


def _problems_as_values(function: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T | _Problem]]:
    @wraps(function)
    def in_fork(*args: P.args, **kwargs: P.kwargs) -> Iterator[T | _Problem]:
        try:
            yield from function(*args, **kwargs)
        except UserError as error:
            yield _Problem(text=str(error))

    return in_fork


def _why(error: Exception, cut_off: str) -> str:
    """What the platform says of a failed reservation, in a sentence; its errors are Gradio's, with a title."""
    title = str(getattr(error, "title", ""))
    if title.startswith("ZeroGPU worker"):
        return cut_off
    said = TAG.sub("", str(getattr(error, "message", ""))).strip().rstrip(".") if title.startswith("ZeroGPU") else ""
    return NO_GPU.format(said=said[:1].lower() + said[1:] if said else NO_REASON)
