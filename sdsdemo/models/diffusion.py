"""Latent text-to-image pipelines through diffusers, as scorer and trainer need them. Knows no CLIP and no cards file.

Scaling and shift, latent size, prediction type, noise levels and native resolution are read from the pipeline's own
config, and the pipeline itself is never changed. Pictures become squares: their middle, where nothing else is asked.

Shape suffixes: I image, C caption, B batch, L token, D width, W inner features.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL.Image import Image
from torch import Tensor

from sdsdemo.captions.cleaning import clean_caption, clean_captions
from sdsdemo.core.noising import NoiseSchedule
from sdsdemo.errors import UserError
from sdsdemo.models.building import builds_alone
from sdsdemo.models.frozen import frozen_view
from sdsdemo.models.half_gradients import HalfGradients
from sdsdemo.models.images import clean, fit
from sdsdemo.models.memory import is_out_of_memory
from sdsdemo.models.pipeline_facts import context_length, latent_shape, shift_of, variance_preserving
from sdsdemo.models.pipeline_parts import Parts, load_parts, parts_of
from sdsdemo.models.precision import pick_precision
from sdsdemo.models.prompt_keys import read_ahead, wide_states
from sdsdemo.models.tokenizer_checks import TokenRow, check_ids, check_tokenizer, joined, rows_kept, token_row
from sdsdemo.models.unet_parts import check_unet, is_unet, middle_block
from sdsdemo.settings import AUTO
from sdsdemo.types import Region

log = logging.getLogger(__name__)
transformers.logging.disable_progress_bar()  # its bar over the weights of one small file garbles the shell's own lines

NO_FIT = (
    "The parts of {name!r} do not fit together{why}: restore its configs, fetch or save the model again, "
    "or choose another one."
)
CPU_BYTES = 2_000_000_000
"""What one call of the denoiser may hold in activations where memory is not asked."""
BYTES_PER_ELEMENT = 6_000
"""Activations a latent element and byte of precision; Stable Diffusion 1 needs about this, with memory to spare."""
MOST_AT_ONCE = 64
PIXELS_AT_ONCE = 131_072
"""Pixels that are decoded at once: 32 of Mini's pictures, one of Stable Diffusion's."""
LONGEST_REASON = 160
"""Characters of a library's own error that a sentence quotes."""


class LatentDiffusion:
    """A Stable-Diffusion-shaped pipeline: one text encoder, a UNet that predicts epsilon or v. Frozen, in eval mode.

    Denoiser and text encoders run in the precision that `precision.pick_precision` picks, while VAE, noising and errors
    stay in single. Another family is a subclass in `models/families/` that replaces the methods between
    `read_schedule` and `denoise` as far as it differs.

    A condition is a tensor or a tuple of tensors, with a row a prompt in each.
    """

    GPU_PRECISION = torch.float16

    def __init__(self, parts: Parts, *, name: str, device: torch.device | str = "cpu", precision: str = AUTO) -> None:
        """`parts` keep their precision, mode and flags: what is used here are views that share their weights.

        Raises `UserError` when the parts do not fit together or are of a kind that is not supported.
        """
        self.device = torch.device(device)
        parameters = sum(weight.numel() for weight in parts.denoiser.state_dict().values())
        self.dtype = pick_precision(precision, self.device, parameters, self.GPU_PRECISION)
        self.name = name
        self.denoiser = frozen_view(parts.denoiser, self.device, self.dtype)
        self._projections = read_ahead(self.denoiser)
        self.vae = frozen_view(parts.vae, self.device, torch.float32)  # in half precision some overflow
        self.text_encoders = [frozen_view(encoder, self.device, self.dtype) for encoder in parts.text_encoders]
        self.tokenizers = parts.tokenizers
        self.scheduler = parts.scheduler
        self.schedule = self.read_schedule(parts.scheduler)
        self.named_pixels = parts.pixels
        self.empty_is_zeros = parts.empty_is_zeros
        self.latent_shape = self.read_latent_shape()
        self.pixels = self.latent_shape[1] * self.latent_pixels
        self.context_lengths = self.read_context_lengths()
        self._row_of = lru_cache(maxsize=rows_kept(sum(self.context_lengths)))(self._row)
        for tokenizer, encoder, ids_CL in zip(self.tokenizers, self.text_encoders, self._ids([""]), strict=True):
            check_tokenizer(tokenizer, name)
            check_ids(int(ids_CL.max()), encoder.get_input_embeddings().num_embeddings, name)

    @classmethod
    @builds_alone
    def from_pipeline(
        cls, pipeline: Any, *, device: torch.device | str = "cpu", precision: str = AUTO
    ) -> LatentDiffusion:
        """Scores with the weights of a pipeline of this family that the caller holds; it stays as it was.

        Raises `UserError` where its parts do not fit together.
        """
        model = cls(parts_of(pipeline), name=type(pipeline).__name__, device=device, precision=precision)
        model.check_runs()
        return model

    @classmethod
    @builds_alone
    def from_folder(
        cls, folder: Path, *, name: str, device: torch.device | str = "cpu", precision: str = AUTO
    ) -> LatentDiffusion:
        """Loads the parts one by one with the classes that `model_index.json` names. Raises `UserError`."""
        where = torch.device(device)
        parts = load_parts(folder, name, lambda count: pick_precision(precision, where, count, cls.GPU_PRECISION))
        try:
            model = cls(parts, name=name, device=device, precision=precision)
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
        try:
            black_I = torch.zeros(1, 3, *[self.least_side() * self.latent_pixels] * 2)
            latent_I = self.encode_pixels(black_I)
            output = self.denoise(latent_I, torch.zeros(1, dtype=torch.long), self.encode_prompts([""]))
            if output.shape != latent_I.shape:
                raise ValueError(f"the denoiser answers {_size(latent_I)} numbers with {_size(output)}")
        except Exception as error:  # what parts that do not fit together come to is an open set
            if is_out_of_memory(error):
                raise
            raise UserError(NO_FIT.format(name=self.name, why=_in_words(error))) from error

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """id_CL, int64, of the cleaned prompts, padded and cut as the pipeline does it; of all tokenizers in a row."""
        return torch.cat(self._ids(prompts), dim=1)

    @property
    def context_length(self) -> int:
        """Tokens of a caption that are read at most, by one text encoder or another."""
        return max(self.context_lengths)

    def token_ids(self, caption: str) -> TokenRow:
        """A caption as the text encoder meets it, and whether its end was cut."""
        return self._row_of(clean_caption(caption))

    def _row(self, text: str) -> TokenRow:
        id_L, (plain,), lengths = self.tokenize([text])[0].tolist(), self.cleaned([text]), self.context_lengths
        cut_K = [self.length_of(k, text) > length for k, length in enumerate(lengths)]
        rows = (token_row(reads, plain, id_L, cut=cut) for reads, cut in zip(self.tokenizers, cut_K, strict=True))
        return joined(list(rows), lengths, text, plain)

    def _ids(self, prompts: Sequence[str]) -> list[Tensor]:
        return [self.tokenized(k, prompts)["input_ids"] for k in range(len(self.tokenizers))]

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
        return self.normalised(mean_I)

    def decode_latents(self, latent_I: Tensor) -> np.ndarray:
        """The pictures of latents, uint8 [I, pixels, pixels, 3]; grey where a latent is not a number."""
        raw_I = self.as_vae_gave(latent_I.to(self.device))
        at_once = max(1, PIXELS_AT_ONCE // self.pixels**2)
        parts = torch.split(raw_I, at_once)
        decoded_I = torch.cat([self.vae.decode(part_I, return_dict=False)[0].cpu() for part_I in parts])
        level_I = (decoded_I.nan_to_num(0.0) / 2 + 0.5).clamp(0, 1)
        picture_I: np.ndarray = (level_I * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        return picture_I

    def take(self, condition_C: Any, index_B: Tensor) -> Any:
        """condition_B: row index_B[b] for sample b; one row for all of them is not copied."""
        if isinstance(condition_C, tuple):
            return tuple(self.take(part_C, index_B) for part_C in condition_C)
        if len(index_B) > 1 and bool((index_B == index_B[0]).all()):
            return condition_C[index_B[0]].expand(len(index_B), *condition_C.shape[1:])
        return condition_C[index_B.to(condition_C.device)]

    def read_ahead(self, condition_C: Any) -> Any:
        """The same condition with what does not change from evaluation to evaluation computed (`prompt_keys`)."""
        if isinstance(condition_C, tuple):
            return self.read_ahead(condition_C[0]), *condition_C[1:]
        return wide_states(self._projections, condition_C)

    def join(self, conditions: Sequence[Any]) -> Any:
        """condition_C of conditions that `take` gave, one after another."""
        if isinstance(conditions[0], tuple):
            return tuple(self.join(parts) for parts in zip(*conditions, strict=True))
        return torch.cat(list(conditions))

    def read_schedule(self, scheduler: Any) -> NoiseSchedule:
        """The noise levels that the model was trained with. Raises `UserError` for targets that are not supported."""
        return variance_preserving(scheduler, self.name)

    def read_latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) that the denoiser is at home with. Raises `UserError` where no config tells."""
        return latent_shape(self.denoiser.config, self.vae.config, self.name, self.named_pixels // self.latent_pixels)

    def read_context_lengths(self) -> tuple[int, ...]:
        """For each text encoder the tokens that prompts are padded to."""
        return tuple(map(context_length, self.tokenizers, self.text_encoders))

    @property
    def latent_pixels(self) -> int:
        """Pixels a side of one element of the latent."""
        return 1 << len(self.vae.config.block_out_channels) - 1

    def least_side(self) -> int:
        """Elements a side of a latent on which the denoiser can be tried."""
        config = self.denoiser.config
        least = 1 << len(config.block_out_channels) if self.has_unet else config.patch_size
        return min(self.latent_shape[1], least)

    def normalised(self, mean_I: Tensor) -> Tensor:
        """latent_I as the denoiser takes it, from the VAE's posterior mean."""
        config = self.vae.config
        latent_I: Tensor = (mean_I - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor
        return latent_I

    def as_vae_gave(self, latent_I: Tensor) -> Tensor:
        """The inverse of `normalised`."""
        config = self.vae.config
        mean_I: Tensor = latent_I / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        return mean_I

    def cleaned(self, prompts: Sequence[str]) -> list[str]:
        """The prompts as the pipeline cleans them."""
        return clean_captions(prompts)

    def worded(self, prompts: Sequence[str]) -> list[str]:
        """The prompts as they go to the tokenizers: cleaned, with what the pipeline writes around them."""
        return self.cleaned(prompts)

    def length_of(self, k: int, text: str) -> int:
        """Tokens of a whole text in the k-th tokenizer, with the marks around it."""
        return len(self.tokenizers[k](*self.worded([text]), truncation=False, verbose=False)["input_ids"])

    def tokenized(self, k: int, prompts: Sequence[str]) -> Any:
        """What the k-th tokenizer makes of the cleaned prompts, padded and cut: `input_ids` and `attention_mask`."""
        return self.tokenizers[k](
            self.worded(prompts),
            padding="max_length",
            max_length=self.context_lengths[k],
            truncation=True,
            return_tensors="pt",
        )

    def encode_prompts(self, prompts: Sequence[str]) -> Any:
        """condition_C: the text encoder's first output, [C, L, D]; for "" what the pipeline's guidance moves from."""
        tokens, encoder = self.tokenized(0, prompts), self.text_encoders[0]
        wants_mask = getattr(encoder.config, "use_attention_mask", False)
        mask_CL = tokens["attention_mask"].to(self.device) if wants_mask else None
        return encoder(tokens["input_ids"].to(self.device), attention_mask=mask_CL)[0]

    def drawn_over(self, scheduler: Any, steps: int) -> dict[str, Any]:
        """What the pipeline tells a flow's scheduler of the noise levels of a drawing: mu of its shift, and sigmas."""
        is_shifted = scheduler.config.use_dynamic_shifting
        return {"mu": shift_of(scheduler, self.drawn_tokens)} if is_shifted else {}

    @property
    def drawn_tokens(self) -> int:
        """Tokens of a picture, on which the shift depends."""
        return int(self.latent_shape[1] // self.denoiser.config.patch_size) ** 2

    def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """The denoiser's output for a batch, float32; the `denoise` of `losses`."""
        noisy_B, timestep_B = noisy_B.to(self.device), timestep_B.to(self.device)
        if self.dtype == torch.float16 and torch.is_grad_enabled() and noisy_B.requires_grad:
            ends = HalfGradients()
            seen_B = ends.lower(noisy_B.float()).to(self.dtype)
            return ends.raise_(self.predict(seen_B, timestep_B, condition_B).float())
        return self.predict(noisy_B.to(self.dtype), timestep_B, condition_B).float()

    def predict(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """What `schedule.prediction` names, from inputs in the model's place and precision."""
        output_B: Tensor = self.denoiser(noisy_B, timestep_B, encoder_hidden_states=condition_B, return_dict=False)[0]
        return output_B

    @property
    def has_unet(self) -> bool:
        """Whether the denoiser is a UNet, and no transformer."""
        return is_unet(self.denoiser)

    def check_unet(self, what: str, *, instead: str) -> None:
        """Raises `UserError` where the denoiser is a transformer. what: for which it must not be one."""
        check_unet(self.denoiser, self.name, what, instead)

    @property
    def inner_width(self) -> int:
        """W of `inner_features`."""
        middle_block(self.denoiser, self.name)
        return int(self.denoiser.config.block_out_channels[-1])

    def inner_features(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """feature_BW: the output of the UNet's middle block, a mean over places, float32."""
        found: list[Tensor] = []
        middle = middle_block(self.denoiser, self.name)
        hook = middle.register_forward_hook(lambda module, given, output: found.append(output))
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
