"""What every model with a picture tower and a caption tower has in common, whichever library it comes from.

    s(i, c) = 100 * cos( f(i), g(c) )                                  Radford et al. 2021 (arXiv 2103.00020)

Knows no file, no library of models and no scores.

Shape suffixes: I image, C caption, L token, D feature.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from PIL.Image import Image, Resampling
from PIL.Image import new as new_image
from torch import Tensor, nn

from sdsdemo.captions.cleaning import clean_caption, clean_captions
from sdsdemo.errors import UserError
from sdsdemo.models.images import clean, fit, square
from sdsdemo.models.precision import exactly
from sdsdemo.models.tokenizer_checks import TokenRow, probes, rows_kept, token_row
from sdsdemo.types import Picture, Region

BATCH = 64
"""Images or captions that are encoded at once."""
BLANK = new_image("RGB", (8, 8))
"""A picture that every preprocessing must take."""
NO_FIT = "The config, the tokenizer and the weights of {model} do not fit together: fetch or save the model again."
ALIKE = 1e-5
"""Normalised features that differ by no more are those of one caption."""
SAME = (
    "The text encoder of {model} gives “{first}” and “{second}” the same features, so every score would be a tie: its "
    "config pools the features where these words are not seen. {cure}"
)


class TwoTowers(ABC):
    """A model with its own tokenizer and preprocessing, in float32, frozen until a trainer thaws parameters.

    `module` is the library's; `preprocess` turns a picture into its input.
    """

    cure = "Set `pool_type` and `eos_id` in text_cfg as in training."
    """What to do about a pool that sees no words."""

    def __init__(
        self, module: nn.Module, tokenizer: Any, preprocess: Callable[[Image], Tensor], *, context_length: int
    ) -> None:
        self.module: Any = module.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.context_length = context_length
        self._row_of = lru_cache(maxsize=rows_kept(context_length))(self._row)  # a benchmark's captions come again

    @property
    @abstractmethod
    def called(self) -> str:
        """What the model is called, for people to read."""

    @property
    @abstractmethod
    def own_region(self) -> Region:
        """What of a picture its own preprocessing takes."""

    @property
    @abstractmethod
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pixels that it takes."""

    @abstractmethod
    def _ids(self, texts: Sequence[str]) -> Tensor:
        """id_CL of cleaned captions, padded and cut."""

    @abstractmethod
    def _is_cut(self, text: str, row_L: Tensor) -> bool:
        """Whether a caption has more tokens than its row."""

    @abstractmethod
    def _text_features(self, id_CL: Tensor) -> Tensor:
        """features_CD, float32, L2-normalised."""

    @abstractmethod
    def _image_features(self, input_I: Tensor) -> Tensor:
        """features_ID, float32, L2-normalised."""

    def check_pooling(self) -> None:
        """Raises `UserError` where captions of different words have the same features, as with a pool that sees none.

        Captions differ in their first word, and in their last.
        """
        captions = probes(self.tokenizer)
        with exactly(self.device):
            feature_CD = self.encode_texts(captions)
        for other, feature_D in zip(captions[1:], feature_CD[1:], strict=True):
            if not (feature_D - feature_CD[0]).abs().max() > ALIKE:
                raise UserError(SAME.format(model=self.called, first=captions[0], second=other, cure=self.cure))

    def check_pixels(self) -> None:
        """Raises `ValueError` where preprocessing makes what the picture tower does not take."""
        if tuple(self.preprocess(BLANK).shape) != (3, *self.image_size):
            raise ValueError("preprocessing gives another size than the model takes")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        weight: Tensor = next(self.module.parameters())
        return weight.device

    def tokenize(self, captions: Sequence[str]) -> Tensor:
        """id_CL, int64, of the cleaned captions, padded and cut to `context_length`."""
        return self._ids(clean_captions(captions))

    def token_ids(self, caption: str) -> TokenRow:
        """A caption as the text tower meets it, and whether its end was cut."""
        return self._row_of(clean_caption(caption))

    def _row(self, text: str) -> TokenRow:
        row_L = self._ids([text])[0]
        return token_row(self.tokenizer, self._read(text), row_L.tolist(), cut=self._is_cut(text, row_L))

    def _read(self, text: str) -> str:
        """The text as the tokenizer is handed it."""
        return text

    def region_of(self, region: Region) -> Region:
        """The region itself, with `own` as what it means for this model."""
        return self.own_region if region == "own" else region

    def prepare(self, image: Image, region: Region = "own") -> Tensor:
        """The model's input: by its own preprocessing alone where that takes this region, else of a square."""
        image = clean(image)
        if region == "own" or image.width == image.height or region == self.own_region != "pad":
            return self.preprocess(image)
        height, width = self.image_size
        if region == "squash":
            return self.preprocess(image.resize((width, height), Resampling.BICUBIC))
        return self.preprocess(fit(image, max(width, height), "pad") if region == "pad" else square(image, region))

    def encode_images(self, images: Sequence[Image], region: Region = "own") -> Tensor:
        """features_ID, float32, L2-normalised. A gradient flows where the caller lets it."""
        batches = [torch.stack([self.prepare(image, region) for image in part]) for part in _parts(images)]
        return torch.cat([self._encode(batch) for batch in batches])

    def encode_pictures(self, pictures: Sequence[Picture], region: Region = "own") -> Tensor:
        """As `encode_images`; a picture is opened when it is its turn and let go at once."""
        parts = _parts(pictures)
        return torch.cat([self._encode(torch.stack([self.prepare(p.open(), region) for p in part])) for part in parts])

    def encode_texts(self, captions: Sequence[str]) -> Tensor:
        """features_CD, float32, L2-normalised. A gradient flows where the caller lets it."""
        batches = [self.tokenize(part) for part in _parts(captions)]
        return torch.cat([self._text_features(batch.to(self.device)) for batch in batches])

    def _encode(self, input_I: Tensor) -> Tensor:
        return self._image_features(input_I.to(self.device, torch.float32))


def _parts(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
