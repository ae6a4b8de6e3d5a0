"""The views of what a model draws."""

from __future__ import annotations

import pytest

from sdsdemo.ui import draw
from tests.conftest import fake_workbench
from tests.ui.test_templates import Read

CAPTIONS = ["a star left of a moon", "a moon left of a star"]
MODELS = ["mini-clip", "mini-diffusion", None]


def test_pictures_of_both_captions_emerge_and_are_named() -> None:
    wait, *looks = draw.drawn(fake_workbench(), CAPTIONS, MODELS)
    assert "320 denoiser calls" in wait
    assert len(looks) == draw.LOOKS
    assert [next(text for text in Read(look).texts if text in ("true", "false")) for look in looks] == ["true"] * (
        draw.LOOKS - 1
    ) + ["false"]
    assert looks[-1].count("<img") == 2 * len(draw.SEEDS)
    for caption in CAPTIONS:
        assert caption in looks[-1]


@pytest.mark.parametrize(
    ("captions", "models", "said"),
    [
        (CAPTIONS, ["mini-clip", None], draw.NO_DENOISER),
        (["", "a star"], MODELS, "aption"),
        (CAPTIONS, ["nobody"], "nobody"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(captions: list[str], models: list[str | None], said: str) -> None:
    *_, last = draw.drawn(fake_workbench(), captions, models)
    assert said in last
    assert "<img" not in last


def test_a_fault_of_ours_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    workbench = fake_workbench()
    monkeypatch.setattr(workbench, "draw", lambda *asked, **options: 1 / 0)
    *_, last = draw.drawn(workbench, CAPTIONS, MODELS)
    assert "on our side" in last
