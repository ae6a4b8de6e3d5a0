"""What a server sets in its environment before Gradio and the models' libraries are imported, which read it then."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

from sdsdemo.errors import UserError
from sdsdemo.runtime import homes

NO_FOLDER = "No temporary folder can be written ({why}): set {variable} to one."
CHOSEN = "GRADIO_TEMP_DIR"
"""The variable that names the folder for Gradio's files; without it they go to the system's, which TMPDIR names."""

PRIVATE_NETWORKS = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,::1/128,fc00::/7"
"""Where the proxy of a Space is (RFC 1918, RFC 4193). Of the addresses in `X-Forwarded-For`, uvicorn takes the last one
outside them, which a proxy wrote. If it trusted all, it would take the first, which the client may have made up."""


def prepare(environment: MutableMapping[str, str] = os.environ) -> Path:
    """Sets it, except for what the user has set, and returns the server's temporary folder.

    Nothing is reported to anyone, a process without a home gets one, and Gradio keeps its files in a folder of this
    process. In a Space, all addresses are listened at, and a visitor's address is the one that the Space's proxy names.
    Raises `UserError` where nothing can be written.
    """
    in_space = "SPACE_ID" in environment
    environment.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    environment.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    environment.setdefault("GRADIO_SERVER_NAME", "0.0.0.0" if in_space else "127.0.0.1")
    if in_space:
        environment.setdefault("FORWARDED_ALLOW_IPS", PRIVATE_NETWORKS)
    asked = environment.get(CHOSEN, "").strip()
    try:
        homes.settle(environment)
        folder = homes.own_folder(Path(asked) if asked else None)
    except OSError as error:
        raise UserError(NO_FOLDER.format(why=error.strerror, variable=CHOSEN if asked else "TMPDIR")) from error
    environment[CHOSEN] = str(folder)
    return folder
