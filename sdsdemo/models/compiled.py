"""A denoiser through `torch.compile`, where SDSDEMO_COMPILE asks for it: the same numbers up to rounding.

Scores alone go through it. Whatever asks for a gradient or hangs a hook on the denoiser meets it as it was: a hook that
comes later is lost on compiled code. Weights, their names and copies of the module know nothing of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from sdsdemo.models.memory import is_out_of_memory

log = logging.getLogger(__name__)

BACKEND = "inductor"
FAILED = (
    "%s: torch.compile does not work here (%s), so it runs without: install a C++ compiler, or set SDSDEMO_COMPILE=off."
)
LONGEST_REASON = 160


class Compiled:
    """The call of a module, compiled at its first use; as it was from the first failure to compile on."""

    def __init__(self, module: Any, name: str) -> None:
        self._plain: Callable[..., Any] = module._call_impl
        self._quick: Callable[..., Any] = torch.compile(module._call_impl, backend=BACKEND)
        self._name = name
        self.is_on = True
        self.works = True
        """False once it has failed to compile."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        if not (self.is_on and self.works) or not torch.is_inference_mode_enabled():
            return self._plain(*given, **named)
        try:
            return self._quick(*given, **named)
        except Exception as error:  # what compilers that are missing or broken raise is an open set
            if is_out_of_memory(error):
                raise
            answer = self._plain(*given, **named)  # an error of the module itself comes again, and is none of ours
            self.works = False
            log.warning(FAILED, self._name, _first_line(error))
            return answer


def compile_calls(module: Any, name: str) -> Compiled:
    """Lets calls of a module go through `torch.compile`, as its own `compile` does it; no copy of it inherits that."""
    compiled = Compiled(module, name)
    module._compiled_call_impl = compiled
    return compiled


def _first_line(error: Exception) -> str:
    """Of what the compiler said, within what torch makes of it."""
    while isinstance(inner := getattr(error, "inner_exception", None), Exception):
        error = inner
    return " ".join((str(error).strip() or type(error).__name__).split("\n")[0].split())[:LONGEST_REASON]
