"""Which examples of a benchmark are scored, and in which order. Scores nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from sdsdemo.types import Example

BLOCK = 64
"""Neighbours often share a picture or a caption, which is encoded once while they are scored close together."""


def stratified(examples: Sequence[Example], limit: int) -> list[Example]:
    """`limit` examples, in order, with each tag's share within one example, and that of rare tags taken together.

        places floor((k + 1/2) n / limit)  of the n examples sorted by tag

    say how many each tag gets: systematic sampling. They are its first ones.
    """
    tag_of = [(example.tags.get("collapsed_tag", ""), example.tags.get("tag", "")) for example in examples]
    by_tag, n = sorted(tag_of), len(examples)
    limit = max(0, min(limit, n))
    left = Counter(by_tag[(2 * k + 1) * n // (2 * limit)] for k in range(limit))
    taken = []
    for example, tag in zip(examples, tag_of, strict=True):
        if left[tag]:
            left[tag] -= 1
            taken.append(example)
    return taken


def scattered(examples: Sequence[Example]) -> list[Example]:
    """The examples in an order of this process's own, so that one that joins a run rarely scores what another does.

    Blocks of neighbours come in random order, and so do the examples of each.
    """
    draw = random.SystemRandom()  # a forked process would repeat the numbers of a seeded one
    blocks = [list(examples[at : at + BLOCK]) for at in range(0, len(examples), BLOCK)]
    draw.shuffle(blocks)
    for block in blocks:
        draw.shuffle(block)
    return [example for block in blocks for example in block]
