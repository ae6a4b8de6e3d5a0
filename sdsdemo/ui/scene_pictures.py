"""Pictures of scenes that visitors draw. Each is named by its scene in a URL, and its truth is computed."""

from __future__ import annotations

import numpy as np
from PIL.Image import Image

from sdsdemo.data.mini.drawing import draw
from sdsdemo.data.mini.scenes import Scene
from sdsdemo.data.mini.sketch_captions import captions_for
from sdsdemo.data.mini.sketches import read_sketch, write_sketch
from sdsdemo.data.mini.truth import index_of_truth
from sdsdemo.ui.examples import ShownExample
from sdsdemo.ui.known_pictures import KnownPictures, in_cache


class ScenePictures:
    """The scenes drawn here. Safe to share between visitors."""

    def __init__(self) -> None:
        self._known = KnownPictures()

    def of_text(self, text: str) -> ShownExample:
        """The picture of the scene that a text describes, with two captions. Raises `UserError`."""
        return self.of_scene(read_sketch(text))

    def of_scene(self, scene: Scene) -> ShownExample:
        """The picture of a scene. Its captions are always the same for the same scene; empty if there are none."""
        captions = captions_for(np.random.default_rng(0), scene) or ("", "")
        image = draw(scene)
        shown = ShownExample(
            name="scene",
            path=in_cache(image),
            captions=captions,
            true=index_of_truth(scene, captions) or 0,
            title="A scene of your own",
            query={"scene": write_sketch(scene)},
            scene=scene,
        )
        self._known.add(image, shown)
        return shown

    def find(self, image: Image) -> ShownExample | None:
        """The scene that a picture shows, by its pixels; None if it was not drawn here."""
        return self._known.find(image)
