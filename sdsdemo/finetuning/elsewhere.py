"""The commands that run a recipe on another machine and publish what it trained. Runs none of them.

Hugging Face Jobs run a command beside a bucket that holds the package, and later the run. A cluster runs a script of
Slurm's, in which Accelerate starts the processes. All of them resume: started again, they continue the run.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from itertools import chain
from pathlib import PurePath
from typing import Any

from sdsdemo import __version__
from sdsdemo.finetuning.recipe import USUAL_PRESET, Recipe
from sdsdemo.models import sources
from sdsdemo.models.public_names import is_own_file, path_of_source

BUCKET, FOLDER, DATA = "hf://buckets/YOUR-NAME/sdsdemo", "/sdsdemo", "/data"
"""YOUR-NAME stands for the visitor's own account."""
LARGE_GPU, GPU, NO_GPU = "l40sx1", "a10g-large", "cpu-upgrade"
"""Flavours of Hugging Face Jobs: of 48 GB, which a denoiser in every step wants, and of 24 GB. Mini models train on the
processor, wherever they are."""
OUT = "runs/mine"
PREFIX = ["python", "-m", "sdsdemo"]
PLACES = {"data": DATA, "base": "/base", "teacher": "/teacher", "measure": "/measure"}
"""Settings that may name a folder or a file of this machine, and where a job finds it."""
NODES = ((2, 4), (2, 2), (2, 1))
"""Nodes of a cluster and the GPUs of each; the first whose product divides the batch is taken, or else one GPU."""
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
ACCELERATE = (
    'accelerate launch{multi} --num_machines {nodes} --num_processes {count} --machine_rank "$SLURM_NODEID" '
    '--same_network --main_process_ip "$MASTER" --main_process_port "$PORT" -m sdsdemo {arguments}'
)
SLURM = """#!/bin/bash
#SBATCH --job-name=sdsdemo
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={gpus}
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
# Five minutes before its time is up, the job returns to the queue; the run continues from its checkpoint.
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1
export MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export PORT=$((29500 + SLURM_JOB_ID % 1000))
# Where one node fails, the others end too, instead of waiting for it.
export SLURM_KILL_BAD_EXIT=1
srun bash -c {launch} &
wait $! || exit
# On nodes without the internet, give this line on the login node instead.
{publish}"""
"""What `sbatch` takes. The folder of --out must be shared by the nodes."""


def on_jobs(recipe: Recipe, *, mini: bool, out: str = OUT) -> str:
    """The lines that build the package, store it in a bucket, run the recipe on Hugging Face Jobs, and publish.

    mini: whether the base is a Mini model. The last line is a job of its own, so that a refusal costs no training; it
    loads the base again.
    """
    wheel, name = f"sdsdemo-{__version__}-py3-none-any.whl", _name(out)
    recipe, mounts = _mounted(recipe)
    job = ["-v", f"{BUCKET}:{FOLDER}", "-e", "SDSDEMO_ALLOW_DOWNLOAD=on", "--with", f"{FOLDER}/{wheel}", "sdsdemo"]
    lines = [
        ["pip", "wheel", ".", "--no-deps", "--wheel-dir", "dist"],
        ["hf", "buckets", "create", "sdsdemo"],
        ["hf", "buckets", "cp", f"dist/{wheel}", f"{BUCKET}/{wheel}"],
        [
            *_uv_run(_flavour(recipe, mini), "12h"),
            "--secrets",
            "HF_TOKEN",
            *chain.from_iterable(mounts.values()),
            *job,
            *_arguments(recipe, f"{FOLDER}/{name}"),
        ],
        [
            *_uv_run(NO_GPU, "1h"),
            "--secrets",
            "HF_TOKEN",
            *mounts.get("base", []),
            *job,
            *_publish(f"{FOLDER}/{name}", f"/tmp/{name}"),
        ],
    ]
    return "\n".join(shlex.join(line) for line in lines)


def on_gpus(recipe: Recipe, *, out: str = OUT) -> str:
    """The commands that share each step between two GPUs of a machine, or one if the batch is odd, and publish."""
    run = ["torchrun", "--nproc-per-node", str(1 + (recipe.batch % 2 == 0)), "-m", "sdsdemo", *_arguments(recipe, out)]
    return "\n".join(shlex.join(line) for line in (run, [*PREFIX, *_publish(out, f"{out}-model")]))


def on_slurm(recipe: Recipe, *, out: str = OUT) -> str:
    """The script for `sbatch` that shares each step between the GPUs of several nodes, and publishes."""
    nodes, gpus = next((shape for shape in NODES if recipe.batch % (shape[0] * shape[1]) == 0), (1, 1))
    launch = ACCELERATE.format(
        multi=" --multi_gpu" if nodes > 1 else "",
        nodes=nodes,
        count=nodes * gpus,
        arguments=shlex.join(_arguments(recipe, out)),
    )
    publish = shlex.join([*PREFIX, *_publish(out, f"{out}-model")])
    return SLURM.format(nodes=nodes, gpus=gpus, launch=shlex.quote(launch), publish=publish)


def _flavour(recipe: Recipe, mini: bool) -> str:
    if mini:
        return NO_GPU
    return LARGE_GPU if recipe.teacher_in_loop else GPU


def _uv_run(flavour: str, hours: str) -> list[str]:
    return ["hf", "jobs", "uv", "run", "--flavor", flavour, "--timeout", hours]


def _mounted(recipe: Recipe) -> tuple[Recipe, dict[str, list[str]]]:
    """The recipe with its folders and files of this machine where a job finds them, and the options that bring them,
    by setting.
    """
    places: dict[str, Any] = {}
    mounts: dict[str, list[str]] = {}
    for name, place in PLACES.items():
        begin, path, end = _path_in(name, getattr(recipe, name))
        if path:
            is_file = PurePath(path).suffix in sources.WEIGHT_SUFFIXES
            folder, inside = (str(PurePath(path).parent), f"/{PurePath(path).name}") if is_file else (path, "")
            places[name] = f"{begin}{place}{inside}{end}"
            mounts[name] = ["-v", f"{folder}:{place}"]
    return replace(recipe, **places), mounts


def _path_in(name: str, value: str) -> tuple[str, str, str]:
    """A setting's path on this machine, between what stands before and after it; all "" if it names none."""
    if name in ("data", "measure"):
        return path_of_source(value)
    if not is_own_file(value):
        return "", "", ""
    kind, _, rest = value.partition(":")
    begin = f"{kind}:"
    if rest.startswith(sources.LOCAL_DIR):
        begin += sources.LOCAL_DIR
    elif sources.FAMILIES[kind] == "clip":
        begin += rest.partition("/")[0] + "/"
    return begin, value.removeprefix(begin), ""


def _arguments(recipe: Recipe, out: str) -> list[str]:
    """The recipe's command line, from its verb on, with the preset that it starts from. Given again, it continues."""
    verb, *flags = shlex.split(recipe.command(out))[len(PREFIX) :]
    return [verb, "--preset", USUAL_PRESET, *flags, "--resume"]


def _publish(run: str, folder: str) -> list[str]:
    """The verb that writes the run's model as a whole one, with its card, and publishes it under the user's account."""
    return ["export", f"sds-clip:{run}/model.safetensors", "--out", folder, "--push", f"sdsdemo-{_name(run)}"]


def _name(out: str) -> str:
    """The run's own name, in the letters that the Hub allows."""
    return NOT_IN_A_NAME.sub("-", PurePath(out).name)[:80] or "mine"
