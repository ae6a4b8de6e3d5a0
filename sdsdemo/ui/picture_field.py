"""The picture field. Gradio never decodes an upload; `models.images.open_image` does, within its limits.

Gradio's own image field opens every file with every decoder that Pillow has, and its error message shows paths of the
server. Here a picture arrives only as the path of a file in Gradio's cache, which Gradio has checked.
"""

from __future__ import annotations

from typing import Any, cast

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.data_classes import ImageData

NOT_A_FILE = "The picture must be sent as a PNG, JPEG or WebP file."


def path_of(image: gr.Image, payload: ImageData | None) -> str | None:
    """The cached file's path. A picture sent as a data URL is refused politely."""
    if payload is None:
        return None
    if payload.path is None or (payload.url or "").startswith("data:"):
        raise gr.Error(NOT_A_FILE, print_exception=False)
    return payload.path


# A subclass of gr.Image, made by `type` alone: the usual `class` statement lets Gradio's metaclass write a stub file
# (.pyi) beside this one at every start. Replacing the method on an instance would not do: each session makes its own.
SafeImage = cast(
    type[gr.Image],
    type.__new__(
        ComponentMeta, "SafeImage", (gr.Image,), {"__module__": __name__, "is_template": True, "preprocess": path_of}
    ),
)


def safe_image(value: str | None = None, **options: Any) -> gr.Image:
    """An image field that passes a path to its events and leaves decoding to us."""
    return SafeImage(value, type="filepath", format="png", image_mode=None, sources=["upload", "clipboard"], **options)
