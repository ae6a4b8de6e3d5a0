"""Reports what is installed, what can run, what is missing and what to do. Loads no weights and changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sdsdemo import __version__
from sdsdemo.app.workbench import Workbench
from sdsdemo.cli.report_paths import without_folders
from sdsdemo.cli.wrapping import wrapped
from sdsdemo.errors import UserError
from sdsdemo.models.cards import all_cards, megabytes
from sdsdemo.runtime.homes import can_write, nearest
from sdsdemo.runtime.server_environment import CHOSEN
from sdsdemo.settings import CHECKPOINTS, FINETUNING, LIMITS, NOISES, ROOT, SEED, TIMESTEPS, limit_words
from sdsdemo.settings.environment import VARIABLES

PACKAGES = (
    "torch", "torchvision", "open_clip_torch", "diffusers", "transformers", "gradio", "plotly", "matplotlib", "numpy",
    "pillow", "safetensors", "huggingface_hub",
)  # fmt: skip
SET_UP = "run the set-up again (make setup, or pip install -r requirements.txt)"
ADVICE_PACKAGE = "{name} is not installed: " + SET_UP + "."
ADVICE_BROKEN = "{name} does not load ({error}): " + SET_UP + "."
UNKNOWN = "Not known before every package loads."
ADVICE_FOLDER = "{what} cannot be written to ({path}): {cure}."
CURES = {
    "cache": "runs of the Fine-tune tab cannot start until SDSDEMO_CACHE names one that can",
    "temporary": "pictures cannot be uploaded until TMPDIR, or GRADIO_TEMP_DIR if it is set, names one that can",
    "weights": "weights cannot be downloaded until HF_HOME names one that can",
}
"""What does not work where a folder cannot be written to, and what to set."""
ADVICE_DISK = "The disk of the weights folder has {free:.1f} GB left: real models take 1 to 10 GB each."
TOKEN = {True: "found", False: "none (only gated models and data need one)", None: "not known"}
REPORT_WIDTH = 100
LITTLE_DISK_GB = 2.0
HANG = {"Models": " " * 23}
"""Indents of an entry's further lines, where not four spaces."""


def examine(workbench: Workbench, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Everything that `doctor` prints, as plain values; `advice` holds a sentence per thing to do."""
    versions = {name: _version(name) for name in PACKAGES}
    broken = _broken()
    cards = [_unknown(card) for card in all_cards().values()] if broken else _cards(workbench)
    folders = _folders(workbench, environment, broken)
    free_gb = round(shutil.disk_usage(nearest(Path(folders.get("weights", {}).get("path", ROOT)))).free / 1e9, 1)
    device, no_device = _device(workbench.settings.device, broken)
    shown = [card for card in cards if card["model"] in workbench.settings.models and not card["can_run"]]
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "device": device,
        "free_disk_gb": free_gb,
        "folders": folders,
        "hub_token": None if "huggingface_hub" in broken else _has_token(),
        "versions": versions,
        "models": cards,
        "checkpoints_mb": {path.name: megabytes(path) for path in sorted(CHECKPOINTS.iterdir())},
        "variables": [
            {**asdict(variable), "value": environment.get(variable.name, "").strip() or variable.default}
            for variable in VARIABLES
        ],
        "knobs": {name: asdict(knob) for name, knob in _knobs().items()},
        "limits": asdict(LIMITS) | FINETUNING.of_the_page,
        "advice": [
            *(ADVICE_PACKAGE.format(name=name) for name, found in versions.items() if found is None),
            *(ADVICE_BROKEN.format(name=name, error=error) for name, error in broken.items()),
            *no_device,
            *(
                ADVICE_FOLDER.format(what=f"The {name} folder", path=folder["path"], cure=CURES[name])
                for name, folder in folders.items()
                if not folder["can_write"]
            ),
            *([ADVICE_DISK.format(free=free_gb)] if free_gb < LITTLE_DISK_GB else []),
            *(f"{card['model']}: {card['reason']} {card['next_step']}".strip() for card in shown if not broken),
        ],
    }


def as_text(found: Mapping[str, Any], width: int) -> str:
    """The report as text, wrapped to `width`."""
    blocks = {
        "This machine": [
            f"Python {found['python']} on {found['system']}, {found['processors']} CPUs",
            f"models run on: {found['device']}",
            f"free disk for weights: {found['free_disk_gb']} GB",
            f"Hugging Face token: {TOKEN[found['hub_token']]}",
        ],
        "Folders": [
            f"{name:10} {folder['path']}{'' if folder['can_write'] else ' (cannot be written to)'}"
            for name, folder in found["folders"].items()
        ],
        "Packages": [f"{name:18} {number or 'missing'}" for name, number in found["versions"].items()],
        "Models": [
            *(f"{card['model']:20} {'runs here' if card['can_run'] else card['reason']}" for card in found["models"]),
            "`python -m sdsdemo models` says what to do about each.",
        ],
        "Shipped weights": [f"{name:32} {size:5.1f} MB" for name, size in found["checkpoints_mb"].items()],
        "Environment variables": [
            f"{v['name']} = {v['value']}  (default {v['default']}). {v['meaning']}" for v in found["variables"]
        ],
        "Settings of a question": [
            f"{name}: {knob['default']}, from {knob['low']} to {knob['high']}. {knob['meaning']}"
            for name, knob in found["knobs"].items()
        ],
        "Limits": [limit_words(name, _listed(value)) for name, value in found["limits"].items()],
        "What to do": found["advice"] or ["Nothing: all that the page shows first can run here."],
    }
    return "\n\n".join(
        "\n".join([title, *(wrapped(line, width, "  ", HANG.get(title, "    ")) for line in lines)])
        for title, lines in blocks.items()
    )


def examine_for_issue(workbench: Workbench) -> dict[str, Any]:
    """As `examine`, to be shown to others; `without_folders` says what becomes of paths."""
    return without_folders(examine(workbench))


def as_report(found: Mapping[str, Any]) -> str:
    """What `examine_for_issue` found, in Markdown."""
    return f"```text\nsdsdemo {__version__}\n\n{as_text(found, REPORT_WIDTH)}\n```"


def _load_hub() -> None:
    import huggingface_hub  # noqa: F401


def _load_torch() -> None:
    import torch  # noqa: F401


def _load_open_clip() -> None:
    import sdsdemo.models.clip_hub  # noqa: F401


LOADS = {"huggingface_hub": _load_hub, "torch": _load_torch, "open_clip": _load_open_clip}
"""Without one of these, and what it needs itself, no model can be looked for."""


def _broken() -> dict[str, str]:
    """What the packages that every model needs say where they do not load, such as a torchvision of another torch."""
    found = {}
    for name, load in LOADS.items():
        try:
            load()
        except Exception as error:  # a package may raise anything here; what it says is what doctor is asked for
            found[name] = f"{type(error).__name__}: {error}"
    return found


def _cards(workbench: Workbench) -> list[dict[str, Any]]:
    return [_card(workbench, card) for card in workbench.cards()]


def _unknown(card: Any) -> dict[str, Any]:
    return {"model": card.name, "can_run": False, "reason": UNKNOWN, "next_step": ""}


def _card(workbench: Workbench, card: Any) -> dict[str, Any]:
    state = workbench.availability(card)
    return {"model": card.name, "can_run": state.can_run, "reason": state.reason, "next_step": state.next_step}


def _folders(
    workbench: Workbench, environment: Mapping[str, str], broken: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Where something is written, by what it holds."""
    places = {
        "cache": workbench.settings.cache,
        "temporary": Path(environment.get(CHOSEN, "").strip() or tempfile.gettempdir()),
    }
    if "huggingface_hub" not in broken:
        from huggingface_hub import constants

        places["weights"] = Path(constants.HF_HUB_CACHE)
    return {name: {"path": str(path), "can_write": can_write(path)} for name, path in places.items()}


def _knobs() -> dict[str, Any]:
    return {"timesteps": TIMESTEPS, "noises": NOISES, "seed": SEED}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device(setting: str, broken: Mapping[str, str]) -> tuple[str, list[str]]:
    """What models run on, and what to do where the setting asks for something that is not there."""
    if "torch" in broken:
        return "not known", []
    from sdsdemo.models import pick_device

    try:
        device = pick_device(setting)
    except UserError as error:
        return f"nothing but the Mini models, on the CPU (SDSDEMO_DEVICE={setting})", [str(error)]
    return "the CPU" if device.type == "cpu" else f"{device.type} (the Mini models always on the CPU)", []


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _listed(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list | tuple) else f"{value:,}"
