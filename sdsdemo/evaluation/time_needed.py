"""How long a model that is slow here would score, measured before it starts. Scores nothing that is kept."""

from __future__ import annotations

from collections.abc import Sequence

from sdsdemo.core.number_format import duration
from sdsdemo.types import Budget, Example, Scorer

MEASURING = "{model}  measuring for a minute how long this will take"


def time_needed(scorer: Scorer, examples: Sequence[Example], spend: Budget) -> str:
    """The estimate in a sentence."""
    from sdsdemo.models.cost import measure

    cost = measure(scorer)
    shapes = [{"pictures": len(example.images), "captions": len(example.captions)} for example in examples]
    seconds = sum(cost.seconds(1, spend, **shape) for shape in shapes)
    most = " at most" if spend.adaptive else ""
    return (
        f"{scorer.card.name}  about {duration(seconds)} on this machine for {len(examples):,} examples{most}: "
        f"{cost.evaluation:.2g} s an evaluation, measured just now"
    )
