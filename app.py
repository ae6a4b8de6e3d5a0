"""The page's entry, here and as a Hugging Face Space: reads flags, builds the workbench, launches. No logic."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial

from sdsdemo.errors import UserError, no_package_words

try:
    from sdsdemo.runtime.server_environment import prepare

    TEMPORARY = prepare()  # before Gradio is imported
except (UserError, ModuleNotFoundError) as error:
    words = no_package_words(error) if isinstance(error, ModuleNotFoundError) else str(error)
    if not words:
        raise
    print(f"app.py: {words}", file=sys.stderr)
    sys.exit(2)

from sdsdemo.app.janitor import janitor_of
from sdsdemo.app.jobs import Jobs
from sdsdemo.app.workbench import Workbench
from sdsdemo.runtime import logs
from sdsdemo.runtime.listening import listening_at
from sdsdemo.settings import Settings
from sdsdemo.ui.page import build_page, launch_options
from sdsdemo.ui.picture_field import keep_first_pictures


def read_flags(arguments: Sequence[str]) -> Settings:
    """The environment's settings; a flag goes before the variable that it stands for, and is checked like it."""
    parser = argparse.ArgumentParser(
        description="One picture, two captions, three models, in the browser.",
        epilog="Example: python app.py --port 8000 --models mini-clip mini-diffusion",
    )
    parser.add_argument("--host", help="address to listen on; 0.0.0.0 lets others on your network in")
    parser.add_argument("--port", help="port to listen on")
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="cards or specs of the rows, in order")
    parser.add_argument(
        "--allow-download", action="store_const", const="on", help="let the page download a card's weights"
    )
    flags = parser.parse_args(arguments)
    given = {
        "GRADIO_SERVER_NAME": flags.host,
        "GRADIO_SERVER_PORT": flags.port,
        "SDSDEMO_MODELS": ",".join(flags.models),
        "SDSDEMO_ALLOW_DOWNLOAD": flags.allow_download,
    }
    return Settings.from_environment({**os.environ, **{name: value for name, value in given.items() if value}})


def serve(settings: Settings) -> None:
    """Launches the page, prints its address, and waits. Raises `UserError` where it cannot listen."""
    options = launch_options(settings.host, settings.port, refuses_others=settings.refuses_others)
    with listening_at(settings.host, settings.port):
        _, address, _ = demo.launch(**options, quiet=True, prevent_thread_lock=True)
    janitor_of(jobs, TEMPORARY, partial(keep_first_pictures, demo)).start()
    print(f"\n  sdsdemo is ready: {address}\n  Stop it with Ctrl+C.\n", flush=True)
    demo.block_thread()


try:
    settings = read_flags(sys.argv[1:] if __name__ == "__main__" else [])
    if not settings.allow_specs:
        logs.configure()
    workbench = Workbench(settings)
    workbench.place()
    jobs = Jobs(workbench)
    demo = build_page(workbench, os.environ.get("SPACE_ID", ""), jobs=jobs)
    if __name__ == "__main__":
        serve(settings)
except UserError as error:
    print(f"app.py: {error}", file=sys.stderr)
    sys.exit(2)
