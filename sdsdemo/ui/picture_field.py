"""The picture field. Gradio never decodes an upload; `models.images.open_image` does, within its limits.

Gradio's own image field opens every file with every decoder that Pillow has, and its error message shows paths of the
server. Here a picture arrives only as the path of a file in Gradio's cache, which Gradio has checked.

A picture that the page shows is a copy in that cache, dated when it was shown. Gradio's own copies are as old as what
they are copies of, and the server deletes what is old.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.data_classes import ImageData
from gradio.processing_utils import save_file_to_cache

NOT_A_FILE = "The picture must be sent as a PNG, JPEG or WebP file."


def path_of(image: gr.Image, payload: ImageData | None) -> str | None:
    """The cached file's path. A picture sent as a data URL is refused politely."""
    if payload is None:
        return None
    if payload.path is None or (payload.url or "").startswith("data:"):
        raise gr.Error(NOT_A_FILE, print_exception=False)
    return payload.path


def shown(image: gr.Image, value: str | Path | None) -> ImageData | None:
    """The copy of a file that the page shows."""
    copy = None if value is None else _fresh_copy(image, value)
    return cast(ImageData | None, gr.Image.postprocess(image, copy))


def _fresh_copy(image: gr.Image, path: str | Path) -> str:
    copy = str(save_file_to_cache(path, cache_dir=image.GRADIO_CACHE))
    os.utime(copy)
    return copy


# A subclass of gr.Image, made by `type` alone: the usual `class` statement lets Gradio's metaclass write a stub file
# (.pyi) beside this one at every start. Replacing the method on an instance would not do: each session makes its own.
SafeImage = cast(
    type[gr.Image],
    type.__new__(
        ComponentMeta,
        "SafeImage",
        (gr.Image,),
        {"__module__": __name__, "is_template": True, "preprocess": path_of, "postprocess": shown},
    ),
)


def safe_image(value: str | None = None, **options: Any) -> gr.Image:
    """An image field that passes a path to its events and leaves decoding to us."""
    field: Any = SafeImage(
        value, type="filepath", format="png", image_mode=None, sources=["upload", "clipboard"], **options
    )
    field.opens_with = value
    return cast(gr.Image, field)


def keep_first_pictures(page: gr.Blocks) -> None:
    """Renews the copies of the pictures that a page opens with, which last as long as the page."""
    fields: list[Any] = [block for block in page.blocks.values() if isinstance(block, SafeImage)]
    for field in fields:
        if field.opens_with:
            _fresh_copy(field, field.opens_with)
