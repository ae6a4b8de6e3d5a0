"""How much a model's download takes, as the Hub lists its files. Reaches the network; fetches configs at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdsdemo.models import sources
from sdsdemo.types import Card

if TYPE_CHECKING:
    import torch


def listed_mb(card: Card, *, device: torch.device, precision: str) -> float | None:
    """Megabytes that `fetch` brings; None if the Hub does not say. Raises `UserError` for what no download mends.

    device, precision: of a pipeline, whose parts may be on the Hub in half precision too.
    """
    if card.family == "clip":
        return _clip_mb(card.spec)
    if card.family == "diffusion":
        from sdsdemo.models.families import pipeline_mb

        return pipeline_mb(card.spec, revision=card.revision, device=device, precision=precision)
    from sdsdemo.models.transformers_files import patterns_to_fetch

    name, asked = sources.split_revision(sources.split_spec(card.spec)[1])
    revision = asked or card.revision
    repo, _ = sources.repo_and_folder(name) or (name, "")
    size_of = sources.repo_sizes(repo, revision)
    return sources.missing_mb(repo, revision, size_of, patterns_to_fetch(name, revision)) if size_of else None


def _clip_mb(spec: str) -> float | None:
    """Weights first; whatever else it needs from the Hub is added as far as its size is known."""
    from sdsdemo.models.clip_hub import parts_on_hub

    found = []
    for part in parts_on_hub(spec, allow_download=True):
        size_of = sources.repo_sizes(part.repo, part.revision)
        best = [name for name in part.names if name in size_of][:1]
        found.append(sources.missing_mb(part.repo, part.revision, size_of, [*best, *part.beside]))
    return sum(filter(None, found)) if found and found[0] is not None else None
