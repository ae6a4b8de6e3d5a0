"""A run's examples where their pictures and captions are not here, or may not be shown: ids, tags and numbers.

A run stores neither pictures nor captions, so a run of a gated set may be shown anywhere in this way.
"""

from __future__ import annotations

from functools import partial

from PIL import Image

from sdsdemo.evaluation.store import StoredExample, StoredRun
from sdsdemo.types import Example, Picture

NOT_SHOWN = "Pictures and captions of this set are not shown here: only ids and scores are."
SIDE, GREY = 64, (203, 208, 217)


def examples_of(run: StoredRun) -> list[Example]:
    """Examples with grey squares instead of pictures, and their numbers instead of captions."""
    return [_example(stored) for stored in run.examples]


def _example(stored: StoredExample) -> Example:
    return Example(
        id=stored.id,
        images=tuple(
            Picture(name=f"picture {i}", open=partial(Image.new, "RGB", (SIDE, SIDE), GREY), key="not shown")
            for i in range(1, stored.images + 1)
        ),
        captions=tuple(f"caption {c} of example {stored.id}" for c in range(1, stored.captions + 1)),
        tags=stored.tags,
    )
