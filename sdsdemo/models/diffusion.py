"""Latent text-to-image pipelines through diffusers, as scorer and trainer need them. Knows no CLIP and no cards file.

Scaling and shift, latent size, prediction type, noise levels and native resolution are read from the pipeline's own
config, and the pipeline itself is never changed. Pictures become squares: their middle, where nothing else is asked.

Shape suffixes: I image, C caption, B batch, L token, D width, W inner features.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL.Image import Image
from torch import Tensor, nn

from sdsdemo.captions.cleaning import clean_caption, clean_captions
from sdsdemo.core.noising import NoiseSchedule, Prediction
from sdsdemo.errors import UserError
from sdsdemo.models.building import builds_alone
from sdsdemo.models.diffusion_files import find_pipeline, load_part
from sdsdemo.models.images import clean, fit
from sdsdemo.models.pipelines import read_index
from sdsdemo.models.tokenizer_checks import TokenRow, check_ids, check_tokenizer, token_row
from sdsdemo.types import Region

log = logging.getLogger(__name__)
transformers.logging.disable_progress_bar()  # its bar over the weights of one small file garbles the shell's own lines

NO_FIT = (
    "The parts of {name!r} do not fit together{why}: restore its configs, fetch or save the model again, "
    "or choose another one."
)
PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}
CPU_BYTES = 2_000_000_000
"""What one call of the denoiser may hold in activations where memory is not asked."""
BYTES_PER_ELEMENT = 6_000
"""Activations a latent element and byte of precision; Stable Diffusion 1 needs about this, with memory to spare."""
MOST_AT_ONCE = 64
PIXELS_AT_ONCE = 131_072
"""Pixels that are decoded at once: 32 of Mini's pictures, one of Stable Diffusion's."""
LONGEST_REASON = 160
"""Characters of a library's own error that a sentence quotes."""
REMEMBERED = 20_000
"""Captions whose tokens are kept."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a pipeline that scoring needs."""

    denoiser: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any


class LatentDiffusion:
    """A Stable-Diffusion-shaped pipeline: one text encoder, a UNet that predicts epsilon or v. Frozen, in eval mode.

    Single precision on the CPU; half precision on a GPU for denoiser and text encoder, while VAE, noising and errors
    stay in single. A family with other conditions or flow targets is a subclass with its own `schedule`,
    `encode_prompts`, `take` and `denoise`, and a line in `FAMILIES`.
    """

    def __init__(self, parts: Parts, *, name: str, device: torch.device | str = "cpu") -> None:
        """`parts` keep their precision, mode and flags: what is used here are views that share their weights.

        Raises `UserError` when the parts do not fit together or are of a kind that is not supported.
        """
        self.device = torch.device(device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.name = name
        self.denoiser = frozen_view(parts.denoiser, self.device, self.dtype)
        self.vae = frozen_view(parts.vae, self.device, torch.float32)  # in half precision some overflow
        self.text_encoder = frozen_view(parts.text_encoder, self.device, self.dtype)
        self.tokenizer = parts.tokenizer
        self.schedule = _schedule(parts.scheduler, name)
        self.latent_shape = _latent_shape(parts, name)
        self.pixels = self.latent_shape[1] * _vae_factor(parts.vae)
        self.context_length = _context_length(parts)
        self._row_of = lru_cache(maxsize=REMEMBERED)(self._row)
        check_tokenizer(self.tokenizer, name)
        check_ids(int(self.tokenize([""]).max()), self.text_encoder.get_input_embeddings().num_embeddings, name)

    @classmethod
    @builds_alone
    def from_pipeline(cls, pipeline: Any, *, device: torch.device | str = "cpu") -> LatentDiffusion:
        """Scores with the weights of a `StableDiffusionPipeline` that the caller holds; it stays as it was.

        Raises `UserError` where its parts do not fit together.
        """
        parts = Parts(
            denoiser=pipeline.unet,
            vae=pipeline.vae,
            text_encoder=pipeline.text_encoder,
            tokenizer=pipeline.tokenizer,
            scheduler=pipeline.scheduler,
        )
        model = cls(parts, name=type(pipeline).__name__, device=device)
        model.check_runs()
        return model

    @classmethod
    @builds_alone
    def from_folder(cls, folder: Path, *, name: str, device: torch.device | str = "cpu") -> LatentDiffusion:
        """Loads the parts one by one with the classes that `model_index.json` names. Raises `UserError`."""
        index = read_index(folder, name)
        loaded = {
            field: load_part(folder, part, index.get(part), name)
            for field, part in {"denoiser": "unet", **{p: p for p in PARTS}}.items()
        }
        loaded["denoiser"].to(memory_format=torch.channels_last)  # a sixth quicker on a CPU
        try:
            model = cls(Parts(**loaded), name=name, device=device)
        except UserError:
            raise
        except Exception as error:  # what configs that do not fit together come to is an open set
            raise UserError(NO_FIT.format(name=name, why="")) from error
        model.check_runs()
        return model

    @torch.inference_mode()
    def check_runs(self) -> None:
        """Runs each part once, on a black picture of a few latents. Raises `UserError` where one cannot take the other.

        Configs alone do not tell: a UNet that waits for other conditions loads like any other.
        """
        side = min(self.latent_shape[1], 2 ** len(self.denoiser.config.block_out_channels))
        try:
            black_I = torch.zeros(1, 3, *[side * _vae_factor(self.vae)] * 2)
            latent_I = self.encode_pixels(black_I)
            output = self.denoise(latent_I, torch.zeros(1, dtype=torch.long), self.encode_prompts([""]))
            if output.shape != latent_I.shape:
                raise ValueError(f"the UNet answers {_size(latent_I)} numbers with {_size(output)}")
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # what parts that do not fit together come to is an open set
            raise UserError(NO_FIT.format(name=self.name, why=_in_words(error))) from error

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """id_CL, int64, of the cleaned prompts, padded and cut to `context_length` as the pipeline does it."""
        id_CL: Tensor = self._tokenized(prompts)["input_ids"]
        return id_CL

    def token_ids(self, caption: str) -> TokenRow:
        """A caption as the text encoder meets it, and whether its end was cut."""
        return self._row_of(clean_caption(caption))

    def _row(self, text: str) -> TokenRow:
        whole = self.tokenizer(text, truncation=False, verbose=False)["input_ids"]
        cut = len(whole) > self.context_length
        return token_row(self.tokenizer, text, self.tokenize([text])[0].tolist(), cut=cut)

    def region_of(self, region: Region) -> Region:
        """The region itself, with `own` as the middle square, as pipelines are trained."""
        return "crop" if region == "own" else region

    def encode_images(self, images: Sequence[Image], region: Region = "own") -> Tensor:
        """latent_I, float32 [I, *latent_shape]: mean of the VAE's posterior, shifted and scaled for the denoiser."""
        pixels_I = [_as_input(fit(clean(image), self.pixels, self.region_of(region))) for image in images]
        return torch.cat([self.encode_pixels(pixels[None]) for pixels in pixels_I])

    def encode_pixels(self, pixels_I: Tensor) -> Tensor:
        """latent_I of float32 [I, 3, H, W] in -1 to 1, all at once."""
        mean_I: Tensor = self.vae.encode(pixels_I.to(self.device)).latent_dist.mean
        config = self.vae.config
        latent_I: Tensor = (mean_I - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor
        return latent_I

    def decode_latents(self, latent_I: Tensor) -> np.ndarray:
        """The pictures of latents, uint8 [I, pixels, pixels, 3]; grey where a latent is not a number."""
        config = self.vae.config
        raw_I = latent_I.to(self.device) / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        at_once = max(1, PIXELS_AT_ONCE // self.pixels**2)
        decoded_I = torch.cat([self.vae.decode(part_I, return_dict=False)[0].cpu() for part_I in raw_I.split(at_once)])
        level_I = (decoded_I.nan_to_num(0.0) / 2 + 0.5).clamp(0, 1)
        picture_I: np.ndarray = (level_I * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        return picture_I

    def encode_prompts(self, prompts: Sequence[str]) -> Any:
        """condition_C: the text encoder's first output, [C, L, D]."""
        tokens = self._tokenized(prompts)
        wants_mask = getattr(self.text_encoder.config, "use_attention_mask", False)
        mask_CL = tokens["attention_mask"].to(self.device) if wants_mask else None
        return self.text_encoder(tokens["input_ids"].to(self.device), attention_mask=mask_CL)[0]

    def take(self, condition_C: Any, index_B: Tensor) -> Any:
        """condition_B: row index_B[b] for sample b."""
        return condition_C[index_B]

    def join(self, conditions: Sequence[Any]) -> Any:
        """condition_C of conditions that `take` gave, one after another."""
        return torch.cat(list(conditions))

    def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """The denoiser's output for a batch, float32; the `denoise` of `losses`."""
        noisy_B, timestep_B = noisy_B.to(self.device, self.dtype), timestep_B.to(self.device)
        output: Tensor = self.denoiser(noisy_B, timestep_B, encoder_hidden_states=condition_B, return_dict=False)[0]
        return output.float()

    @property
    def inner_width(self) -> int:
        """W of `inner_features`."""
        return int(self.denoiser.config.block_out_channels[-1])

    def inner_features(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """feature_BW: the output of the denoiser's middle block, a mean over places, float32."""
        found: list[Tensor] = []
        hook = self.denoiser.mid_block.register_forward_hook(lambda module, given, output: found.append(output))
        try:
            self.denoise(noisy_B, timestep_B, condition_B)
        finally:
            hook.remove()
        return found[0].float().mean(dim=(2, 3))

    def default_micro_batch(self) -> int:
        """Samples that one call of the denoiser takes: 64 for small latents, fewer as memory asks."""
        elements = int(np.prod(self.latent_shape))
        sample = elements * self.dtype.itemsize * BYTES_PER_ELEMENT
        free = torch.cuda.mem_get_info(self.device)[0] // 2 if self.device.type == "cuda" else CPU_BYTES
        return max(1, min(MOST_AT_ONCE, free // sample))

    def _tokenized(self, prompts: Sequence[str]) -> Any:
        return self.tokenizer(
            clean_captions(prompts),
            padding="max_length",
            max_length=self.context_length,
            truncation=True,
            return_tensors="pt",
        )


PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")
"""Parts whose field in `Parts` has the name of their folder."""
FAMILIES: dict[str, type[LatentDiffusion]] = {"StableDiffusionPipeline": LatentDiffusion}
"""By the class that `model_index.json` names: one for each of `pipelines.SUPPORTED`."""


def load_diffusion(
    spec: str, *, revision: str | None = None, device: torch.device | str = "cpu", allow_download: bool = False
) -> LatentDiffusion:
    """The model of a `diffusers:` spec; a revision in the spec goes before the argument.

    Raises `UserError` for weights that are not here or broken, and for a pipeline of a family that is not supported.
    """
    folder, name = find_pipeline(spec, revision=revision, allow_download=allow_download)
    return FAMILIES[read_index(folder, name)["_class_name"]].from_folder(folder, name=name, device=device)


def frozen_view(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Any:
    """A module of its own with the same weights, without copying them where precision and place are right already.

    Its flags, mode, precision and place can be set without touching the module that was given.
    """
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    shared |= {id(b): b.detach() for b in module.buffers()}
    view = copy.deepcopy(module, shared).eval()
    return nn.Module.to(view, device=device, dtype=dtype)  # diffusers' own `to` warns whenever it meets a precision


def _schedule(scheduler: Any, name: str) -> NoiseSchedule:
    """The noise levels that the model was trained with. Raises `UserError` for a target that is not supported."""
    target = scheduler.config.get("prediction_type", "epsilon")
    alpha_bar_T = getattr(scheduler, "alphas_cumprod", None)
    if target not in PREDICTIONS or alpha_bar_T is None:
        kind = type(scheduler).__name__
        raise UserError(f"{name!r} predicts {target!r} with a {kind}; supported: {', '.join(PREDICTIONS)}.")
    alpha_bar_T = alpha_bar_T.detach().float().clone()
    if not bool(((alpha_bar_T >= 0) & (alpha_bar_T <= 1)).all()):
        raise UserError(f"The scheduler of {name!r} has noise levels that are not numbers from 0 to 1: save it again.")
    return NoiseSchedule(prediction=PREDICTIONS[target], alpha_bar=alpha_bar_T)


def _latent_shape(parts: Parts, name: str) -> tuple[int, int, int]:
    """(channels, height, width) that the denoiser is at home with."""
    unet, vae = parts.denoiser.config, parts.vae.config
    if unet.in_channels != vae.latent_channels:
        raise UserError(
            f"The denoiser of {name!r} takes {unet.in_channels} channels, but its VAE gives {vae.latent_channels}: it "
            "was made for a task other than text to image, so choose another model."
        )
    if not isinstance(unet.sample_size, int):
        raise UserError(f"The config of {name!r} does not name one native size: choose a model of square pictures.")
    return (unet.in_channels, unet.sample_size, unet.sample_size)


def _vae_factor(vae: Any) -> int:
    """Pixels a side of a latent's element."""
    factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
    return factor


def _context_length(parts: Parts) -> int:
    """Tokens that prompts are padded to: the tokenizer's, or the text encoder's where the tokenizer names none."""
    length = int(parts.tokenizer.model_max_length)
    return length if length < 100_000 else int(parts.text_encoder.config.max_position_embeddings)


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def _in_words(error: Exception) -> str:
    """The first line of a library's error, in brackets; nothing where it is about Python and not about numbers."""
    first = str(error).split("\n")[0] if isinstance(error, RuntimeError | ValueError) else ""
    line = " ".join(first.split())[:LONGEST_REASON]
    return f" ({ascii(line)[1:-1]})" if line else ""


def _as_input(image: Image) -> Tensor:
    """float32 [3, H, W] from -1 to 1."""
    return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1
