"""Pictures of other kinds than the Mini world's: gradients, noise, text, charts, textures like photographs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIDE = 240


def foreign_pictures(seed: int, count: int) -> list[Image.Image]:
    """`count` pictures, the kinds in turn."""
    rng = np.random.default_rng(seed)
    return [KINDS[k % len(KINDS)](rng) for k in range(count)]


def _colour(rng: np.random.Generator, low: int = 0) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in rng.integers(low, 256, size=3))
    return r, g, b


def _gradient(rng: np.random.Generator) -> Image.Image:
    start, end = (np.array(_colour(rng), dtype=float) for _ in range(2))
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0 : 1 : SIDE * 1j, 0 : 1 : SIDE * 1j]
    share = (x * np.cos(angle) + y * np.sin(angle) + 1.5) / 3
    return _image(start + share[..., None] * (end - start))


def _noise(rng: np.random.Generator) -> Image.Image:
    grain = int(rng.choice([1, 4, 12]))
    small = rng.integers(0, 256, size=(SIDE // grain, SIDE // grain, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def _text(rng: np.random.Generator) -> Image.Image:
    """Dark words on a pale page, in several sizes: large letters look most like drawn things."""
    image = Image.new("RGB", (SIDE, SIDE), _colour(rng, 200))
    pen = ImageDraw.Draw(image)
    size = int(rng.choice([12, 20, 36, 60]))
    font = ImageFont.load_default(size)
    letters = "abcdefghijklmnopqrstuvwxyz   ABCDEFGHIJ"
    for top in range(6, SIDE - size, int(size * 1.4)):
        pen.text(
            (8, top),
            "".join(rng.choice(list(letters), size=300 // size)),
            fill=_colour(rng) if rng.random() < 0.3 else (20, 20, 20),
            font=font,
        )
    return image


def _chart(rng: np.random.Generator) -> Image.Image:
    """Bars or a line on axes."""
    image = Image.new("RGB", (SIDE, SIDE), (255, 255, 255) if rng.random() < 0.5 else _colour(rng, 225))
    pen = ImageDraw.Draw(image)
    pen.line([(24, 12), (24, SIDE - 24), (SIDE - 12, SIDE - 24)], fill=(60, 60, 60), width=2)
    heights = rng.uniform(20, SIDE - 60, size=int(rng.integers(3, 9)))
    width = (SIDE - 50) / len(heights)
    if rng.random() < 0.5:
        for k, height in enumerate(heights):
            left = 30 + k * width
            pen.rectangle([left, SIDE - 25 - height, left + 0.7 * width, SIDE - 25], fill=_colour(rng))
    else:
        pen.line([(30 + k * width, SIDE - 25 - height) for k, height in enumerate(heights)], fill=_colour(rng), width=3)
    return image


def _texture(rng: np.random.Generator) -> Image.Image:
    """Clouds of several scales, as in a photograph of grass, sky or stone."""
    field = np.zeros((SIDE, SIDE, 3))
    for grain in (4, 10, 30, 80):
        small = rng.uniform(0, 255, size=(SIDE // grain + 2, SIDE // grain + 2, 3)).astype(np.uint8)
        field += np.asarray(Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=float) * grain
    field = field / 124 * rng.uniform(0.5, 1.2, size=3) + rng.uniform(-30, 60, size=3)
    return _image(field).filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 2))))


def _scene(rng: np.random.Generator) -> Image.Image:
    """A bright thing before a soft sky, lit from one side, with grain: the shape of a simple photograph."""
    y, x = np.mgrid[0 : 1 : SIDE * 1j, 0 : 1 : SIDE * 1j]
    sky = np.array(_colour(rng, 120)) + (y[..., None] - 0.5) * rng.uniform(-120, 120, size=3)
    cx, cy, radius = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0.15, 0.3)
    light = np.clip(1.1 - np.hypot(x - cx + radius / 3, y - cy + radius / 3) / radius / 1.5, 0.1, 1.2)
    body = np.array(_colour(rng)) * light[..., None]
    inside = np.hypot(x - cx, y - cy) < radius
    return _image(np.where(inside[..., None], body, sky) + rng.normal(0, 6, size=(SIDE, SIDE, 3)))


def _image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


KINDS: tuple[Callable[[np.random.Generator], Image.Image], ...] = (_gradient, _noise, _text, _chart, _texture, _scene)
