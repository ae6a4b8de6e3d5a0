"""Pictures of Mini scenes. Draws with Pillow, crisp at any size; knows no caption and no model.

A scene is drawn without anti-aliasing at several times the wanted side and shrunk with a bicubic filter, which is also
how the models shrink the pictures shown on screen: what they were trained on and what a visitor sees agree.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from sdsdemo.data.mini_world import Scene

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


def draw(scene: Scene, pixels: int = SCREEN_PIXELS, supersample: int = 4) -> Image.Image:
    """The scene as an RGB image of pixels x pixels."""
    side = pixels * supersample
    canvas = Image.new("RGB", (side, side), BACKGROUND_RGB[scene.background])
    pen = ImageDraw.Draw(canvas)
    for spot in scene.spots:
        thing = scene.things[spot.thing]
        fill = COLOUR_RGB[thing.colour]
        for outline, paint in outlines(thing.shape):
            points = _placed(outline, spot.x * side, spot.y * side, spot.radius * side, spot.turn)
            pen.polygon(points, fill=fill if paint else BACKGROUND_RGB[scene.background])
    return canvas.resize((pixels, pixels), Image.Resampling.BICUBIC)


def _placed(outline: np.ndarray, x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
    cos, sin = math.cos(turn), math.sin(turn)
    rotation = np.array([[cos, sin], [-sin, cos]])
    return [(float(px), float(py)) for px, py in outline @ rotation * radius + (x, y)]


@cache
def outlines(shape: str) -> tuple[tuple[np.ndarray, bool], ...]:
    """Polygons of the shape in a unit disc, y downwards: (points, painted?); an unpainted one is a hole."""
    if shape == "ring":
        return (_circle(1.0), True), (_circle(0.52), False)
    return ((_OUTLINE[shape](), True),)


def _circle(radius: float = 0.95, steps: int = 64) -> np.ndarray:
    angle = np.linspace(0, 2 * math.pi, steps, endpoint=False)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _polar(radius: np.ndarray) -> np.ndarray:
    angle = np.linspace(0, 2 * math.pi, len(radius), endpoint=False) - math.pi / 2
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


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


_OUTLINE = {
    "circle": _circle,
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
