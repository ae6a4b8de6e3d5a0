"""What the config files of a model must hold, as far as they are read, and reading them. Loads no library of models.

Whatever parses and has another shape, or numbers that no model has, is one sentence that names file and place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from sdsdemo.errors import UserError
from sdsdemo.models.weights import check_file
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped

NOT_SO = "The {file} of {name!r} is malformed ({why}): fetch or save the model again."
LARGEST = 10_000_000
"""Whole numbers beyond it are no size of a model: building one would fill the memory."""
SIZES_NOTHING = frozenset({"model_max_length", "max_pixels", "longest_edge", "rope_theta"})
"""Keys that may go beyond it: upper bounds of tokens and pixels, and a period. Qwen2-VL has 12,845,056 of pixels."""
LONGEST_TEXT = frozenset({"max_position_embeddings", "original_max_position_embeddings"})
"""Upper bounds too where places are rotations; a table of places is as long."""
MOST_LAYERS = 512


class TextConfig(TypedDict):
    """`model_cfg.text_cfg` of open_clip."""

    context_length: NotRequired[int]
    vocab_size: NotRequired[int]
    width: NotRequired[int]
    heads: NotRequired[int]
    layers: NotRequired[int]
    hf_tokenizer_name: NotRequired[str | None]
    hf_model_name: NotRequired[str | None]
    tokenizer_kwargs: NotRequired[dict[str, Any]]
    tokenizer_mode: NotRequired[str | None]


class VisionConfig(TypedDict):
    """`model_cfg.vision_cfg` of open_clip."""

    image_size: NotRequired[int | list[int]]
    patch_size: NotRequired[int | list[int] | None]
    layers: NotRequired[int | list[int]]
    width: NotRequired[int]
    head_width: NotRequired[int]


class ClipConfig(TypedDict):
    """`model_cfg` of open_clip."""

    embed_dim: int
    vision_cfg: VisionConfig
    text_cfg: TextConfig
    quick_gelu: NotRequired[bool]


class PreprocessConfig(TypedDict):
    """`preprocess_cfg` of open_clip."""

    size: NotRequired[int | list[int]]
    mean: NotRequired[list[float] | None]
    std: NotRequired[list[float] | None]
    interpolation: NotRequired[str]
    resize_mode: NotRequired[str]
    fill_color: NotRequired[int]


class OpenClip(TypedDict):
    """open_clip_config.json."""

    model_cfg: ClipConfig
    preprocess_cfg: NotRequired[PreprocessConfig]


class PipelineIndex(TypedDict):
    """model_index.json, whose other keys name the library and the class of a part."""

    _class_name: str
    default_sample_size: NotRequired[int | None]
    force_zeros_for_empty_prompt: NotRequired[bool | None]


class UNet(TypedDict):
    """unet/config.json."""

    in_channels: NotRequired[int]
    sample_size: NotRequired[int | list[int] | None]
    block_out_channels: NotRequired[list[int]]


class Transformer(TypedDict):
    """transformer/config.json."""

    in_channels: NotRequired[int]
    sample_size: NotRequired[int | list[int] | None]
    patch_size: NotRequired[int | list[int] | None]


class Vae(TypedDict):
    """vae/config.json."""

    latent_channels: NotRequired[int]
    block_out_channels: NotRequired[list[int]]
    scaling_factor: NotRequired[float]
    shift_factor: NotRequired[float | None]


class TextEncoder(TypedDict):
    """text_encoder/config.json."""

    max_position_embeddings: NotRequired[int]
    vocab_size: NotRequired[int]


class Scheduler(TypedDict):
    """scheduler/scheduler_config.json."""

    _class_name: NotRequired[str]
    prediction_type: NotRequired[str]
    num_train_timesteps: NotRequired[int]
    beta_start: NotRequired[float]
    beta_end: NotRequired[float]
    beta_schedule: NotRequired[str]


class Tokenizer(TypedDict):
    """tokenizer_config.json."""

    model_max_length: NotRequired[int | float]
    tokenizer_class: NotRequired[str | None]


class LookShape(TypedDict):
    """How pictures are told from others, in knows.json: the fields of `domain.Look`."""

    backgrounds: list[list[int]]
    colours: list[list[int]]
    background_within: float
    border_share: float
    colour_within: float
    strange_share: float
    solid_share: float
    least_area: float
    most_objects: int
    covered: list[float]


class DomainFile(TypedDict):
    """knows.json."""

    words: list[str]
    look: LookShape


CONFIG_OF: dict[str, tuple[str, Any]] = {
    "unet": ("config.json", UNet),
    "transformer": ("config.json", Transformer),
    "vae": ("config.json", Vae),
    "text_encoder": ("config.json", TextEncoder),
    "scheduler": ("scheduler_config.json", Scheduler),
    "tokenizer": ("tokenizer_config.json", Tokenizer),
}
"""By kind of part: its config file and what that must hold."""


def kind_of(part: str) -> str:
    """What a part is, whichever of several: `text_encoder` for `text_encoder_2`."""
    return part.rstrip("_23")


def read_config(path: Path, shape: Any, name: str, unlimited: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A config of the model `name`, checked. Raises `UserError` naming the file and the first thing that is wrong.

    unlimited: keys that size nothing, beyond `SIZES_NOTHING`, where whoever builds the model measures it first.
    """
    check_file(path, name)
    try:
        open_ended = shape is Scheduler  # diffusers writes -Infinity for the lambda_min_clipped of a DPM solver
        value: dict[str, Any] = shaped(from_json(path.read_bytes(), allow_nan=open_ended), shape)
        check_values(value, unlimited=SIZES_NOTHING | unlimited)
    except (OSError, ValueError) as error:
        raise UserError(NOT_SO.format(file=path.name, name=name, why=ascii(str(error)[:200])[1:-1])) from error
    return value


def check_values(value: Any, place: str = "", unlimited: frozenset[str] = SIZES_NOTHING) -> None:
    """Raises `ValueError` for a number that no size, count or factor of a model can be, and for half a character.

    Also for an attention of another repository: transformers would fetch and run it, where the package kernels is here.
    """
    if isinstance(value, str):
        value.encode()  # an unpaired surrogate is a `ValueError`
        if "attn_implementation" in place and "/" in value:
            raise ValueError(f"{place} names code of another repository")
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode()
            check_values(item, f"{place}.{key}" if place else key, unlimited)
    elif isinstance(value, list):
        for item in value:
            check_values(item, place, unlimited)
    elif isinstance(value, int) and not isinstance(value, bool):
        key = place.rpartition(".")[2]
        most = MOST_LAYERS if "layers" in key else LARGEST
        if abs(value) > most and key not in unlimited:
            raise ValueError(f"{place} is {value:.6g}" if abs(value) < 10**300 else f"{place} is too large")
