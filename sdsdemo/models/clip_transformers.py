"""CLIP and SigLIP through transformers: `CLIPModel` and `SiglipModel`, as released distillations come.

    s(i, c) = 100 * cos( f(i), g(c) )                  Radford et al. 2021 (arXiv 2103.00020), for both kinds

SigLIP (Zhai et al. 2023, arXiv 2303.15343, eq. 1) is trained on sigmoid( t cos + b ): temperature t > 0 and bias b are
the same for every pair, and a sigmoid rises, so that its probabilities order captions and pictures as the cosine does
(and differences of 100 * cos keep their meaning where a probability is 0 or 1 to rounding).

SigLIP was trained on lower-case captions padded on the right to the full length, without a mask: its text tower reads
the last place. CLIP reads the place of the end of text, behind which padding changes nothing.

Pictures go through transformers' preprocessing on Pillow, as these models were trained; its torchvision variant, which
it takes by default today, rounds some pixels otherwise.

Shape suffixes: I image, C caption, L token, D feature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from sdsdemo.errors import UserError
from sdsdemo.models.clip_towers import NO_FIT, TwoTowers
from sdsdemo.models.tokenizer_checks import check_ids, check_tokenizer
from sdsdemo.models.transformers_files import (
    check_folder,
    find_folder,
    pixels_config,
    read_model_config,
)
from sdsdemo.models.transformers_module import NEVER_REMOTE, load_module
from sdsdemo.types import Region

PROBE = "a red star left of a blue circle"
NO_TOKENIZER = "The tokenizer of {name!r} is missing or broken: fetch or save the model again."
NO_SENTENCEPIECE = (
    "The tokenizer of {name!r} is a sentencepiece model, which transformers reads with two more packages: "
    "`pip install sentencepiece protobuf`."
)
OTHER_PIXELS = (
    "{name!r} prepares pictures in a way that is not known here ({why}): give it the processor_config.json or "
    "preprocessor_config.json of the model that it was trained from."
)


class TransformersClip(TwoTowers):
    """A CLIP or SigLIP from transformers."""

    cure = "Set `eos_token_id` in text_config to the end of text of its tokenizer."

    def __init__(self, module: Any, tokenizer: Any, processor: Any, *, name: str) -> None:
        """processor: an image processor of transformers that works on Pillow's pictures."""
        self.name = name
        self.is_siglip = module.config.model_type == "siglip"
        self._region = region_of_processor(processor, name)
        length = int(module.config.text_config.max_position_embeddings)
        super().__init__(module, tokenizer, _preprocess(processor), context_length=length)

    @classmethod
    def load(
        cls,
        spec: str,
        *,
        revision: str | None = None,
        device: torch.device | str = "cpu",
        allow_download: bool = False,
    ) -> TransformersClip:
        """The model of a `transformers:` spec; a revision in the spec goes before the argument.

        Raises `UserError` for weights that are not here, pickled, broken or of another config, for a tokenizer that
        does not fit the model, and for a text tower that gives different captions one feature.
        """
        folder, name = find_folder(spec, revision=revision, allow_download=allow_download)
        check_folder(folder, name)
        module = _module(folder, name).to(device)
        try:
            model = cls(module, _tokenizer(folder, name), _processor(folder, name), name=name)
            check_ids(int(model._ids([PROBE]).max()), int(module.config.text_config.vocab_size), name)
            model.check_pooling()
            model.check_pixels()
        except UserError:
            raise
        except Exception as error:  # what settings that do not fit together come to is an open set
            raise UserError(NO_FIT.format(model=name)) from error
        return model

    @property
    def called(self) -> str:
        """The repository, or the folder without its path."""
        return self.name

    @property
    def own_region(self) -> Region:
        """What of a picture its own preprocessing takes."""
        return self._region

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pixels that it takes."""
        size = self.module.config.vision_config.image_size
        return (size, size) if isinstance(size, int) else tuple(size)

    def _ids(self, texts: Sequence[str]) -> Tensor:
        found = self.tokenizer(
            [self._read(text) for text in texts],
            padding="max_length",
            truncation=True,
            max_length=self.context_length,
            return_tensors="pt",
        )
        id_CL: Tensor = found["input_ids"]
        return id_CL

    def _is_cut(self, text: str, row_L: Tensor) -> bool:
        return len(self.tokenizer(self._read(text), verbose=False)["input_ids"]) > len(row_L)

    def _read(self, text: str) -> str:
        return text.lower() if self.is_siglip else text

    def _text_features(self, id_CL: Tensor) -> Tensor:
        return _normalised(self.module.get_text_features(input_ids=id_CL))

    def _image_features(self, input_I: Tensor) -> Tensor:
        return _normalised(self.module.get_image_features(pixel_values=input_I))


def region_of_processor(processor: Any, name: str) -> Region:
    """What of a picture transformers' preprocessing takes. Raises `UserError` where it is no square of one size."""
    size, crop = processor.size, processor.crop_size if processor.do_center_crop else None
    if not (processor.do_resize and processor.do_rescale and processor.do_normalize):
        raise UserError(OTHER_PIXELS.format(name=name, why="it leaves pictures unscaled"))
    if size.height and size.width and (crop is None or (crop.height, crop.width) == (size.height, size.width)):
        return "squash"
    if size.shortest_edge and not size.longest_edge and crop is not None and crop.height <= size.shortest_edge:
        return "crop"
    raise UserError(OTHER_PIXELS.format(name=name, why="its sizes give no picture of one size"))


def _module(folder: Path, name: str) -> Any:
    """The library's model in single precision. Raises `UserError`."""
    import transformers

    kind = read_model_config(folder, name)["model_type"]
    model: Any = {"clip": transformers.CLIPModel, "siglip": transformers.SiglipModel}[kind]

    def config_of(place: Path) -> Any:
        return model.config_class.from_pretrained(place, local_files_only=True)

    return load_module(model, folder, name, config_of=config_of, build=model)


def _tokenizer(folder: Path, name: str) -> Any:
    """The tokenizer of a folder, padding on the right. Raises `UserError`."""
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="right", **NEVER_REMOTE)
    except ImportError as error:
        raise UserError(NO_SENTENCEPIECE.format(name=name)) from error
    except Exception as error:  # what a strange file makes of the tokenizer's constructors is an open set
        raise UserError(NO_TOKENIZER.format(name=name)) from error
    check_tokenizer(tokenizer, name)
    return tokenizer


def _processor(folder: Path, name: str) -> Any:
    """The image processor of a folder, on Pillow. Raises `UserError` for one that is neither CLIP's nor SigLIP's."""
    from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

    described = pixels_config(folder, name)
    usual = "CLIP" if read_model_config(folder, name)["model_type"] == "clip" else "Siglip"
    kind = str(described.get("image_processor_type") or described.get("feature_extractor_type") or usual)
    makers: dict[str, Any] = {"CLIP": CLIPImageProcessorPil, "Siglip": SiglipImageProcessorPil}
    for start, maker in makers.items():
        if kind == start or kind.startswith((f"{start}ImageProcessor", f"{start}FeatureExtractor")):
            return maker.from_dict(dict(described))
    raise UserError(OTHER_PIXELS.format(name=name, why=ascii(kind[:60])[1:-1]))


def _preprocess(processor: Any) -> Callable[[Image], Tensor]:
    """A picture to the model's input, without a batch."""

    def preprocess(image: Image) -> Tensor:
        pixel_I: Tensor = processor(image, return_tensors="pt")["pixel_values"]
        return pixel_I[0].float()

    return preprocess


def _normalised(found: Any) -> Tensor:
    """features, float32, of what `get_text_features` or `get_image_features` answers."""
    feature: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return nn.functional.normalize(feature.float(), dim=-1)
