"""The commands for another machine: each is parsed by its own program, and what of it is ours gives the recipe back."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app.hub_upload import NAME
from sdsdemo.cli import main
from sdsdemo.finetuning import elsewhere
from sdsdemo.finetuning.recipe import PRESETS, Recipe, from_preset

RECIPES = [
    *PRESETS.values(),
    replace(PRESETS["minute"], objective="sds", lam=1.0, h_w="default", jacobian=False),
    replace(PRESETS["paper-vit-b-16"], data="folder:my pictures", withheld_words="it's left of; rm -rf $HOME"),
]
SLURM = {"SLURM_JOB_ID": "70123", "SLURM_JOB_NODELIST": "gpu[1-2]", "SLURM_NODEID": "1"}
needs_bash = pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="Slurm runs bash")


def ours(words: list[str]) -> Namespace:
    found: Namespace = main._parser().parse_args(words)
    return found


def given_by(asked: Namespace) -> Recipe:
    changed = {f.name: v for f in fields(Recipe) if (v := getattr(asked, f.name)) is not None}
    return from_preset(asked.preset, changed)


def check_published(words: list[str], run: str) -> None:
    """The model that `export` publishes is the one that the run writes."""
    asked = ours(words)
    assert asked.model == f"sds-clip:{run}/model.safetensors"
    assert NAME.fullmatch(asked.push)
    assert str(asked.out) != run


def hub_options(words: list[str]) -> dict[str, Any]:
    """What the Hub's own command line reads."""
    from huggingface_hub.cli.buckets import buckets_cli
    from huggingface_hub.cli.jobs import jobs_cli

    command: Any = {"jobs": jobs_cli, "buckets": buckets_cli}[words[1]]
    words = words[2:]
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    params: dict[str, Any] = command.make_context(command.name, words).params
    return params


def of_torchrun(words: list[str]) -> Namespace:
    from torch.distributed.run import get_args_parser

    return get_args_parser().parse_args(words)


def of_accelerate(words: list[str]) -> Namespace:
    from accelerate.commands.launch import launch_command_parser

    found: Namespace = launch_command_parser().parse_args(words)
    return found


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("mini", [True, False])
def test_a_job_runs_the_recipe_and_another_publishes(recipe: Recipe, mini: bool) -> None:
    build, *hub = [shlex.split(line) for line in elsewhere.on_jobs(recipe, mini=mini).splitlines()]
    assert build[:2] == ["pip", "wheel"]
    create, copy, run, publish = [hub_options(words) for words in hub]
    assert create["bucket_id"] == "sdsdemo"
    assert copy["src"] == f"dist/{Path(run['with_'][0]).name}"
    for job in (run, publish):
        assert job["script"] == "sdsdemo"
        assert list(job["with_"]) == [f"/sdsdemo/{Path(copy['dst']).name}"]
        assert job["volume"][-1] == "hf://buckets/YOUR-NAME/sdsdemo:/sdsdemo"
    assert run["flavor"] == ("cpu-upgrade" if mini else "l40sx1" if recipe.teacher_in_loop else "a10g-large")
    assert list(run["secrets"]) == list(publish["secrets"]) == ["HF_TOKEN"]  # models and benchmarks may be gated
    asked = ours(list(run["script_args"]))
    assert (str(asked.out), asked.resume) == ("/sdsdemo/mine", True)
    kind, _, folder = recipe.data.partition(":")
    mounted = recipe if recipe.is_mini else replace(recipe, data=f"{kind}:/data")
    assert given_by(asked) == mounted
    assert list(run["volume"][:-1]) == ([] if recipe.is_mini else [f"{folder}:/data"])
    check_published(list(publish["script_args"]), "/sdsdemo/mine")


def test_a_job_takes_along_what_lies_on_this_machine() -> None:
    recipe = replace(
        PRESETS["paper-vit-b-16"], base="open_clip:ViT-B-32/my clips/w.pt", teacher="diffusers:/home/ada/my-sd",
        data="coco:c", measure="folder:/home/ada/pairs",
    )  # fmt: skip
    run, publish = (hub_options(shlex.split(x)) for x in elsewhere.on_jobs(recipe, mini=False).splitlines()[3:])
    assert list(publish["volume"][:-1]) == ["my clips:/base"]  # which `export` loads
    assert list(run["volume"][:-1]) == [
        "c:/data",
        "my clips:/base",
        "/home/ada/my-sd:/teacher",
        "/home/ada/pairs:/measure",
    ]
    there = {"base": "open_clip:ViT-B-32//base/w.pt", "teacher": "diffusers:/teacher", "measure": "folder:/measure"}
    assert given_by(ours(list(run["script_args"]))) == replace(recipe, data="coco:/data", **there)
    shipped = replace(recipe, base="open_clip:local-dir:checkpoints/mini-clip", teacher="sd-v1-4", measure="winoground")
    run = hub_options(shlex.split(elsewhere.on_jobs(shipped, mini=False).splitlines()[3]))
    assert list(run["volume"][:-1]) == ["c:/data"]
    tuned = replace(shipped, base="open_clip:local-dir:runs/mine-model")  # as `on_gpus` and `on_slurm` write it
    run = hub_options(shlex.split(elsewhere.on_jobs(tuned, mini=False).splitlines()[3]))
    assert list(run["volume"][:-1]) == ["c:/data", "runs/mine-model:/base"]
    shards = replace(shipped, data="hub:/home/ada/shards@val")  # a folder that `datasets` reads
    run = hub_options(shlex.split(elsewhere.on_jobs(shards, mini=False).splitlines()[3]))
    assert list(run["volume"][:-1]) == ["/home/ada/shards:/data"]
    assert given_by(ours(list(run["script_args"]))).data == "hub:/data@val"


@pytest.mark.parametrize("recipe", [*RECIPES, replace(PRESETS["mini"], batch=33)])
def test_the_commands_for_two_gpus_give_the_recipe_back(recipe: Recipe) -> None:
    run, publish = [shlex.split(line) for line in elsewhere.on_gpus(recipe, out="runs/a b").splitlines()]
    assert run[0] == "torchrun"
    launched = of_torchrun(run[1:])
    assert (launched.module, launched.training_script) == (True, "sdsdemo")
    assert recipe.batch % int(launched.nproc_per_node) == 0
    asked = ours(launched.training_script_args)
    assert (given_by(asked), str(asked.out), asked.resume) == (recipe, "runs/a b", True)
    check_published(publish[3:], "runs/a b")


@pytest.fixture
def cluster(tmp_path: Path) -> Callable[..., Any]:
    """Starts a script under bash with programs that only note how they were called; `srun` runs what it is given."""
    programs = {
        "srun": '[ -n "$LATE" ] && { touch "$CALLS/started"; sleep 30; }; "$@"',
        "scontrol": '[ "$1" = show ] && { echo gpu1; echo gpu2; }; true',
        "accelerate": "true",
        "python": "true",
    }
    (tmp_path / "bin").mkdir()
    for name, does in programs.items():
        path = tmp_path / "bin" / name
        path.write_text(f'#!/bin/bash\nprintf "%s\\0" "$@" > "$CALLS/{name}.$1"\n{does}\n')
        path.chmod(0o755)

    def start(script: str, **more: str) -> subprocess.Popen[bytes]:
        (tmp_path / "job.sh").write_text(script)
        home = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path), "HOME": str(tmp_path)}
        return subprocess.Popen(
            ["bash", str(tmp_path / "job.sh")], env=SLURM | home | more, cwd=tmp_path, start_new_session=True
        )

    return start


def called(folder: Path, name: str) -> list[str]:
    (path,) = folder.glob(f"{name}*")
    return path.read_text().split("\0")[:-1]


@needs_bash
@pytest.mark.parametrize("recipe", [*RECIPES, *(replace(PRESETS["mini"], batch=k) for k in (12, 6, 33))])
def test_the_script_for_a_cluster_gives_the_recipe_back(recipe: Recipe, cluster: Any, tmp_path: Path) -> None:
    script = elsewhere.on_slurm(recipe, out="runs/a b")
    assert cluster(script).wait(60) == 0
    launched = of_accelerate(called(tmp_path, "accelerate")[1:])
    directives = dict(line[10:].partition("=")[::2] for line in script.splitlines() if line.startswith("#SBATCH --"))
    nodes, gpus = int(directives["nodes"]), int(directives["gpus-per-node"])
    assert {"requeue", "signal", "open-mode"} <= directives.keys()
    assert "export SLURM_KILL_BAD_EXIT=1\n" in script.partition("srun")[0]
    assert (launched.num_machines, launched.num_processes) == (nodes, nodes * gpus)
    assert recipe.batch % launched.num_processes == 0
    assert launched.multi_gpu == (launched.num_processes > 1)
    assert (launched.machine_rank, launched.main_process_ip, launched.main_process_port) == (1, "gpu1", 29_623)
    assert (launched.module, launched.training_script, launched.same_network) == (True, "sdsdemo", True)
    asked = ours(launched.training_script_args)
    assert (given_by(asked), str(asked.out), asked.resume) == (recipe, "runs/a b", True)
    check_published(called(tmp_path, "python")[2:], "runs/a b")


@needs_bash
def test_a_job_whose_time_is_up_is_queued_again_and_publishes_nothing(cluster: Any, tmp_path: Path) -> None:
    job = cluster(elsewhere.on_slurm(PRESETS["mini"]), LATE="yes")
    try:
        while not (tmp_path / "started").exists():
            assert job.poll() is None
            time.sleep(0.05)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(20) != 0
    finally:
        os.killpg(job.pid, signal.SIGKILL)
    assert called(tmp_path, "scontrol.requeue") == ["requeue", SLURM["SLURM_JOB_ID"]]
    assert not list(tmp_path.glob("python.*"))


@pytest.mark.parametrize("where", ["jobs", "gpus", "slurm"])
def test_show_prints_the_commands_of_the_page(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["finetune", "--preset", "quick", "--show", where]) == 0
    want = {"jobs": lambda r: elsewhere.on_jobs(r, mini=True), "gpus": elsewhere.on_gpus, "slurm": elsewhere.on_slurm}
    assert capsys.readouterr().out == want[where](PRESETS["quick"]) + "\n"


def test_show_names_the_folder_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for where in ("jobs", "gpus", "slurm"):
        assert main.main(["finetune", "--out", "runs/try 1", "--show", where]) == 0
        shown = capsys.readouterr().out
        assert "--push sdsdemo-try-1" in shown
        assert "mine" not in shown.replace("YOUR-NAME", "")


def test_show_alone_says_what_may_follow_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["finetune", "--show"]) == 0
    assert "--show slurm" in capsys.readouterr().err
