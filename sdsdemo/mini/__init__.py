"""The Mini world made from nothing: its benchmark drawn, its models trained. Nothing is downloaded."""

from sdsdemo.mini.drawing import draw
from sdsdemo.mini.making import PARTS, train

__all__ = ["PARTS", "draw", "train"]
