"""A dropdown whose choices change while an earlier value of it may still be on its way to the server.

Gradio refuses a value that is no longer among the choices and answers with an error. Here it arrives as it is; whoever
reads it checks it (`filter_of` in `ui/browse_filters.py`).
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
