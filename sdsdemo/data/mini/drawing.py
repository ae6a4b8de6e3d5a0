"""Draws pictures of Mini scenes with Pillow, crisp at any size. Knows no caption and no model.

Every shape has rounded corners, a darker rim and, if it holds no other shape, some details: a house has a door and a
window, a heart a glint. All paints are colours of COLOUR_RGB, or blends of one with black or with the background.

A scene is drawn without anti-aliasing at several times the target size, then downscaled with a bicubic filter. The
models downscale the pictures on screen in the same way, so training pictures match what a visitor sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from sdsdemo.data.mini.scenes import Scene, Spot

SCREEN_PIXELS = 320
MODEL_PIXELS = 64

COLOUR_RGB = {
    "red": (214, 40, 40),
    "orange": (245, 124, 0),
    "yellow": (247, 201, 17),
    "green": (46, 139, 62),
    "blue": (35, 87, 200),
    "purple": (123, 44, 168),
    "pink": (244, 122, 178),
    "black": (38, 38, 44),
}
BACKGROUND_RGB = {"cream": (250, 238, 210), "sky": (208, 230, 248), "mint": (210, 240, 220), "lilac": (232, 220, 246)}


RIM = 0.15
"""Width of the rim in radii of the shape; it rounds the corners."""
SHADE, TINT = 0.42, 0.62
"""Shares of black in the rim and of the background in a light detail."""
HOLDS = 0.3
"""A shape with at least this radius, in picture sides, holds another shape and has no details."""

Paint = tuple[int, int, int]


def draw(scene: Scene, pixels: int = SCREEN_PIXELS, supersample: int = 4) -> Image.Image:
    """The scene as an RGB image of `pixels` x `pixels`."""
    side = pixels * supersample
    background = BACKGROUND_RGB[scene.background]
    canvas = Image.new("RGB", (side, side), background)
    pen = ImageDraw.Draw(canvas)
    for spot in scene.spots:
        thing = scene.things[spot.thing]
        _draw_thing(pen, thing.shape, COLOUR_RGB[thing.colour], background, spot, side)
    return canvas.resize((pixels, pixels), Image.Resampling.BICUBIC)


def _draw_thing(pen: ImageDraw.ImageDraw, shape: str, fill: Paint, background: Paint, spot: Spot, side: int) -> None:
    rim = _blend(fill, COLOUR_RGB["black"], SHADE) if fill != COLOUR_RGB["black"] else _blend(fill, background, 0.3)
    paints = {"fill": fill, "rim": rim, "light": _blend(fill, background, TINT), "hole": background}

    def placed(outline: np.ndarray) -> list[tuple[float, float]]:
        return _placed(outline, spot.x * side, spot.y * side, spot.radius * side, spot.turn)

    width = max(1, round(RIM * spot.radius * side))
    points = placed(OUTLINES[shape])
    _round(pen, points, rim, width)
    pen.polygon(points, fill=fill)
    if shape == "ring":
        hole = placed(_circle(0.5))
        pen.polygon(hole, fill=background)
        _round(pen, hole, rim, width // 2)
    elif spot.radius < HOLDS:
        for detail, paint in DETAILS.get(shape, ()):
            pen.polygon(placed(detail), fill=paints[paint])


def _round(pen: ImageDraw.ImageDraw, points: list[tuple[float, float]], paint: Paint, width: int) -> None:
    """Draw a closed line with rounded corners, centred on the points."""
    pen.line([*points, *points[:2]], fill=paint, width=width, joint="curve")


def _blend(one: Paint, other: Paint, share: float) -> Paint:
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _placed(outline: np.ndarray, x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
    cos, sin = math.cos(turn), math.sin(turn)
    rotation = np.array([[cos, sin], [-sin, cos]])
    return [(float(px), float(py)) for px, py in outline @ rotation * radius + (x, y)]


def _circle(radius: float = 0.95, steps: int = 64) -> np.ndarray:
    angle = np.linspace(0, 2 * math.pi, steps, endpoint=False)
    outline: np.ndarray = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return outline


def _polar(radius: np.ndarray) -> np.ndarray:
    angle = np.linspace(0, 2 * math.pi, len(radius), endpoint=False) - math.pi / 2
    outline: np.ndarray = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return outline


def _star() -> np.ndarray:
    return _polar(np.tile([1.12, 0.48], 5))


def _flower() -> np.ndarray:
    angle = np.linspace(0, 2 * math.pi, 120, endpoint=False)
    return _polar(0.78 + 0.3 * np.cos(5 * angle))


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 80, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y - 2], axis=1) / 16


def _moon() -> np.ndarray:
    outer = np.linspace(math.radians(50), math.radians(310), 60)
    inner = np.linspace(math.radians(290), math.radians(70), 60)
    far = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    near = np.stack([0.36 + 0.82 * np.cos(inner), 0.82 * np.sin(inner)], axis=1)
    return np.concatenate([far, near]) * 1.05 + (0.15, 0.0)


def _points(*pairs: tuple[float, float]) -> np.ndarray:
    return np.array(pairs, dtype=float)


def _cross() -> np.ndarray:
    w, s = 0.34, 1.0
    return _points(
        (-w, -s), (w, -s), (w, -w), (s, -w), (s, w), (w, w), (w, s), (-w, s), (-w, w), (-s, w), (-s, -w), (-w, -w)
    )


_SHAPES: dict[str, Callable[[], np.ndarray]] = {
    "circle": _circle,
    "ring": _circle,
    "square": lambda: _points((-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84)),
    "triangle": lambda: _points((0.0, -1.05), (1.0, 0.8), (-1.0, 0.8)),
    "star": _star,
    "heart": _heart,
    "moon": _moon,
    "cross": _cross,
    "diamond": lambda: _points((0.0, -1.15), (0.78, 0.0), (0.0, 1.15), (-0.78, 0.0)),
    "arrow": lambda: _points(
        (0, -1.1), (0.95, 0.0), (0.38, 0.0), (0.38, 1.0), (-0.38, 1.0), (-0.38, 0.0), (-0.95, 0.0)
    ),
    "flower": _flower,
    "house": lambda: _points(
        (0, -1.1), (1.0, -0.25), (0.75, -0.25), (0.75, 0.9), (-0.75, 0.9), (-0.75, -0.25), (-1.0, -0.25)
    ),
}  # fmt: skip
OUTLINES = {name: make() * (1 - RIM / 2) for name, make in _SHAPES.items()}
"""Polygons in a unit disc, y downwards; the rim reaches beyond them."""


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return _points((left, top), (right, top), (right, bottom), (left, bottom))


def _glint(x: float, y: float, radius: float) -> np.ndarray:
    outline: np.ndarray = _circle(radius, 24) + np.array([x, y])
    return outline


DETAILS: dict[str, tuple[tuple[np.ndarray, str], ...]] = {
    "circle": ((_glint(-0.34, -0.36, 0.17), "light"),),
    "square": ((_glint(-0.42, -0.42, 0.15), "light"),),
    "heart": ((_glint(-0.45, -0.4, 0.16), "light"),),
    "moon": ((_glint(-0.57, 0.16, 0.12), "rim"), (_glint(-0.47, -0.34, 0.09), "rim")),
    "star": ((_glint(0.0, 0.0, 0.17), "light"),),
    "diamond": ((_points((0.0, -0.8), (0.22, -0.1), (-0.22, -0.1)), "light"),),
    "flower": ((_glint(0.0, 0.0, 0.27), "light"), (_glint(0.0, 0.0, 0.12), "rim")),
    "house": ((_box(-0.2, 0.2, 0.16, 0.74), "rim"), (_glint(0.0, -0.34, 0.15), "light")),
}
"""Shape -> polygons drawn on top and their paints; a shape that holds another has none."""
