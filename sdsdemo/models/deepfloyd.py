"""Captions as DeepFloyd IF cleans them, and after it the models that read with T5: lower case, no brackets, no links.

The rules are those of diffusers, which has them in the pipeline of PRX.
"""

from __future__ import annotations

from functools import cache
from typing import Any


def deepfloyd(caption: str) -> str:
    """The caption after the rules, once."""
    cleaned: str = _rules().clean_text(caption)
    return cleaned


@cache
def _rules() -> Any:
    from diffusers.pipelines.prx.pipeline_prx import TextPreprocessor

    return TextPreprocessor()
