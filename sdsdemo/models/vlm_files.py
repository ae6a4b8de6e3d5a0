"""The files of a vision-language model: its module and its processor, by the classes that its configs name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sdsdemo.errors import UserError
from sdsdemo.models.transformers_files import read_any_config
from sdsdemo.models.transformers_module import NEVER_REMOTE, load_module

OTHER_KIND = (
    "{name!r} is a model of type {kind!r}, which answers no questions about a picture: name one that transformers "
    "loads by AutoModelForImageTextToText, such as HuggingFaceTB/SmolVLM-256M-Instruct."
)
NO_PROCESSOR = "The processor of {name!r} is missing or broken: fetch or save the model again."
MORE_PACKAGES = "The processor of {name!r} needs another package: install it with pip ({why})."


def load_vlm_module(folder: Path, name: str, dtype: torch.dtype) -> Any:
    """The library's model by the type that its config names. Raises `UserError`."""
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    kind = read_any_config(folder, name)["model_type"]
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise UserError(OTHER_KIND.format(name=name, kind=ascii(kind[:60])[1:-1]))

    def config_of(place: Path) -> Any:
        return AutoConfig.from_pretrained(place, **NEVER_REMOTE)

    def build(config: Any) -> Any:
        return AutoModelForImageTextToText.from_config(config, trust_remote_code=False)

    return load_module(AutoModelForImageTextToText, folder, name, config_of=config_of, build=build, dtype=dtype)


def load_processor(folder: Path, name: str) -> Any:
    """The processor of a folder: its tokenizer, its preprocessing and its chat template. Raises `UserError`."""
    from transformers import AutoProcessor

    try:
        processor: Any = AutoProcessor.from_pretrained(folder, **NEVER_REMOTE)
        tokenizer, _ = processor.tokenizer, processor.image_processor
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
    except ImportError as error:
        raise UserError(MORE_PACKAGES.format(name=name, why=ascii(str(error)[:200])[1:-1])) from error
    except Exception as error:  # what a strange file makes of the library's constructors is an open set
        raise UserError(NO_PROCESSOR.format(name=name)) from error
    return processor
