"""Make your own: a Mini scene drawn by the visitor, in place of a picture, and captions to try. Part of Compare.

The browser draws and drags (`scripts/scene.js`); the server draws the picture that models see, writes captions, and
says what is true. Knows no model.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from typing import Any, TypeVar

import gradio as gr
import numpy as np
from typing_extensions import TypedDict

from sdsdemo.data.mini import sketch_captions
from sdsdemo.data.mini.drawing import BACKGROUND_RGB, COLOUR_RGB, DETAILS, HOLDS, OUTLINES, RIM, SHADE, TINT
from sdsdemo.data.mini.scenes import COLOURS, SHAPES, Scene
from sdsdemo.data.mini.sketches import MOST, RADII, read_sketch, write_sketch
from sdsdemo.data.mini.truth import read_claim, truth_of
from sdsdemo.errors import UserError
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped
from sdsdemo.ui.compare_html import LETTERS
from sdsdemo.ui.compare_logic import OUR_FAULT
from sdsdemo.ui.examples import ShownExample
from sdsdemo.ui.mini_words import MINI_WORDS
from sdsdemo.ui.scene_pictures import ScenePictures
from sdsdemo.ui.templates import render, script
from sdsdemo.ui.word_changes import changes_of

log = logging.getLogger(__name__)

SUGGESTED = 3
"""Captions that are suggested in place of caption B."""
LONGEST_ACT = 2_000
"""Characters of what the editor sends."""
ACTS = {
    "surprise": "Surprise me",
    "write": "Write captions",
    "swap": "Swap the picture",
    "paraphrase": "Paraphrase",
}
"""The editor's buttons: what they do, and what they are called."""
NO_CAPTIONS = (
    "The rules cannot write one true and one false caption for this scene: use two different shapes, each at most "
    "three times."
)
NO_SWAP = "“Swap the picture” needs one true and one false caption that swap something between two things."
NO_PARAPHRASE = "“Paraphrase” needs two captions in Mini's language, such as “a red star left of a blue circle”."
UNREADABLE = "Whether a caption is true is worked out for sentences such as “a red star left of a blue circle”."
UNREADABLE_ACT = "The editor sent something that cannot be read: reload the page."
Known = Callable[[str | None], ShownExample | None]
_drawn = count(1)


class SceneEditor:
    """The editor and the sentences below the captions; to be built inside the page in two places."""

    def __init__(self, scenes: ScenePictures) -> None:
        self.scenes = scenes

    def build(self) -> None:
        """The editor, closed."""
        self.editor = gr.HTML(render("scene.closed"), elem_id="scene", js_on_load=script("scene"))
        self.refusal = gr.HTML(elem_id="scene-refusal")

    def build_below_captions(self, captions: Sequence[str]) -> None:
        """What is true, and what else caption B could be. captions: those that the page opens with."""
        self.truth = gr.HTML(elem_id="scene-truth")
        self.suggested = gr.HTML(suggested_html(*captions), elem_id="suggested", js_on_load=script("suggest"))

    def wire(self, picture: Any, captions: Sequence[Any], known: Known) -> None:
        """picture, captions: fields of the form. known: the example that a picture shows."""
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

        def act(event: gr.SelectData, path: str | None, *texts: str) -> list[Any]:
            return self.act(str(event.value), known(path), texts)

        fields = [picture, *captions]
        acted = self.editor.select(act, fields, [self.editor, self.refusal, *fields], trigger_mode="multiple", **quick)
        acted.then(None, js=script("score_live"), api_visibility="private")

    @property
    def said(self) -> list[Any]:
        """What `say` fills."""
        return [self.truth, self.suggested]

    def say(self, example: ShownExample | None, captions: Sequence[str], is_quick: bool) -> list[str]:
        """What is true of the scene, and other captions to try. is_quick: whether all chosen models answer at once."""
        scene = example.scene if example else None
        return [truth_html(scene, captions, is_quick), suggested_html(*captions)]

    def act(self, sent: str, example: ShownExample | None, captions: Sequence[str]) -> list[Any]:
        """New values of the editor, its refusal, the picture and both captions. Failures become refusals."""
        captions = [str(text or "") for text in captions]
        try:
            scene, texts, redraws = _acted(_asked(sent), example, captions)
            is_shown = example is not None and example.scene is scene
            path = gr.skip() if is_shown else str(self.scenes.of_scene(scene).path)
        except UserError as error:
            return [gr.skip(), render("parts.message", sentence=str(error)), *[gr.skip()] * 3]
        except Exception:
            log.exception("the scene editor failed")
            return [gr.skip(), render("parts.message", sentence=OUR_FAULT), *[gr.skip()] * 3]
        same = [text if text != old else gr.skip() for text, old in zip(texts, captions, strict=True)]
        return [editor_html(scene) if redraws else gr.skip(), "", path, *same]


def editor_html(scene: Scene) -> str:
    """The open editor. Never the same twice: the page skips HTML that it has, and the browser has moved the shapes."""
    return render(
        "scene.editor",
        drawn=next(_drawn),
        scene=write_sketch(scene),
        look=_look(),
        most=MOST,
        shapes=SHAPES,
        colours=[(name, _css(COLOUR_RGB[name])) for name in COLOURS],
        backgrounds=[(name, _css(rgb)) for name, rgb in BACKGROUND_RGB.items()],
        sizes=list(RADII.items()),
        acts=list(ACTS.items()),
        words=list(MINI_WORDS.items()),
    )


def truth_html(scene: Scene | None, captions: Sequence[str], is_quick: bool) -> str:
    """What is true of a scene; empty where the scene is not known.

    is_quick: the answer may follow every edit.
    """
    if scene is None:
        return ""
    truths = [truth_of(scene, caption) if caption.strip() else None for caption in captions]
    lines = [
        {"letter": LETTERS[c], "index": c, "state": {True: "right", False: "wrong", None: "open"}[truth],
         "words": {True: "true", False: "false", None: "unknown"}[truth]}
        for c, truth in enumerate(truths)
    ]  # fmt: skip
    unread = any(caption.strip() and read_claim(caption) is None for caption in captions)
    return render("scene.truth", lines=lines, hint=UNREADABLE if unread else "", is_quick=is_quick)


def suggested_html(first: str, second: str) -> str:
    """Changes of caption A to try as caption B, those with the same words first; empty if the rules know none."""
    texts = [change.text for change in changes_of(first)]
    other = [text for text in texts if text.casefold() != second.casefold().strip()]
    return render("scene.suggested", texts=other[:SUGGESTED]) if other else ""


class _Asked(TypedDict):
    """What the editor sends."""

    do: str
    scene: str


def _asked(sent: str) -> _Asked:
    """What the editor sent. Raises `UserError` for anything else."""
    if len(sent) > LONGEST_ACT:
        raise UserError(UNREADABLE_ACT)
    try:
        asked: _Asked = shaped(from_json(sent), _Asked)
    except ValueError as error:
        raise UserError(UNREADABLE_ACT) from error
    return asked


def _acted(asked: _Asked, example: ShownExample | None, captions: Sequence[str]) -> tuple[Scene, Sequence[str], bool]:
    """The scene, the captions, and whether the editor must be drawn anew. Raises `UserError`."""
    rng = np.random.default_rng()
    if asked["do"] == "open" and example and example.scene:
        has_it = asked["scene"] and write_sketch(read_sketch(asked["scene"])) == write_sketch(example.scene)
        return example.scene, captions, not has_it
    if asked["do"] in ("open", "surprise"):
        return *sketch_captions.surprise(rng), True
    scene = read_sketch(asked["scene"])
    if asked["do"] == "write":
        return scene, _found(sketch_captions.captions_for(rng, scene), NO_CAPTIONS), False
    if asked["do"] == "paraphrase":
        return scene, _found(sketch_captions.paraphrased(rng, captions, scene), NO_PARAPHRASE), False
    if asked["do"] == "swap":
        return _found(sketch_captions.picture_swapped(scene, captions), NO_SWAP), captions, True
    return scene, captions, False


Found = TypeVar("Found")


def _found(found: Found | None, sentence: str) -> Found:
    if found is None:
        raise UserError(sentence)
    return found


@cache
def _look() -> str:
    """How shapes are drawn, for the browser: outlines in a unit disc, details and their paints, as JSON."""

    def path(points: np.ndarray) -> str:
        return " ".join(f"{x:g},{y:g}" for x, y in np.round(points, 3) + 0.0)

    details = {name: [[path(points), paint] for points, paint in parts] for name, parts in DETAILS.items()}
    return json.dumps(
        {
            "outlines": {name: path(points) for name, points in OUTLINES.items()},
            "details": details,
            "colours": COLOUR_RGB,
            "backgrounds": BACKGROUND_RGB,
            "rim": RIM,
            "shade": SHADE,
            "tint": TINT,
            "holds": HOLDS,
        }
    )


def _css(rgb: tuple[int, int, int]) -> str:
    return f"rgb{rgb}"
