"""A dropdown whose choices change while the page may still hold an earlier value of it.

Such a value may be on its way to the server, or be a visitor's own model: Gradio forgets choices that were added for a
session when the server restarts, or after many newer sessions. It refuses a value that is not among the choices and
answers with an error. Here it arrives as it is, and whoever reads it checks it.
"""

from __future__ import annotations

from typing import Any, cast

import gradio as gr
from gradio.component_meta import ComponentMeta


def as_sent(dropdown: gr.Dropdown, payload: Any) -> Any:
    """The value or values as the page sent them."""
    return payload


# Made by `type` alone, as `SafeImage` in `ui/picture_field.py` and for the same reason.
LateDropdown = cast(
    type[gr.Dropdown],
    type.__new__(
        ComponentMeta,
        "LateDropdown",
        (gr.Dropdown,),
        {"__module__": __name__, "is_template": True, "preprocess": as_sent},
    ),
)
