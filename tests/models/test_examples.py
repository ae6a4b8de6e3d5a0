"""Many examples at once give what each gives alone, for both kinds of model, on twins in the real file formats."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdsdemo.core.noising import NoiseSchedule
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.clip import ClipScorer
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.types import Budget, Example, Picture
from tests import twins

TEXTS = ("a red star left of a blue circle", "a blue star left of a red circle", "a star", "a circle")
BUDGET = Budget(timesteps=2, noises=2, seed=5, empty_prompt=True)


class Counted:
    """Examples whose pictures count how often they are opened, and how many of them are held at once."""

    def __init__(self) -> None:
        self.opened: Counter[str] = Counter()

    def picture(self, name: str, seed: int) -> Picture:
        def open_it() -> Any:
            self.opened[name] += 1
            return twins.picture(seed)

        return Picture(name=name, open=open_it, key=name)

    def examples(self) -> list[Example]:
        """Two share a picture and a caption; one has equal captions; one has three captions."""
        shared = self.picture("shared", 0)
        return [
            Example(id="0", images=(shared, self.picture("one", 1)), captions=TEXTS[:2], tags={}),
            Example(id="1", images=(shared, self.picture("two", 2)), captions=(TEXTS[1], TEXTS[2]), tags={}),
            Example(id="2", images=(self.picture("three", 3),), captions=(TEXTS[2], TEXTS[2], TEXTS[3]), tags={}),
        ]


@pytest.fixture(scope="module", params=["clip", "diffusion"])
def scorer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ClipScorer | DiffusionScorer:
    folder: Path = tmp_path_factory.mktemp("twins") / "model"
    is_clip = request.param == "clip"
    spec = f"open_clip:local-dir:{twins.clip_folder(folder)}" if is_clip else f"diffusers:{twins.sd_folder(folder)}"
    scorer = open_scorer(cards.resolve(spec), device="cpu")
    assert isinstance(scorer, ClipScorer | DiffusionScorer)
    return scorer


def test_examples_scored_together_get_what_they_get_alone(scorer: ClipScorer | DiffusionScorer) -> None:
    examples = Counted().examples()
    together = list(scorer.score_examples(examples, BUDGET))
    assert len(together) == len(examples)
    for example, scores in zip(examples, together, strict=True):
        alone = scorer.score([p.open() for p in example.images], example.captions, BUDGET)
        np.testing.assert_allclose(scores.score_IC, alone.score_IC, atol=1e-5)
        if scores.evidence and alone.evidence:
            np.testing.assert_allclose(scores.evidence.loss_ICTN, alone.evidence.loss_ICTN, atol=1e-5)
            np.testing.assert_allclose(scores.evidence.loss_empty_ITN, alone.evidence.loss_empty_ITN, atol=1e-5)
            assert scores.evidence.evaluations == alone.evidence.evaluations
    assert together[2].score_IC[0, 0] == together[2].score_IC[0, 1]


def test_swapped_captions_are_swapped_scores_whatever_is_scored_beside(scorer: ClipScorer | DiffusionScorer) -> None:
    first = Counted().examples()[:1]
    swapped = [Example(id="s", images=first[0].images, captions=first[0].captions[::-1], tags={})]
    (one,), (other,) = (list(scorer.score_examples(examples, BUDGET)) for examples in (first, swapped))
    np.testing.assert_array_equal(one.score_IC, other.score_IC[:, ::-1])


def test_clip_encodes_a_shared_picture_and_caption_once(scorer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if not isinstance(scorer, ClipScorer):
        pytest.skip("a diffusion model meets every picture with every caption")
    counted, texts = Counted(), []
    encode = scorer.model.encode_texts
    monkeypatch.setattr(scorer.model, "encode_texts", lambda found: texts.extend(found) or encode(found))
    monkeypatch.setattr("sdsdemo.models.clip.EXAMPLES_AT_ONCE", 1)  # across parts too
    list(scorer.score_examples(counted.examples(), BUDGET))
    assert set(counted.opened.values()) == {1}
    assert sorted(texts) == sorted(TEXTS)


def test_the_clean_latent_s_error_follows_from_the_loss() -> None:
    """|| z - z_hat ||^2 is the factor times the error of the space, for noise and for flow."""
    generator = torch.Generator().manual_seed(0)
    z, eps, wrong = (torch.randn(4, 8, generator=generator) for _ in range(3))
    alpha_bar = torch.linspace(0.99, 0.01, 10)
    noise, flow = (
        NoiseSchedule(prediction="epsilon", alpha_bar=alpha_bar),
        NoiseSchedule(prediction="flow", sigma=torch.linspace(0.01, 0.99, 10)),
    )
    step = torch.tensor([4])
    a = alpha_bar[4]
    noisy = a.sqrt() * z + (1 - a).sqrt() * eps
    z_hat = (noisy - (1 - a).sqrt() * (eps + wrong)) / a.sqrt()
    torch.testing.assert_close((z_hat - z).square().mean(), noise.clean_factor(step)[0] * wrong.square().mean())
    sigma = torch.linspace(0.01, 0.99, 10)[4]
    noisy = (1 - sigma) * z + sigma * eps
    z_hat = noisy - sigma * (eps - z + wrong)
    torch.testing.assert_close((z_hat - z).square().mean(), flow.clean_factor(step)[0] * wrong.square().mean())
