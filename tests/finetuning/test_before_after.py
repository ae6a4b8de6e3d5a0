"""What an evaluation in a run says, by hand: pictures that are right, cosines in each tower, examples that flipped."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from sdsdemo.finetuning import before_after
from sdsdemo.finetuning.before_after import Evaluator
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.types import Example, Picture


class Angles:
    """A CLIP of two dimensions: features at angles, in degrees, by caption and by the shade of a picture."""

    device = torch.device("cpu")

    def __init__(self, captions: dict[str, float], images: list[float]) -> None:
        self.module, self.captions, self.images = self, captions, images

    def tokenize(self, captions: Any) -> Tensor:
        return torch.tensor([list(self.captions).index(text) for text in captions])

    def preprocess(self, image: Image.Image) -> Tensor:
        return torch.tensor(image.getpixel((0, 0)))

    def encode_text(self, rows: Tensor, normalize: bool) -> Tensor:
        return self._at([list(self.captions.values())[row] for row in rows])

    def encode_image(self, rows: Tensor, normalize: bool) -> Tensor:
        return self._at([self.images[row] for row in rows])

    def _at(self, angles: list[float]) -> Tensor:
        angle_B = torch.tensor(angles).deg2rad()
        return torch.stack([angle_B.cos(), angle_B.sin()], dim=1)


def test_what_an_evaluation_says_of_pictures_towers_and_flips_by_hand() -> None:
    captions = {"a": 0.0, "b": 20.0, "c": -40.0, "d": -10.0, "e": 40.0, "f": 70.0}
    base: Any = Angles(captions, [0.0, 35.0, 0.0, 50.0, 0.0, -10.0])
    words = list(captions)
    pictures = [Picture(name="", open=partial(Image.new, "L", (1, 1), k), key=f"{k}") for k in range(6)]
    examples = [
        Example(id=f"x{e}", images=tuple(pictures[2 * e :][:2]), captions=tuple(words[2 * e :][:2]), tags={})
        for e in range(3)
    ]
    evaluator = Evaluator({"set": examples}, base)
    before = evaluator.evaluate()
    assert before.own is not None
    assert before.own.tolist() == [[True, True], [False, True], [True, False]]
    base.captions |= {"a": 20.0, "b": 0.0, "c": -10.0, "d": 60.0, "f": 85.0}  # the first breaks, the second is mended
    after = evaluator.evaluate()
    record = evaluator.compare(before, after, Recipe())
    assert (record["flipped"]["fixed"], record["flipped"]["broken"]) == (["x1"], ["x0"])
    cosine = {"captions": (20, 30, 30), "images": (35, 50, 10)}, {"captions": (20, 70, 45), "images": (35, 50, 10)}
    for name in ("captions", "images"):
        wanted = [math.cos(math.radians(sorted(one[name])[1])) for one in cosine]
        assert record["cosine"][name] == pytest.approx(wanted, abs=1e-4)


def one_caption(pictures: list[Picture]) -> list[Example]:
    return [Example(id=f"{k}", images=(one,), captions=("a", "b"), tags={}) for k, one in enumerate(pictures)]


def test_an_evaluation_is_as_exact_as_a_score(monkeypatch: pytest.MonkeyPatch) -> None:
    base: Any = Angles({"a": 0.0, "b": 20.0}, [0.0])
    met: list[bool] = []
    real = base.encode_image
    monkeypatch.setattr(
        base, "encode_image", lambda *a, **k: met.append(torch.backends.cudnn.allow_tf32) or real(*a, **k)
    )
    examples = one_caption([Picture(name="", open=partial(Image.new, "L", (1, 1), 0), key="0")])
    Evaluator({"set": examples}, base).evaluate()
    assert torch.backends.cudnn.allow_tf32, "torch's own setting, outside"
    assert met == [False]


@pytest.mark.parametrize(("room", "opened"), [(2, 2), (1, 8)])
def test_a_picture_of_two_sets_takes_room_once(monkeypatch: pytest.MonkeyPatch, room: int, opened: int) -> None:
    base: Any = Angles({"a": 0.0, "b": 20.0}, [0.0, 35.0])
    monkeypatch.setattr(before_after, "HELD_BYTES", 4 * room)
    counted: list[int] = []
    real = base.preprocess
    monkeypatch.setattr(base, "preprocess", lambda image: counted.append(1) or real(image))
    pictures = [Picture(name="", open=partial(Image.new, "L", (1, 1), k), key=f"{k}") for k in range(2)]
    evaluator = Evaluator({"one": one_caption(pictures), "other": one_caption(pictures)}, base)
    counted.clear()
    for _ in range(2):
        evaluator.evaluate()
    assert len(counted) == opened
