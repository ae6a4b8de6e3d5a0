"""What a denoiser makes of the picture at each timestep, as HTML: a row of pictures that a slider moves through.

All timesteps of one row are one image (a strip), and the slider moves it: no request, and no wait. The layout is in
`templates/denoising.html`, the slider in `scripts/denoising.js`. Knows no Gradio.

Shape suffixes as in `types.Denoised`.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from sdsdemo.core.adaptive import by_timestep, shared_draws
from sdsdemo.core.maps import place_differences, signed_map
from sdsdemo.evaluation.limits import MAP_LEGEND
from sdsdemo.types import Answer, Denoised, Evidence
from sdsdemo.ui.compare_html import LETTERS
from sdsdemo.ui.templates import render

LARGEST = 192
"""Pixels a side of a picture; larger ones are reduced."""
COLOURS = ((37, 99, 235), (217, 119, 6))
"""Of captions A and B, as everywhere on the page."""
STRONGEST = 99.0
"""Percentile of a map's strength that has the full colour: a single place cannot fade all others."""


def denoising_html(captions: Sequence[str], answers: Sequence[Answer], with_maps: bool = True) -> str:
    """A panel for each answer that shows its denoising; empty if none does."""
    panels = [_panel(answer, len(captions), with_maps) for answer in answers if answer.denoised]
    return render("denoising.panels", panels=panels) if panels else ""


def _panel(answer: Answer, captions: int, with_maps: bool) -> dict[str, Any]:
    denoised, evidence = answer.denoised, answer.scores.evidence if answer.scores else None
    assert denoised is not None
    assert evidence is not None
    loss_CS = by_timestep(evidence.loss_ICTN, evidence.rounds_IC)[0][:, denoised.position_S]
    tiles = [
        _tile("noised", "With noise", "what the model is given", denoised.noised_S),
        *(
            _tile(f"c{c}", f"Guess given {LETTERS[c]}", "", denoised.guess_CS[c], _losses(loss_CS, c))
            for c in range(captions)
        ),
        _tile("empty", "Guess without a caption", "", denoised.guess_empty_S),
    ]
    return {
        "title": answer.card.title,
        "clean": strip(denoised.clean[None]),
        "tiles": tiles,
        "maps": _maps(denoised, *shared_draws(evidence, (0, 1))) if with_maps and captions > 1 else None,
        "count": len(denoised.timestep_S),
        "first": _most_telling(loss_CS),
        "timesteps": denoised.timestep_S.tolist(),
        "moves": json.dumps(denoised.timestep_S.tolist()),
        "steps": evidence.steps,
        "left_out": _left_out(denoised, evidence),
    }


def _tile(
    kind: str, title: str, words: str, picture_S: np.ndarray, below: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    return {
        "kind": kind,
        "title": title,
        "words": words,
        "strip": strip(picture_S),
        "count": len(picture_S),
        "below": below,
        "moves": json.dumps(below),
    }


def _losses(loss_CS: np.ndarray, caption: int) -> list[dict[str, Any]]:
    """For each timestep that is shown, a caption's loss and whether it is the lowest."""
    return [
        {"words": f"loss {loss_CS[caption, s]:.3g}", "wins": bool(loss_CS[caption, s] == loss_CS[:, s].min())}
        for s in range(loss_CS.shape[1])
    ]


def _most_telling(loss_CS: np.ndarray) -> int:
    """The timestep where the losses of the first two captions differ most, relative to the larger one."""
    if len(loss_CS) < 2:
        return 0
    gap_S = np.abs(loss_CS[1] - loss_CS[0]) / np.maximum(loss_CS[:2].max(axis=0), 1e-12)
    return int(np.nanargmax(gap_S)) if np.isfinite(gap_S).any() else 0


def _left_out(denoised: Denoised, evidence: Evidence) -> str:
    missing = len(evidence.timestep_T) - len(denoised.timestep_S)
    if not missing:
        return ""
    shown, all_of_them = len(denoised.timestep_S), len(evidence.timestep_T)
    return (
        f"{shown} of {all_of_them} timesteps are shown: those where the captions differ most. "
        "Decoding them all would take too long here."
    )


def _maps(denoised: Denoised, draws: int, antithetic: bool) -> dict[str, Any]:
    """The signed difference at each timestep that is shown, and over all of them where it passes the test.

    draws: those that both captions got. antithetic: whether they are pairs of opposites.
    """
    error_CTNHW = denoised.error_CTNHW[:2, :, :draws]
    difference_TNHW = place_differences(*error_CTNHW)
    mean_SHW = difference_TNHW.mean(axis=1)[denoised.position_S]
    overall = signed_map(*error_CTNHW, antithetic=antithetic)
    found_HW = np.where(overall.found_HW, overall.mean_HW, 0.0)
    return {
        "strip": _map_strip(mean_SHW),
        "legend": MAP_LEGEND,
        "overall": _map_strip(found_HW[None]),
        "found": int(overall.found_HW.sum()),
        "places": int(overall.found_HW.size),
        "level": f"{100 * overall.level:.0f}",
        "tested": bool(np.isfinite(overall.p_HW).all()),
    }


def _map_strip(value_SHW: np.ndarray) -> str:
    """A strip of maps: blue where A explains the picture better, orange where B does, clear where neither does.

    All maps of a strip share one scale.
    """
    value_SHW = np.nan_to_num(value_SHW, nan=0.0, posinf=0.0, neginf=0.0)
    scale = np.percentile(np.abs(value_SHW), STRONGEST) or np.abs(value_SHW).max() or 1.0
    strength_SHW = np.clip(np.abs(value_SHW) / scale, 0, 1) ** 0.7
    colour_SHW3 = np.where(value_SHW[..., None] > 0, COLOURS[0], COLOURS[1]).astype(np.uint8)
    alpha_SHW1 = (235 * strength_SHW[..., None]).round().astype(np.uint8)
    return _encoded(np.concatenate([*np.concatenate([colour_SHW3, alpha_SHW1], axis=-1)], axis=1), "PNG")


def strip(picture_S: np.ndarray) -> str:
    """Pictures side by side in one image."""
    side = picture_S.shape[1]
    if side > LARGEST:
        small = [Image.fromarray(picture).resize((LARGEST, LARGEST), Image.Resampling.LANCZOS) for picture in picture_S]
        picture_S = np.stack([np.asarray(picture) for picture in small])
    return _encoded(np.concatenate([*picture_S], axis=1), "WEBP")


def _encoded(pixels: np.ndarray, kind: str) -> str:
    """A `data:` URL."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"quality": 88, "method": 4} if kind == "WEBP" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
