"""The environment variables that the app honours, and whether they make the page one's own. Reads nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Variable:
    """An environment variable that the app honours."""

    name: str
    default: str
    meaning: str


VARIABLES = (
    Variable(
        name="SDSDEMO_MODELS",
        default="mini-clip,mini-diffusion,mini-sds-clip",
        meaning="Cards or specs shown first, at most 6.",
    ),
    Variable(name="SDSDEMO_ALLOW_DOWNLOAD", default="off", meaning="on: the page may download the weights of a card."),
    Variable(name="SDSDEMO_DEVICE", default="auto", meaning="cpu, cuda, mps or auto: where models besides Mini run."),
    Variable(
        name="SDSDEMO_PRECISION",
        default="auto",
        meaning="float32, bfloat16, float16 or auto: half on NVIDIA's and AMD's GPUs, bfloat16 for large models on "
        "CPUs that have it.",
    ),
    Variable(name="SDSDEMO_COMPILE", default="off", meaning="on: denoisers score through torch.compile."),
    Variable(
        name="SDSDEMO_RUNS",
        default="runs",
        meaning="Folder whose runs (`evaluate --out`) Browse and Results show beside the shipped ones, locally.",
    ),
    Variable(
        name="SDSDEMO_TRAINING",
        default="auto",
        meaning="on, off, or auto: whether the page may fine-tune; auto: not on a page for others without a GPU.",
    ),
    Variable(
        name="SDSDEMO_CACHE",
        default="~/.cache/sdsdemo",
        meaning="Cache folder: the teachers' preferences, Winoground's labels, runs of the Fine-tune tab.",
    ),
    Variable(
        name="SDSDEMO_SHARED",
        default="auto",
        meaning="on: others use the page; off: it is yours alone; auto: as its address and its requests say.",
    ),
    Variable(name="GRADIO_SERVER_NAME", default="127.0.0.1", meaning="Address to listen on, if --host is not given."),
    Variable(name="GRADIO_SERVER_PORT", default="7860", meaning="Port to listen on, if --port is not given."),
)
LOOPBACK = ("127.0.0.1", "localhost")
OF_A_PROXY = ("FORWARDED_ALLOW_IPS", "GRADIO_ROOT_PATH")
"""Variables that are set only for a page behind a proxy."""


def is_own(environment: Mapping[str, str], host: str, shared: str) -> bool:
    """Whether a page at this address is for the user of its machine alone. shared: SDSDEMO_SHARED."""
    if "SPACE_ID" in environment:
        return False
    if shared != "auto":
        return shared == "off"
    return host in LOOPBACK and not any(environment.get(name) for name in OF_A_PROXY)
