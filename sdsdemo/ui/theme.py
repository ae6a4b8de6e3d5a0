"""Colours and fonts of the page. Gradio's themes fail WCAG AA contrast in light mode; this one passes in both modes.

It uses the fonts that ship with Gradio, so nothing is downloaded. Only weights 400 and 700 have Latin letters.
"""

from __future__ import annotations

import gradio as gr

TEXT_SIZE = gr.themes.Size(
    name="text_five", xxs="0.86rem", xs="0.86rem", sm="0.86rem", md="1rem", lg="1.13rem", xl="1.3rem", xxl="1.3rem"
)
"""The sizes of `assets/style/base.css`, for Gradio's own parts."""


def make_theme() -> gr.themes.Base:
    """Slate and blue on Gradio's default, with text and buttons dark enough to read."""
    return gr.themes.Default(
        primary_hue="blue",
        secondary_hue="blue",
        neutral_hue="slate",
        text_size=TEXT_SIZE,
        font=[
            gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)),
            "ui-sans-serif",
            "system-ui",
            "sans-serif",
        ],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
    ).set(
        block_label_text_color="*neutral_800",
        block_title_text_color="*neutral_800",
        block_info_text_color="*neutral_600",
        body_text_color_subdued="*neutral_600",
        link_text_color="*primary_700",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_text_color="white",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_text_color="white",
    )
