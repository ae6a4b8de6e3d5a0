"""The page's server as one of the places: it is asked over HTTP to take a picture, to score it, and to train."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import httpx

from sdsdemo.app.janitor import janitor_of
from sdsdemo.app.job_states import Job
from sdsdemo.app.jobs import Jobs
from sdsdemo.errors import UserError
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run_folder import ENDED, FineTuningFolder
from sdsdemo.models.delta import read_delta
from sdsdemo.runtime import homes
from sdsdemo.settings import ASSETS
from tests.faults import places

CAPTIONS = ["a red cross is left of an orange arrow", "an orange arrow is left of a red cross"]
PICTURE = ASSETS / "mini" / "examples" / "a-red-cross-is-left-of-an-orange-arrow.png"
FULL_DISK = 507
RECIPE = Recipe(objective="clip", steps=4, batch=4, pool=16, keep_every=1, measure_every=10_000)


def run_page(folder: Path, say: places.Say) -> None:
    """A server and its one visitor, who comes back to a run that was cut short."""
    (folder / "tmp").mkdir(exist_ok=True)
    temporary = homes.own_folder(folder / "tmp")
    os.environ["GRADIO_TEMP_DIR"] = str(temporary)
    from gradio_client import Client, handle_file

    from sdsdemo.ui.page import build_page, launch_options

    jobs = Jobs(places.workbench(), folder / "runs")
    page = build_page(jobs.workbench, jobs=jobs)
    _, address, _ = page.launch(**launch_options("127.0.0.1", _free_port()), quiet=True, prevent_thread_lock=True)
    janitor_of(jobs, temporary).start()
    places.say_checkpoints(say)
    id_ = _begun(jobs)
    say(f"run {id_}")
    visitor = Client(address, verbose=False, download_files=False)
    try:
        answer = visitor.predict(handle_file(str(PICTURE)), CAPTIONS, ["mini-clip"], 2, 2, api_name="/score")
    except httpx.HTTPStatusError as error:  # the page shows what it says
        if error.response.status_code != FULL_DISK:
            raise
        raise UserError(error.response.json()["detail"]) from error
    assert answer["models"][0]["scores"], answer
    say("scored")
    _wait(jobs, id_, say)
    others = [path.name for path in temporary.parent.glob("page-*") if not path.name.startswith(temporary.name)]
    if others:
        raise AssertionError(f"left by a killed server: {others}")


def page_faults(folder: Path, said: Sequence[str]) -> list[str]:
    """What a new server would show."""
    jobs, faults = Jobs(places.workbench(), folder / "runs"), []
    for id_ in (one.split()[1] for one in said if one.startswith("run")):
        run = jobs.get(id_)
        if run.state not in ENDED or not (run.can_resume or run.state == "finished"):
            faults.append(f"shown as {run.state}: {run.reason}")
        faults += places.lost_steps(jobs.folder(id_) / "checkpoint.run", said)
        if "weights" in said:
            read_delta(jobs.folder(id_) / "model.safetensors")
    return faults


def page_differs(whole: Path, cut: Path) -> bool:
    """A cut run counts as the same where one ended with the same weights."""
    (first,) = Jobs(places.workbench(), whole / "runs").ids
    runs = (FineTuningFolder(cut / "runs" / id_) for id_ in Jobs(places.workbench(), cut / "runs").ids)
    return all(not run.model.is_file() or places.differ(whole / "runs" / first, run.path) for run in runs)


def _begun(jobs: Jobs) -> str:
    """A new run, or the one that was cut short, which goes on."""
    if not jobs.ids:
        return jobs.start(RECIPE)
    id_ = jobs.ids[0]
    if jobs.get(id_).state != "finished":
        jobs.resume(id_)
    return id_


def _wait(jobs: Jobs, id_: str, say: places.Say) -> None:
    """Until a run has ended. Raises `UserError` with the reason where it failed."""
    run: Job = jobs.get(id_)
    while not run.is_over:
        if run.written:
            say("weights")
        run = jobs.wait(id_, run.version, 1.0)
    if run.state != "finished":
        raise UserError(run.reason)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


PAGE = places.Place(work=run_page, faults=page_faults, differs=page_differs)
