"""CLIP through open_clip: any NAME/TAG pair, repository or folder that it knows. Knows no diffusion and no cards file.

    s(i, c) = 100 * cos( f(i), g(c) )                                  Radford et al. 2021 (arXiv 2103.00020)

Activation, mean, std, size, interpolation, crop or squash, context length and tokenizer come from the model's own
config (`clip_files`).

Shape suffixes: I image, C caption, L token, D feature, K key, P place in memory.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL.Image import Image
from torch import Tensor, nn

from sdsdemo.errors import UserError
from sdsdemo.models.batching import parts_of
from sdsdemo.models.clip_files import ClipFiles, build, called, facts_of, find_clip
from sdsdemo.models.clip_tokenizer import check_tokens, context_length_of, tokenizer_of
from sdsdemo.models.clip_towers import NO_FIT, TwoTowers
from sdsdemo.models.precision import exactly
from sdsdemo.models.scorer_base import ScorerBase, check_given
from sdsdemo.types import Budget, Example, Picture, Region, Scores

LONG = 2048
"""Tokens that no caption reaches: how a caption looks uncut."""
EXAMPLES_AT_ONCE = 32
REMEMBERED = 4_000
"""Images, and captions, whose features are kept while a benchmark is scored: 12 MB each at 768 numbers."""
OWN_REGION: Mapping[str, Region] = {"shortest": "crop", "squash": "squash", "longest": "pad"}
"""By open_clip's way of resizing, what of a picture it takes."""
Key = TypeVar("Key")


class ClipModel(TwoTowers):
    """An open_clip CLIP, with its own tokenizer and preprocessing.

    `facts` is what a fine-tuned file must store to be put onto the same model again.
    """

    def __init__(
        self,
        module: nn.Module,
        tokenizer: Callable[..., Tensor],
        preprocess: Callable[[Image], Tensor],
        *,
        spec: str,
        facts: dict[str, Any],
        context_length: int,
    ) -> None:
        super().__init__(module, tokenizer, preprocess, context_length=context_length)
        self.spec = spec
        self.facts = facts

    @classmethod
    def load(cls, spec: str, *, device: torch.device | str = "cpu", allow_download: bool = False) -> ClipModel:
        """The model of an `open_clip:` spec.

        Raises `UserError` for an unknown name or tag, weights that are not here, an activation that does not fit the
        weights, a tokenizer that does not fit the model, and a text tower that gives different captions one feature.
        """
        files = find_clip(spec, allow_download)
        module = build(files, spec, device)
        try:
            return cls._with_tokenizer(files, module, spec, allow_download)
        except UserError:
            raise
        except Exception as error:  # what settings that do not fit together come to is an open set
            raise UserError(NO_FIT.format(model=called(spec))) from error

    @classmethod
    def _with_tokenizer(cls, files: ClipFiles, module: Any, spec: str, allow_download: bool) -> ClipModel:
        """The model, once its tokenizer, its pool and its preprocessing are known to fit it."""
        settings = PreprocessCfg(**module.visual.preprocess_cfg)
        context_length = context_length_of(files)
        tokenizer = tokenizer_of(files, context_length, allow_download)
        check_tokens(tokenizer, module, int(files.config["text_cfg"].get("vocab_size", 49408)), called(spec))
        model = cls(
            module,
            tokenizer,
            image_transform_v2(settings, is_train=False),
            spec=spec,
            facts=facts_of(spec, files.config, module.visual.preprocess_cfg),
            context_length=context_length,
        )
        model.check_pooling()
        model.check_pixels()
        return model

    @property
    def called(self) -> str:
        """The spec without the path of its folder, for people to read."""
        return called(self.spec)

    @property
    def own_region(self) -> Region:
        """What of a picture its own preprocessing takes."""
        return OWN_REGION.get(str(self.facts.get("preprocess", {}).get("resize_mode")), "crop")

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pixels that it takes."""
        size = self.module.visual.image_size
        return (size, size) if isinstance(size, int) else tuple(size)

    def _ids(self, texts: Sequence[str]) -> Tensor:
        id_CL: Tensor = self.tokenizer(texts)
        return id_CL

    def _is_cut(self, text: str, row_L: Tensor) -> bool:
        whole_L = self.tokenizer([text], context_length=LONG)[0]
        if getattr(self.tokenizer, "tokenizer_mode", "") == "clips":  # its class token stands behind the padding
            row_L, whole_L = row_L[:-1], whole_L[:-1]
        rest_L = whole_L[len(row_L) :]
        return not torch.equal(row_L, whole_L[: len(row_L)]) or bool((rest_L != whole_L[-1]).any())

    def _text_features(self, id_CL: Tensor) -> Tensor:
        feature_CD: Tensor = self.module.encode_text(id_CL, normalize=True)
        return feature_CD.float()

    def _image_features(self, input_I: Tensor) -> Tensor:
        feature_ID: Tensor = self.module.encode_image(input_I, normalize=True)
        return feature_ID.float()


class ClipScorer(ScorerBase[TwoTowers]):
    """A `types.Scorer`: 100 times the cosine. Captions run in the order of their tokens and equal ones once, so that
    swapping two captions swaps their scores bit for bit."""

    def score(self, images: Sequence[Image], captions: Sequence[str], budget: Budget) -> Scores:
        """Scores of every image against every caption; of the budget only the region matters. Raises `ValueError`."""
        check_given(images, captions)
        start = time.perf_counter()
        with exactly(self.model.device):
            image_ID = self.model.encode_images(images, budget.region).cpu().numpy().astype(np.float64)
            text_UD, place_C = self._texts(captions)
        score_IC = 100 * (image_ID @ text_UD.T)[:, place_C]
        return Scores(kind="similarity", score_IC=score_IC, seconds=time.perf_counter() - start)

    def _texts(self, captions: Sequence[str]) -> tuple[np.ndarray, list[int]]:
        """text_UD, float64, of the different captions in the order of their tokens, and where each caption is there."""
        row_C = [tuple(ids) for ids in self.model.tokenize(captions).tolist()]
        caption_of = dict(sorted(zip(row_C, captions, strict=True)))
        position = {row: u for u, row in enumerate(caption_of)}
        text_UD = self.model.encode_texts(list(caption_of.values())).cpu().numpy().astype(np.float64)
        return text_UD, [position[row] for row in row_C]

    def score_examples(self, examples: Iterable[Example], budget: Budget) -> Iterator[Scores]:
        """Scores example by example; every picture and caption is encoded once, whichever examples share it."""
        pictures: _Memory[str | Picture] = _Memory()
        texts: _Memory[bytes] = _Memory()
        for part in parts_of(examples, EXAMPLES_AT_ONCE):
            start = time.perf_counter()
            scores = [
                100 * image_ID @ text_CD.T for image_ID, text_CD in self._features(part, pictures, texts, budget.region)
            ]
            each = (time.perf_counter() - start) / len(part)
            yield from (Scores(kind="similarity", score_IC=score_IC, seconds=each) for score_IC in scores)

    def compare_captions(self, examples: Iterable[Example]) -> Iterator[Scores]:
        """100 times the cosine of every two captions of each example, score_IC [1, pairs]: (0, 1), (0, 2), ..., (1, 2).

        Each example is encoded by itself, so that nothing else that is scored can move a similarity.
        """
        for example in examples:
            start = time.perf_counter()
            with exactly(self.model.device):
                text_UD, place_C = self._texts(example.captions)
            first_P, second_P = np.triu_indices(len(place_C), k=1)
            text_CD = text_UD[place_C]
            score_P = 100 * (text_CD[first_P] * text_CD[second_P]).sum(axis=1)
            yield Scores(kind="similarity", score_IC=score_P[None], seconds=time.perf_counter() - start)

    def _features(
        self, part: Sequence[Example], pictures: _Memory[str | Picture], texts: _Memory[bytes], region: Region
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """(image_ID, text_CD) of each example, float64; what is remembered is not encoded again."""
        captions = list(dict.fromkeys(caption for example in part for caption in example.captions))
        row_of = dict(zip(captions, map(_row_key, self.model.tokenize(captions).numpy()), strict=True))
        caption_of = dict(sorted((row, caption) for caption, row in row_of.items()))
        shown = {p.key or p: p for example in part for p in example.images}
        with exactly(self.model.device):
            texts.fill(caption_of, lambda found: self.model.encode_texts(found))
            pictures.fill(shown, lambda found: self.model.encode_pictures(found, region))
        return [
            (
                pictures.rows([p.key or p for p in example.images]),
                texts.rows([row_of[caption] for caption in example.captions]),
            )
            for example in part
        ]


def _row_key(id_L: np.ndarray) -> bytes:
    """A caption's tokens as a key, in the order of the tokens and a tenth of a tuple's size."""
    key: bytes = id_L.astype(">u4").tobytes()
    return key


class _Memory(Generic[Key]):
    """Features by key; those used longest ago are forgotten.

    All lie in one array: rows by themselves, among a batch's large arrays, would leave holes that no other array fits.
    """

    def __init__(self) -> None:
        self._place: OrderedDict[Key, int] = OrderedDict()
        self._feature_PD = np.empty((0, 0), np.float32)

    def fill(self, items: Mapping[Key, Any], encode: Callable[[list[Any]], Tensor]) -> None:
        """Encode what is not remembered, all at once."""
        for key in items.keys() & self._place.keys():
            self._place.move_to_end(key)
        missing = [key for key in items if key not in self._place]
        if not missing:
            return
        features_KD = encode([items[key] for key in missing]).cpu().numpy()
        self._make_room(len(items), features_KD.shape[1])
        for key, feature_D in zip(missing, features_KD, strict=True):
            is_full = len(self._place) == len(self._feature_PD)
            place = self._place.popitem(last=False)[1] if is_full else len(self._place)
            self._feature_PD[place] = feature_D
            self._place[key] = place

    def _make_room(self, count: int, width: int) -> None:
        """At least `count` places, and as many as are remembered."""
        places = max(REMEMBERED, count)
        if places > len(self._feature_PD):
            roomy_PD = np.empty((places, width), np.float32)
            roomy_PD[: len(self._feature_PD)] = self._feature_PD.reshape(-1, width)
            self._feature_PD = roomy_PD

    def rows(self, keys: Sequence[Key]) -> np.ndarray:
        """features_KD, float64."""
        return self._feature_PD[[self._place[key] for key in keys]].astype(np.float64)
