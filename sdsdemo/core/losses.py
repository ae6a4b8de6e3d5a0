"""The losses, as pure functions of tensors: the denoising error, L_CLIP and L_SDS. Draws no noise, loads no model.

    denoising error    e(z, t, eps, c) = mean over elements of ( eps_hat(x_t, t, c) - eps )^2       space "eps"
                       e(z, t, eps, c) = mean over elements of ( v_hat(x_t, t, c) - (eps - z) )^2   space "velocity"
    eps_hat            the output of an epsilon model;  sqrt(abar_t) v_hat + sqrt(1 - abar_t) x_t  of a v model
    fine-tuning        L = L_CLIP + lambda * L_SDS,    L_SDS = E e(h_w(f(x)), t, eps, c)
    alternatives       swapped captions c' as hard negatives in L_CLIP;   a teacher's preference for c over c'
    variants of L_SDS  e(h_w(f(x)), c) against e(h_w(f(x)), c');   || h_w(f(x)) - z ||^2

Only `denoising_residual` runs the network, and only `denoising_error` and `error_of` make e of what it returns. The
scorer calls them with z = VAE(image) and no gradient, training with z = h_w(f(x)) and a gradient.

x_t is that of `sdsdemo.core.noising`. Sources: Ho et al. 2020 (2006.11239) eq. 14; Salimans & Ho 2022 (2202.00512) for
v; Basu et al. 2023 (2307.09233) for L_SDS; Poole et al. 2022 (2209.14988) eq. 3 for `jacobian=False`.

Shape suffixes: B batch (followed by any latent shape), D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from sdsdemo.core.noising import NoiseSchedule, add_noise, size_of

Reduction = Literal["mean", "sum"]

Denoise = Callable[[Tensor, Tensor, Any], Tensor]
"""(noisy_B, timestep_B, condition_B) -> output_B, shaped like noisy_B. The condition is opaque: a tensor, a tuple..."""


def denoising_error(
    denoise: Denoise,
    schedule: NoiseSchedule,
    latent_B: Tensor,
    noise_B: Tensor,
    timestep_B: Tensor,
    condition_B: Any,
    *,
    jacobian: bool = True,
) -> Tensor:
    """e(z, t, eps, c) as in the module's docstring: error_B, float32, one number per sample.

    Arguments and errors raised are those of `denoising_residual`.

    jacobian=False gives the same values but the gradient of DreamFusion's SDS, which needs no backward pass through the
    network. It treats d eps_hat / d x_t as the identity (space "eps") and v_hat as a constant ("velocity"):

        2 sqrt(abar_t) (eps_hat - eps) / elements      2 (v_hat - (eps - z)) / elements

    Both point from the predicted clean latent to z; an epsilon and a v model that agree have the same gradient.
    """
    return error_of(
        denoising_residual(denoise, schedule, latent_B, noise_B, timestep_B, condition_B, jacobian=jacobian)
    )


def error_of(residual_B: Tensor) -> Tensor:
    """error_B, the mean square over the elements of each sample's residual."""
    return residual_B.square().flatten(1).mean(1)


def denoising_residual(
    denoise: Denoise,
    schedule: NoiseSchedule,
    latent_B: Tensor,
    noise_B: Tensor,
    timestep_B: Tensor,
    condition_B: Any,
    *,
    jacobian: bool = True,
) -> Tensor:
    """What e is the mean square of: residual_B, float32, shaped like the latent.

        eps_hat(x_t, t, c) - eps    space "eps"            v_hat(x_t, t, c) - (eps - z)    space "velocity"

    latent_B, noise_B: [B, ...], the same shape. timestep_B: [B], integers. condition_B: whatever `denoise` takes.
    The network receives x_t in the latent's precision; everything else is float32, because half precision cannot
    resolve the differences between captions. jacobian: as in `denoising_error`.

    Raises `ValueError` for shapes or timesteps that do not fit, including an output whose shape is not the latent's.
    """
    noisy_B = add_noise(schedule, latent_B, noise_B, timestep_B)
    seen_B = noisy_B if jacobian else noisy_B.detach()
    with torch.set_grad_enabled(jacobian and torch.is_grad_enabled()):
        output_B = denoise(seen_B.to(latent_B.dtype), timestep_B, condition_B)
    if output_B.shape != latent_B.shape:
        raise ValueError(
            f"denoise must return the shape of the latent, {size_of(latent_B)}; it returned {size_of(output_B)}"
        )
    if schedule.prediction == "flow":
        return output_B.float() - (noise_B.float() - latent_B.float())
    residual_B = _predicted_noise(schedule, output_B.float(), seen_B, timestep_B) - noise_B.float()
    if jacobian:
        return residual_B
    return residual_B + (noisy_B - seen_B)  # exactly zero; only carries the gradient


def clean_guess(schedule: NoiseSchedule, latent_B: Tensor, residual_B: Tensor, timestep_B: Tensor) -> Tensor:
    """z_hat, what the network takes the clean latent to be, from the residual that it left: [B, ...], float32.

        z_hat = ( x_t - sqrt(1 - abar_t) eps_hat ) / sqrt(abar_t) = z - sqrt( (1 - abar_t) / abar_t ) residual    "eps"
        z_hat = x_t - sigma_t v_hat                               = z - sigma_t residual                     "velocity"

    Source: Ho et al. 2020 (2006.11239) eq. 15.
    """
    level_B = schedule.levels(timestep_B, latent_B)
    factor_B = level_B if schedule.prediction == "flow" else ((1 - level_B) / level_B).sqrt()
    return latent_B.float() - factor_B * residual_B.float()


def clip_loss(
    image_features_BD: Tensor,
    text_features_BD: Tensor,
    logit_scale: Tensor | float,
    caption_B: Tensor | None = None,
) -> Tensor:
    """L_CLIP, a scalar: cross-entropy of each image against all texts and of each text against all images, averaged.

        L = ( CE(s F G^T) + CE(s G F^T) ) / 2,        CE_b = -log sum_c [caption c = caption b] p_bc

    image_features_BD, text_features_BD: [B, D], L2-normalised; row b of one belongs to row b of the other.
    logit_scale: s, already exponentiated, as open_clip's models return it.
    caption_B: an index per caption; equal captions share one, and each is right for every one of their images, so that
    L can still reach 0 (several positives as in MIL-NCE, Miech et al. 2020, 1912.06430; spreading the target over them,
    as UniCL does, gives the plain loss again, since their rows are summed). If None, or if all differ, one answer is
    right, and `open_clip.ClipLoss` computes L in float32 (Radford et al. 2021, 2103.00020, fig. 3).
    Raises `ValueError` unless the two are matrices of one shape.
    """
    if image_features_BD.dim() != 2 or image_features_BD.shape != text_features_BD.shape:
        raise ValueError(
            "image_features_BD and text_features_BD must be matrices of one shape; "
            f"they were {size_of(image_features_BD)} and {size_of(text_features_BD)}"
        )
    image_BD, text_BD = image_features_BD.float(), text_features_BD.float()
    if caption_B is None or _all_differ(caption_B):
        from open_clip import ClipLoss

        plain: Tensor = ClipLoss()(image_BD, text_BD, logit_scale)
        return plain
    by_image = _choice(logit_scale * image_BD @ text_BD.T, caption_B, caption_B)
    by_text = _choice(logit_scale * text_BD @ image_BD.T, caption_B, caption_B)
    return (by_image + by_text) / 2


def negatives_loss(
    image_features_BD: Tensor,
    text_features_BD: Tensor,
    twin_features_BD: Tensor,
    logit_scale: Tensor | float,
    caption_B: Tensor | None = None,
    twin_B: Tensor | None = None,
    *,
    weight: float = 1.0,
) -> Tensor:
    """L_CLIP with swapped captions as hard negatives, a scalar: each image chooses among 2B texts, each text among B.

        L = ( CE(s F [G; G']^T + [0; log w], own caption) + CE(s G F^T, own image) ) / 2

    twin_features_BD: G', [B, D], L2-normalised: row b is the swapped twin of caption b. A swapped caption has no image,
    so it makes no choice. caption_B, twin_B: indices of captions and twins, equal for equal texts: every text that
    equals an image's caption is right for it, whichever row it comes from. Otherwise as in `clip_loss`.
    weight: w > 0; each swap counts as w captions. With 1, as NegCLIP (Yuksekgonul et al. 2023, 2210.01936).
    Raises `ValueError` for shapes that do not fit, or another weight.
    """
    if not (weight > 0 and math.isfinite(weight)):
        raise ValueError(f"weight must be a finite number above 0; it was {weight!r}")
    shapes = {tuple(t.shape) for t in (image_features_BD, text_features_BD, twin_features_BD)}
    if len(shapes) != 1 or image_features_BD.dim() != 2:
        raise ValueError(f"the three feature matrices must have one shape; they had {sorted(shapes)}")
    image_BD, text_BD, twin_BD = image_features_BD.float(), text_features_BD.float(), twin_features_BD.float()
    own_B = torch.arange(len(image_BD), device=image_BD.device)
    by_image_BT = logit_scale * image_BD @ torch.cat([text_BD, twin_BD]).T
    if weight != 1:
        by_image_BT = torch.cat([by_image_BT[:, : len(own_B)], by_image_BT[:, len(own_B) :] + math.log(weight)], dim=1)
    by_text_BB = logit_scale * text_BD @ image_BD.T
    if caption_B is None or twin_B is None or _all_right_alone(caption_B, twin_B):
        by_image, by_text = (functional.cross_entropy(logit_BT, own_B) for logit_BT in (by_image_BT, by_text_BB))
    else:
        by_image = _choice(by_image_BT, caption_B, torch.cat([caption_B, twin_B]))
        by_text = _choice(by_text_BB, caption_B, caption_B)
    return (by_image + by_text) / 2


def _all_differ(number_B: Tensor) -> bool:
    return len(number_B.unique()) == len(number_B)  # type: ignore[no-untyped-call]  # torch leaves `unique` untyped


def _all_right_alone(caption_B: Tensor, twin_B: Tensor) -> bool:
    return _all_differ(caption_B) and not bool(torch.isin(twin_B, caption_B).any())


def _choice(logit_BT: Tensor, own_B: Tensor, text_T: Tensor) -> Tensor:
    """Cross-entropy, a scalar, where every column with the row's own index is right."""
    right_BT = own_B[:, None] == text_T[None, :]
    among_BT = logit_BT.masked_fill(~right_BT, float("-inf"))
    return (logit_BT.logsumexp(1) - among_BT.logsumexp(1)).mean()


def preference_loss(
    image_features_BD: Tensor,
    text_features_BD: Tensor,
    twin_features_BD: Tensor,
    preference_B: Tensor,
    logit_scale: Tensor | float,
) -> Tensor:
    """Binary cross-entropy between a student's and a teacher's choice of a caption over its twin: loss_B.

        q = sigmoid( s f . (g - g') )          loss = -w [ p log q + (1 - p) log(1 - q) ],   w = | 2 p - 1 |

    preference_B: p, the teacher's probability that caption b rather than its twin belongs to image b, in 0..1. Samples
    are weighted by the teacher's confidence: p = 1/2 has no weight. NaN: no twin, and zero loss.
    Raises `ValueError` for shapes that do not fit, or a p outside 0..1.
    """
    known_B = torch.isfinite(preference_B)
    p_B = torch.where(known_B, preference_B, torch.full_like(preference_B, 0.5)).float()
    if preference_B.shape != image_features_BD.shape[:1] or bool(((p_B < 0) | (p_B > 1)).any()):
        raise ValueError("preference_B must hold a number from 0 to 1, or NaN, for each image")
    gap_B = logit_scale * (image_features_BD.float() * (text_features_BD - twin_features_BD).float()).sum(1)
    loss_B = functional.binary_cross_entropy_with_logits(gap_B, p_B, reduction="none")
    return (2 * p_B - 1).abs() * loss_B


def features_loss(guess_BW: Tensor, feature_BW: Tensor) -> Tensor:
    """Mean squared error per element between a map of CLIP's image embedding and frozen features: loss_B, float32.

    feature_BW: internal features of the frozen denoiser, standardised, so predicting their mean gives a loss of 1.
    """
    if guess_BW.shape != feature_BW.shape:
        raise ValueError(f"guess and feature must have one shape; they were {size_of(guess_BW)}, {size_of(feature_BW)}")
    return (guess_BW.float() - feature_BW.float()).square().flatten(1).mean(1)


def sds_loss(
    denoise: Denoise,
    schedule: NoiseSchedule,
    latent_B: Tensor,
    noise_B: Tensor,
    timestep_B: Tensor,
    condition_B: Any,
    *,
    reduction: Reduction = "mean",
    jacobian: bool = True,
) -> Tensor:
    """L_SDS before the mean over samples: loss_B, float32, the denoising error of latent_B = h_w(f(x)).

    reduction: over the elements of one latent. The paper leaves it open; `sum` is `mean` times their number, 16,384 for
    Stable Diffusion, so a lambda means nothing without it. Otherwise as in `denoising_error`.
    """
    error_B = denoising_error(denoise, schedule, latent_B, noise_B, timestep_B, condition_B, jacobian=jacobian)
    return _reduced(error_B, latent_B, reduction)


def contrast_loss(error_B: Tensor, swapped_B: Tensor, scale: float) -> Tensor:
    """How far the error with the image's own caption is from lying below that with its swap: loss_B.

        loss = softplus( s (e - e') ) / s        close to max(0, e - e') where s is large, to (e - e') / 2 where small

    error_B, swapped_B: e and e', from `sds_loss`, of one latent at the same (t, eps). scale: s > 0, in one over their
    unit. The gradient is at most that of e - e', and zero for a caption that is its own swap.
    Raises `ValueError` for another scale, or shapes that differ.
    """
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"scale must be a finite number above 0; it was {scale!r}")
    if error_B.shape != swapped_B.shape:
        raise ValueError(f"the errors must have one shape; they had {size_of(error_B)} and {size_of(swapped_B)}")
    return functional.softplus(scale * (error_B - swapped_B)) / scale


def latent_loss(guess_B: Tensor, latent_B: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """The regression of h_w(f(x)) on the true latent z: loss_B, float32, zero if it is met.

        loss = mean over elements of ( h_w(f(x)) - z )^2

    No caption and no denoiser are in it. guess_B, latent_B: [B, ...], the same shape, or `ValueError`. reduction: as in
    `sds_loss`.
    """
    if guess_B.shape != latent_B.shape:
        raise ValueError(f"guess and latent must have one shape; they were {size_of(guess_B)}, {size_of(latent_B)}")
    return _reduced(error_of(guess_B.float() - latent_B.float()), latent_B, reduction)


def _reduced(error_B: Tensor, latent_B: Tensor, reduction: Reduction) -> Tensor:
    """The mean over the elements of a latent, or their sum."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum'; it was {reduction!r}")
    return error_B if reduction == "mean" else error_B * latent_B[0].numel()


def total_loss(clip: Tensor, sds: Tensor, lam: float) -> Tensor:
    """L = L_CLIP + lambda * L_SDS, both scalars. Raises `ValueError` for a negative or non-finite lambda."""
    if not math.isfinite(lam) or lam < 0:
        raise ValueError(f"lam must be a finite number of at least 0; it was {lam!r}")
    return clip + lam * sds


def _predicted_noise(schedule: NoiseSchedule, output_B: Tensor, noisy_B: Tensor, timestep_B: Tensor) -> Tensor:
    """eps_hat from the output of an epsilon or v model."""
    if schedule.prediction == "epsilon":
        return output_B
    alpha_bar_B = schedule.levels(timestep_B, output_B)
    return alpha_bar_B.sqrt() * output_B + (1 - alpha_bar_B).sqrt() * noisy_B
