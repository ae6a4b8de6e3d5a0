"""The About tab: the method, what the numbers do not say, the models with their licences, privacy, versions."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gradio as gr
from typing_extensions import TypedDict

from sdsdemo.app.workbench import Workbench
from sdsdemo.core.number_format import NO_SCORE, is_of_nothing
from sdsdemo.evaluation.limits import lesson_words
from sdsdemo.evaluation.report import read_result
from sdsdemo.mini.experiments.shapes import Findings, Point
from sdsdemo.mini.experiments.verdict import verdict
from sdsdemo.runtime.shipped import shipped
from sdsdemo.settings import ASSETS, CHECKPOINTS
from sdsdemo.types import Card
from sdsdemo.ui.compare_html import size_words
from sdsdemo.ui.results_html import EXPERIMENT

METHOD = """
<h2>Three ways to ask one question</h2>
<p>Given a picture <i>x</i> and captions <i>c</i>, each model gives every caption a number; the caption with the best
number is the one that it prefers.</p>
<dl class="method">
<dt>CLIP</dt>
<dd><code>s(x, c) = 100 · cos( f(x), g(c) )</code> One encoder reads the picture, another the caption; the score is how
far their directions agree. Higher is better.</dd>
<dt>Denoising diffusion score</dt>
<dd><code>d(x, c) = mean over (t, ε) of ‖ ε<sub>θ</sub>(z<sub>t</sub>, t, c) − ε ‖²</code> Noise ε is added to the
picture's latent at timestep t; a text-to-image model that reads the caption guesses the noise. Lower is better: the
right caption helps the guess. All captions meet the same noise, so what is compared is a <i>paired</i> difference.</dd>
<dt>SDS-CLIP</dt>
<dd><code>L = L<sub>CLIP</sub> + λ · L<sub>SDS</sub></code> CLIP fine-tuned so that its image embedding, mapped to a
latent by a linear map, has a low denoising loss under the frozen diffusion model: it is to learn what the diffusion
model knows, and stays as quick as CLIP. <a href="https://arxiv.org/abs/2307.09233">arXiv 2307.09233</a>.</dd>
</dl>
"""
LIMITS_OF_NUMBERS = """
<h2>What the numbers do not say</h2>
<ul>
<li>“Decided” means that other noise draws would hardly turn the preference round (95 % level); a CLIP draws no noise,
so any difference beyond rounding decides. A model can be decided and wrong.</li>
<li>The standard error is that of the noise draws alone. It says nothing about other pictures or other wordings.</li>
<li>A cosine and a loss have no common scale: compare the verdicts of two rows, not their numbers.</li>
<li>One picture is an anecdote. <code>python -m sdsdemo evaluate mini</code> scores 400, with intervals.</li>
<li>The Mini models know a small drawn world and its few words. They show the method at work; they are no stand-in for
the real models' results.</li>
</ul>
"""
MEASURED_FILE = "mini/results/mini.json"
SCORED_FILES = (MEASURED_FILE, "mini/results/mini-retrieval.json")
"""What the card of a model of ours quotes."""
MEASURED = """
<h2>What we measured</h2>
<p>The Mini benchmark: {n} examples of two pictures and two captions, of combinations that no model was trained on.
Percent right, with the 95 % interval (Wilson); {timesteps} timesteps, {noises} noise draws each, seed {seed}.
<i>Text</i>: the right caption for both pictures. <i>Image</i>: the right picture for both captions. <i>Group</i>: both.
Compare <code>mini-sds-clip</code> with <code>mini-clip-control</code>, the same fine-tuning without the teacher;
<code>mini-preference-clip</code> was taught by what the teacher prefers, and its control is in the experiment on
Results. The command is <code>python -m sdsdemo evaluate mini</code>.</p>
"""


class QuotedResult(TypedDict):
    """What a card quotes of a result."""

    benchmark: str
    n: int
    chance: dict[str, float]
    models: dict[str, dict[str, Any]]


PRIVACY = """
<h2>Your pictures, and programs</h2>
<p>A picture that you put in stays in a temporary folder of the server, is deleted when it is a day old, is never part
of a link and never logged; captions are not logged either. The page loads nothing from other sites.</p>
<p>Programs use one endpoint, <code>/score</code> (see “Use via API” below the page), or <code>python -m sdsdemo score
PICTURE "caption A" "caption B" --json</code>; both return the same record.</p>
"""
LIBRARIES = ("torch", "open_clip_torch", "diffusers", "transformers", "gradio")


def build(workbench: Workbench) -> None:
    """Lays the tab out. It has no events."""
    gr.HTML(
        f'<div class="about">{METHOD}{LIMITS_OF_NUMBERS}{measured_html()}{models_html(workbench)}{PRIVACY}'
        f"<h2>Versions</h2><p>{escape(versions_line())}</p></div>",
        elem_id="about",
    )


def measured_html(assets: Path = ASSETS) -> str:
    """Our own figures on the Mini benchmark, with n and intervals; nothing where they are not shipped."""
    path = assets / MEASURED_FILE
    if not path.is_file():
        return ""
    result = read_result(path)
    metrics = list(result["chance"])
    head = "".join(f'<th scope="col">{metric.replace("_", "-")}</th>' for metric in metrics)
    rows = "".join(
        f'<tr><th scope="row"><code>{escape(name)}</code></th>'
        + "".join(f"<td>{_share(entry[metric])}</td>" for metric in metrics)
        + "</tr>"
        for name, entry in result["models"].items()
    )
    chance = "".join(f"<td>{100 * result['chance'][metric]:.1f}</td>" for metric in metrics)
    return (
        MEASURED.format(n=result["n"], **result["settings"])
        + f'<div class="wide"><table><thead><tr><td></td>{head}</tr></thead>'
        + f'<tbody>{rows}<tr><th scope="row">chance</th>{chance}</tr></tbody></table></div>'
        + f"<p>{lesson_words(result['models'])} {captions_words(result['models'])}</p>"
        + experiment_html(assets)
    )


def experiment_html(assets: Path = ASSETS) -> str:
    """What fine-tuning does in the experiment, as its file says; nothing where it is not shipped or has not begun."""
    path = assets / EXPERIMENT
    said = verdict(shipped(path, Findings)) if path.is_file() else []
    points = "".join(f"<li>{escape(point)}</li>" for point in said)
    return f"<h3>Does fine-tuning help?</h3><ul>{points}</ul><p>Results has the whole experiment.</p>" if said else ""


def captions_words(models: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Which share of the gap between CLIP and the diffusion score is the captions' doing; empty without a model."""
    if not {"mini-clip", "mini-clip-clean", "mini-diffusion"} <= models.keys():
        return ""
    shares = []
    for metric in ("text", "image", "group"):
        low, clean, high = (
            100 * models[f"mini-{name}"][metric]["value"] for name in ("clip", "clip-clean", "diffusion")
        )
        shares.append(f"{clean - low:.0f} of {high - low:.0f} points of {metric} score")
    return (
        "Of the gap between <code>mini-clip</code> and <code>mini-diffusion</code>, the captions that CLIP was raised "
        f"on are {', '.join(shares)}: so much <code>mini-clip-clean</code> gains, the same network on whole sentences."
    )


def models_html(workbench: Workbench) -> str:
    """All cards: what each was trained on, its licence and size, and published results with their source."""
    entries = "".join(_card_html(card, _where(card, workbench)) for card in workbench.cards())
    return f'<h2>Models</h2><div class="cards">{entries}</div>'


def measured_card(name: str, assets: Path = ASSETS, curves: Path = CHECKPOINTS / "curves") -> list[str]:
    """What it cost to train a model of ours, and how it does: read from the files that training and scoring left."""
    own = curves / f"{name}.json"
    parts = [own] if own.is_file() else sorted(curves.glob(f"{name}-*.json"))
    steps = sum(_last_step(path) for path in parts)
    said = (
        [f"Cost: {steps:,} steps of training" + (f" in {len(parts)} parts." if len(parts) > 1 else ".")]
        if steps
        else []
    )
    for file in SCORED_FILES:
        path = assets / file
        result = shipped(path, QuotedResult) if path.is_file() else {"models": {}}
        entry = result["models"].get(name)
        if entry is not None and result["chance"].keys() <= entry.keys():
            shares = ", ".join(
                f"{metric.replace('_', '-')} {_plain_share(entry[metric])}" for metric in result["chance"]
            )
            said.append(f"Measured on {result['benchmark']}, n = {result['n']}: {shares} percent.")
    return said


def _last_step(curve: Path) -> int:
    points: list[Point] = shipped(curve, list[Point])
    return int(points[-1]["step"]) if points else 0


def versions_line() -> str:
    """The libraries that compute the numbers."""
    return " · ".join(f"{name} {_version(name)}" for name in LIBRARIES)


def _share(share: Mapping[str, float]) -> str:
    if is_of_nothing(share):
        return NO_SCORE
    low, high = 100 * share["low"], 100 * share["high"]
    return f"{100 * share['value']:.1f} <small>{low:.0f} to {high:.0f}</small>"


def _plain_share(share: Mapping[str, float]) -> str:
    if is_of_nothing(share):
        return NO_SCORE
    return f"{100 * share['value']:.1f} ({100 * share['low']:.0f} to {100 * share['high']:.0f})"


def _where(card: Card, workbench: Workbench) -> str:
    """Where the weights are; what a download would bring is not asked, which would load the libraries at the start."""
    if card.download:
        return " to download"
    return ", here" if workbench.availability(card).can_run else ", once it is trained"


def _card_html(card: Card, where: str) -> str:
    size = size_words(card.size_mb)
    own = measured_card(card.name) if card.name.startswith("mini-") else []
    captions = f"Captions: {card.caption_stream}" if card.caption_stream else ""
    limits = f"Limits: {card.limits}" if card.limits else ""
    said = "".join(f"<p>{escape(line)}</p>" for line in (card.training, captions, *own, limits) if line)
    published = "".join(f"<li>{_published(result)}</li>" for result in card.published)
    return (
        f"<article><h3>{escape(card.title)}</h3>"
        f'<p class="facts"><code>{escape(card.name)}</code> · {escape(card.licence)} · {size}{where}</p>'
        f"<p>{escape(card.summary)}</p>{said}"
        + (f'<ul class="published">{published}</ul>' if published else "")
        + "</article>"
    )


def _published(result: Mapping[str, object]) -> str:
    """One published result: never without its source, and marked where it was remembered, not read."""
    known = {"benchmark", "source", "sure"}
    values = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in result.items() if key not in known)
    remembered = "; from memory, not re-read" if result.get("sure") == "recalled" else ""
    return escape(f"{result.get('benchmark', '')}: {values} ({result.get('source', 'no source')}{remembered})")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
