"""Scenes that a visitor draws: as a short text for URLs, and the text checked.

    cream~star.red.300.400.165~circle.blue.700.500.165.12

is a background and up to MOST objects: shape, colour, centre (x, y) and radius in thousandths of the picture's side,
and, if turned, an angle in hundredths of a radian. Knows no sentence and no pixel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sdsdemo.data.mini.drawing import BACKGROUND_RGB
from sdsdemo.data.mini.scenes import COLOURS, SHAPES, Family, Scene, Size, Spot, Thing
from sdsdemo.errors import UserError

MOST = 5
"""Objects in a scene, as many as in the scenes that Mini's models are trained on; they refuse a picture with more."""
RADII: dict[str, int] = {"small": 105, "medium": 165, "big": 235, "very big": 360}
"""What the page offers, in thousandths of the picture's side; a very big thing has room for another one inside."""
SMALL_UP_TO, BIG_FROM = 0.12, 0.2
"""Radii, in picture sides, of what a sentence calls small or big."""
LEAST_RADIUS, MOST_RADIUS = 60, 400
WRONG = "“{}” is not a scene: draw one on the page, and copy the link from there."

Placed = tuple[Thing, Spot]
"""One object: what it is, and where."""


def read_sketch(text: str) -> Scene:
    """The scene that a text describes. Raises `UserError` if it describes none."""
    background, *objects = text.split("~")
    if background not in BACKGROUND_RGB or not 1 <= len(objects) <= MOST:
        raise UserError(WRONG.format(text[:60]))
    try:
        return scene_of(background, [_object(one) for one in objects])
    except ValueError as error:
        raise UserError(WRONG.format(text[:60])) from error


def write_sketch(scene: Scene) -> str:
    """The text of a scene, rounded to a thousandth of the picture's side."""
    objects = []
    for spot in scene.spots:
        thing = scene.things[spot.thing]
        turn = round(100 * spot.turn)
        numbers = [*(round(1000 * value) for value in (spot.x, spot.y, spot.radius)), *([turn] if turn else [])]
        objects.append(".".join([thing.shape, thing.colour, *map(str, numbers)]))
    return "~".join([scene.background, *objects])


def scene_of(background: str, objects: Sequence[Placed]) -> Scene:
    """A scene of these objects: equal things are one thing of that number, and smaller objects lie on larger ones."""
    objects = sorted(objects, key=lambda one: -one[1].radius)
    kinds = list(dict.fromkeys(thing for thing, _ in objects))
    things = tuple(
        Thing(shape=kind.shape, colour=kind.colour, size=kind.size, number=sum(thing == kind for thing, _ in objects))
        for kind in kinds
    )
    spots = [
        Spot(thing=kinds.index(thing), x=spot.x, y=spot.y, radius=spot.radius, turn=spot.turn)
        for thing, spot in objects
    ]
    family: Family = "single" if len(things) == 1 else "and"
    bystanders = max(0, len(things) - 2)
    return Scene(family=family, things=things, spots=tuple(spots), background=background, bystanders=bystanders)


def objects_of(scene: Scene) -> list[Placed]:
    """The objects of a scene, each with the size that a sentence would give it."""
    return [
        (
            Thing(shape=scene.things[spot.thing].shape, colour=scene.things[spot.thing].colour, size=size_of(spot)),
            spot,
        )
        for spot in scene.spots
    ]


def size_of(spot: Spot) -> Size:
    """What a sentence may call an object of this radius; empty for neither big nor small."""
    return "small" if spot.radius <= SMALL_UP_TO else "big" if spot.radius >= BIG_FROM else ""


def _object(text: str) -> Placed:
    """Raises ValueError for anything but an object inside the picture."""
    shape, colour, *numbers = text.split(".")
    is_number = [re.fullmatch(r"-?[0-9]{1,4}", number) for number in numbers]
    if shape not in SHAPES or colour not in COLOURS or len(numbers) not in (3, 4) or not all(is_number):
        raise ValueError(text)
    x, y, radius, turn = (int(number) for number in [*numbers, "0"][:4])
    if not (0 <= x <= 1000 and 0 <= y <= 1000 and LEAST_RADIUS <= radius <= MOST_RADIUS and abs(turn) <= 314):
        raise ValueError(text)
    spot = Spot(thing=0, x=x / 1000, y=y / 1000, radius=radius / 1000, turn=turn / 100)
    return Thing(shape=shape, colour=colour, size=size_of(spot)), spot
