"""Assembles the page from its tabs. A new tab adds a file beside this one and a line here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from sdsdemo.app.jobs import Jobs
from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.settings import ASSETS, LIMITS
from sdsdemo.ui import about, navigation, request_order, served_files
from sdsdemo.ui.body_limits import BodyLimits
from sdsdemo.ui.browse import BrowseTab
from sdsdemo.ui.compare import CompareTab
from sdsdemo.ui.direct_requests import DirectRequests
from sdsdemo.ui.examples import read_examples
from sdsdemo.ui.fair_queue import Listeners, make_fair
from sdsdemo.ui.finetune import FinetuneTab
from sdsdemo.ui.health import Health
from sdsdemo.ui.light_sessions import make_light
from sdsdemo.ui.open_in_compare import RunPictures
from sdsdemo.ui.opening import read_opening
from sdsdemo.ui.own_page import OwnPage
from sdsdemo.ui.preview import PICTURE, LinkPreview
from sdsdemo.ui.refusals import Page, Refusals
from sdsdemo.ui.results import ResultsTab
from sdsdemo.ui.templates import render, script, script_element
from sdsdemo.ui.theme import make_theme
from sdsdemo.ui.typical import TypicalDifferences

TITLE = "sdsdemo: CLIP, the denoising score and SDS-CLIP, side by side"
STYLES = ("base", "compare", "evidence", "changes", "scene", "browse", "finetune", "results", "about")
"""Style sheets in `assets/style`, in the order in which a later one overrides an earlier one."""
HEAD = ("dropdown_tab", "keep_folds", "clipboard")
"""Scripts for the whole page."""
THREADS = 48
"""Of handlers. At any number but its usual 40, Gradio does not take for them the threads in which files are read."""


def build_page(workbench: Workbench, space: str = "", assets: Path = ASSETS, jobs: Jobs | None = None) -> gr.Blocks:
    """The whole page. space: the Space's id (`SPACE_ID`) if it runs as one; it then allows no free-text model specs."""
    registry = RunRegistry(workbench.settings, assets)
    run_pictures = RunPictures(registry)
    page: gr.Blocks
    with Page(title=TITLE, analytics_enabled=False) as page:
        gr.HTML(render("page.masthead"), elem_id="masthead")
        link_message = gr.HTML(elem_id="link-message", js_on_load=script("link_message"))
        run_id, watch = FinetuneTab.new_run_id(), FinetuneTab.build_watch()
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Compare", id="compare"):
                opening = read_opening(workbench, assets)
                compare = CompareTab(
                    workbench, read_examples(assets), opening, space, run_pictures, TypicalDifferences(registry)
                )
            with gr.Tab("Browse", id="browse") as browse_tab:
                browse = BrowseTab(workbench, registry, space, run_pictures)
            with gr.Tab("Fine-tune", id="finetune") as finetune_tab:
                finetune = FinetuneTab(workbench, jobs or Jobs(workbench), registry, run_id, watch, run_pictures)
            with gr.Tab("Results", id="results") as results_tab:
                results = ResultsTab(registry, assets)
            with gr.Tab("How it works", id="about"):
                about.build(workbench, opening)
        results.wire(results_tab.select)
        browse.wire(browse_tab.select, tabs, compare.picture, [*compare.captions, *compare.as_scored])
        finetune.wire(finetune_tab.select, page, tabs, compare, browse, results)
        navigation.Navigation(compare, browse, finetune, results).wire(page, link_message)
    served_files.offer(page, results.file, finetune.finished.file)
    page.queue(max_size=LIMITS.queue, default_concurrency_limit=4, api_open=False)
    make_fair(page, is_shared=not workbench.settings.allow_specs)
    make_light(page)
    return page


def launch_options(host: str, port: int, *, refuses_others: bool = False) -> dict[str, Any]:
    """Arguments of `Blocks.launch`: nothing leaves the machine, nothing is stored, errors stay on the server.

    refuses_others: whether only this machine is answered.
    """
    return {
        "server_name": host,
        "server_port": port,
        "theme": make_theme(),
        "css_paths": [ASSETS / "style" / f"{name}.css" for name in STYLES],
        "favicon_path": ASSETS / "favicon.svg",
        "head": request_order.head() + navigation.head() + "".join(map(script_element, HEAD)),
        "app_kwargs": {
            "middleware": [
                (Refusals, (), {}),
                *([(OwnPage, (), {})] if refuses_others else []),
                (Health, (), {}),
                (LinkPreview, (), {"picture": PICTURE}),
                (served_files.ServedFiles, (), {}),
                (Listeners, (), {}),
                (BodyLimits, (), {}),
                (DirectRequests, (), {}),
            ]
        },
        "max_file_size": LIMITS.image_bytes,
        "max_threads": THREADS,
        "allowed_paths": [str(ASSETS)],
        "show_error": False,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": False,
        "share": False,
        "footer_links": ["api", "settings"],
        "state_session_capacity": 1000,
    }
