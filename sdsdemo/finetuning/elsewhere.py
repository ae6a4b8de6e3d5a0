"""The commands that run a recipe on another machine. Runs none of them.

Hugging Face Jobs run a command beside a bucket that holds the package, and later the run.
"""

from __future__ import annotations

import shlex

from sdsdemo import __version__
from sdsdemo.finetuning.recipe import Recipe

BUCKET, FOLDER = "hf://buckets/YOUR-NAME/sdsdemo", "/sdsdemo"
"""YOUR-NAME stands for the visitor's own account."""
GPU, NO_GPU = "a10g-large", "cpu-upgrade"
"""Flavours of Hugging Face Jobs. Mini models train on the processor, wherever they are."""
OUT = "mine"
PREFIX = ["python", "-m", "sdsdemo"]


def on_jobs(recipe: Recipe, *, mini: bool) -> str:
    """A shell script that builds the package, stores it in a bucket, and runs the recipe on Hugging Face Jobs.

    mini: whether the base is a Mini model.
    """
    wheel = f"sdsdemo-{__version__}-py3-none-any.whl"
    job = ["hf", "jobs", "uv", "run", "--flavor", NO_GPU if mini else GPU, "--timeout", "12h"]
    job += ["-v", f"{BUCKET}:{FOLDER}", "-e", "SDSDEMO_ALLOW_DOWNLOAD=on", "--with", f"{FOLDER}/{wheel}", "sdsdemo"]
    return "\n".join(
        [
            "pip wheel . --no-deps --wheel-dir dist",
            "hf buckets create sdsdemo",
            shlex.join(["hf", "buckets", "cp", f"dist/{wheel}", f"{BUCKET}/{wheel}"]),
            shlex.join(job + _arguments(recipe, f"{FOLDER}/{OUT}")),
        ]
    )


def on_gpus(recipe: Recipe, count: int = 2) -> str:
    """The command that shares each step between the GPUs of a machine."""
    return shlex.join(["torchrun", "--nproc-per-node", str(count), "-m", "sdsdemo", *_arguments(recipe, f"runs/{OUT}")])


def _arguments(recipe: Recipe, out: str) -> list[str]:
    """The recipe's command line, from its verb on."""
    return shlex.split(recipe.command(out))[len(PREFIX) :]
