"""Every view of the page that is made of text alone, with one text wherever a view takes foreign text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdsdemo.app.job_states import EvaluationPoint, Job, Point
from sdsdemo.core.decision import decide
from sdsdemo.core.intervals import paired_change, proportion
from sdsdemo.errors import UserError
from sdsdemo.evaluation.catalogue import Catalogue, Filter, by_mode, by_tag, by_transition, read_catalogue, tally
from sdsdemo.evaluation.margin_box import MarginBox
from sdsdemo.evaluation.store import RunFolder, read_run
from sdsdemo.finetuning.recipe import PRESETS
from sdsdemo.models import cards
from sdsdemo.settings import ASSETS, budget
from sdsdemo.types import Answer, Evidence, Example, Picture, Scores
from sdsdemo.ui import (
    about,
    browse_bar,
    browse_charts,
    browse_example,
    browse_html,
    browse_plot,
    finetune_html,
    results_html,
    results_story,
    training_curves,
)
from sdsdemo.ui.browse_example import Position
from sdsdemo.ui.browse_filters import FilterValues, default_filters, filter_of
from sdsdemo.ui.examples import ShownExample
from sdsdemo.ui.race import race_view
from sdsdemo.ui.recipe_form import why_html
from sdsdemo.ui.templates import render
from sdsdemo.ui.thumbnails import Thumbnails, picture_html
from tests.conftest import fake_workbench
from tests.fakes import MINI_CARDS, FakeDenoiser, fake_card
from tests.ui.compare_views import (
    Views,
    change_views,
    compare_views,
    denoising_views,
    draw_views,
    guess_views,
    scene_views,
    strip_views,
)

MODELS = ("mini-clip", "mini-diffusion")
SHAPES = [(1, 2), (2, 5), (1, 1), (2, 2), (1, 20), (3, 12), (1, 9), (1, 2), (2, 3), (1, 8)]
"""(true captions, captions) of the examples with one image."""


def views(text: str, folder: Path) -> Views:
    """Name and HTML of each view. folder: an empty one, where runs are stored on the way."""
    yield from compare_views(text)
    yield from browse_views(text, folder)
    yield from denoising_views(text)
    yield from draw_views(text)
    yield from guess_views(text)
    yield from strip_views(text)
    yield from scene_views(text)
    yield from change_views(text)
    yield from results_views(text)
    yield from about_views(text)
    yield from finetune_views(text)


def example(number: int, text: str, true: int = 0, captions: int = 2) -> Example:
    """A pair of pairs, or one image and its captions where `true` says how many of them are true."""
    pictures = tuple(
        Picture(name=f"{text} {number}", open=_opener(number), key=f"{number}-{k}") for k in range(1 if true else 2)
    )
    texts = tuple(f"{text} caption {c} of {number}" for c in range(captions))
    tags = {"tag": f"{text} {number % 2}", "collapsed_tag": "Object", "category": f"{text}" if number == 3 else ""}
    return Example(id=f"{text} e{number}", images=pictures, captions=texts, tags=tags)


def _opener(number: int) -> Any:
    def opened() -> Image.Image:
        if number == 2:
            raise UserError("It cannot be read.")
        return Image.new("RGB", (60, 40), (9 * number, 0, 0))

    return opened


def _scores(model: str, number: int, images: int, captions: int) -> Scores:
    rng = np.random.default_rng([number, len(model)])
    loss_ICTN = rng.uniform(0.5, 1, (images, captions, 3, 2)).astype(np.float32)
    score_IC = -loss_ICTN.astype(np.float64).mean(axis=(2, 3))
    if number in (1, 7):
        score_IC[:, 1 % captions] = score_IC[:, 0]
    if number == 8:
        score_IC[0, 1] = np.nan
    if model == "mini-diffusion":
        found = Evidence(timestep_T=np.array([100, 500, 900]), loss_ICTN=loss_ICTN, evaluations=6)
        return Scores(kind="denoising", score_IC=score_IC, evidence=found)
    return Scores(kind="similarity", score_IC=score_IC)


def catalogue(text: str, folder: Path, one_image: bool) -> Catalogue:
    """A stored run, read again, with `text` in all that its examples say."""
    shapes = SHAPES if one_image else [(0, 2)] * 30
    plain = [example(n, "x", *shape) for n, shape in enumerate(shapes)]
    run = RunFolder(folder, "mini", plain, budget(3, 2, 0))
    for model in MODELS:
        run.enter(model, cards.fingerprint(cards.resolve(model)))
        for n, one in enumerate(plain):
            run.add(model, one.id, _scores(model, n, len(one.images), len(one.captions)))
    found = read_catalogue(read_run(folder), lambda name: plain)
    return replace(found, examples=[example(n, text, *shape) for n, shape in enumerate(shapes)])


def browse_views(text: str, folder: Path) -> Views:
    titles = {model: f"{text} {model}" for model in MODELS}
    yield "browse picture", picture_html(example(2, text).images[0], 112, text, Thumbnails())
    yield "browse gated", render("browse.gated")
    yield "browse lesson", browse_html.lesson_html(MODELS) + browse_html.lesson_html(MODELS[:1])
    for one_image in (False, True):
        found = catalogue(text, folder / f"run{one_image}", one_image)
        yield from _browse_views(f"browse {'one image' if one_image else 'pairs'}", text, found, titles)


def _browse_views(name: str, text: str, found: Catalogue, titles: Mapping[str, str]) -> Views:
    thumbs, places = Thumbnails(), np.arange(len(found.examples))
    tags = tuple(found.tag_choices(("tag",)))[:1]
    for metric in found.metrics:
        wanted = Filter(model=MODELS[0], against=MODELS[1], metric=metric, tags=tags, who="fixed", modes=("swapped",))
        for some in (places, places[:3], places[:0]):
            counted = [tally(found, model, metric, some) for model in MODELS]
            yield f"{name} {metric} tallies {len(some)}", browse_charts.tallies_html(counted, MODELS, titles)
            for box in (None, MarginBox(-1.0, 1.0, y_low=0.0)):
                parts = found, some, replace(wanted, box=box), titles, by_transition(found, wanted)
                yield f"{name} {metric} plot {len(some)} {box}", browse_plot.plot_html(*parts)
            for page in (0, 1):
                if page * browse_html.PER_PAGE < max(len(some), 1):
                    shown = browse_html.gallery_html(found, some, page, wanted, titles, thumbs)
                    yield f"{name} {metric} gallery {len(some)} {page}", shown
        yield f"{name} {metric} tags", browse_charts.tags_html(by_tag(found, wanted), wanted, titles)
        empty = replace(wanted, words="nowhere at all")
        yield f"{name} {metric} tags of nothing", browse_charts.tags_html(by_tag(found, empty), empty, titles)
        yield f"{name} {metric} no tags", browse_charts.tags_html({}, wanted, titles)
        yield f"{name} {metric} modes", browse_charts.modes_html(by_mode(found, wanted), wanted, titles)
        for filters in (filters_of(wanted, text), filters_of(replace(wanted, against=MODELS[0]), text)):
            asked_for = filter_of(filters, found)
            yield f"{name} {metric} bar {filters.against}", browse_bar.bar_html(found, filters, asked_for, titles, 3)
        closest = replace(wanted, order="closest")
        yield f"{name} {metric} closest", browse_html.gallery_html(found, places, 0, closest, titles, thumbs)
    for place in places:
        asked = found, int(place), Position(int(place) % 3, 9), wanted, titles, f"?tab=browse&example={text}", thumbs
        yield f"{name} example {place}", browse_example.example_html(*asked, opened_by=int(place) % 2)


def filters_of(wanted: Filter, text: str) -> FilterValues:
    """Every filter set, with `text` where a visitor may write."""
    usual = default_filters("run", wanted.model, wanted.against)
    return usual._replace(
        metric=wanted.metric,
        tags=[f"tag={text}"],
        secondary=[f"secondary_tag={text}"],
        categories=[text],
        of_several="all",
        modes=[text],
        who="fixed",
        decided="decided",
        words=text[:200],
        box="-1:,:0.5",
    )


def renamed(text: str, **more: Any) -> dict[str, Any]:
    """The shipped result with `text` in the names of its models, its benchmark and its tags."""
    stored = (ASSETS / "mini" / "results" / "mini.json").read_text()
    safe = json.dumps(text)[1:-1]
    for word in ("mini-diffusion", "mini-preference", "left"):
        stored = stored.replace(f'"{word}', f'"{safe} {word}')
    skipped = [{"example": f"{text} 7", "reason": f"{text} is broken"}]
    result = json.loads(stored) | {"benchmark": f"{text} mini", "skipped": skipped, "notes": [text]} | more
    entry = next(iter(result["models"].values()))
    entry["blind"] = {metric: entry[metric] for metric in result["chance"]}
    shares = {**entry["blind"], "accuracy": next(iter(entry["blind"].values()))}
    alone = {"name": f"{text}, TOT", **shares, "by_tag": {f"{text} swap": shares}}
    for one in result["models"].values():
        one["text_only"] = {"name": f"{text}, TOT", "missing": f"{text}: no text embedding"}
    entry["text_only"] = alone
    return result


def results_views(text: str) -> Views:
    files = {"csv": f"results/{text}.csv"}
    for path in sorted((ASSETS / "mini" / "results").glob("*.json")):
        if path.stem != "experiment":
            result = json.loads(path.read_text())
            yield f"results {path.stem}", results_html.result_html(result, files, path.stem)
            yield f"results overview {path.stem}", results_html.overview_html({path.stem: result})
    named = renamed(text)
    yield "results named", results_html.result_html(named, {}, text)
    yield "results shown above", results_html.result_html(named, is_above=True)
    yield "results overview to come", render("results.overview_to_come", sentence=text)
    yield "results named overview", results_html.overview_html({text: named, "mini": renamed("x")})
    for part in (results_story.gap_part, results_story.effects_part, results_story.cost_part):
        yield f"results {part.__name__}", part(ASSETS)
        yield f"results no {part.__name__}", part(ASSETS / "nowhere")
    yield "results document", render("parts.document", name="mini.md") + render("parts.document", name=text)
    yield "results published", results_html.published_html()


def about_views(text: str) -> Views:
    bench = fake_workbench()
    yield "page masthead", render("page.masthead")
    yield "about measured", about.measured_html()
    yield "about page", about.page_html(bench)
    example = ShownExample(name=text, path=Path("x.png"), captions=(f"{text} one", text), true=0, title=text)
    card = MINI_CARDS[1]
    scores, denoised = FakeDenoiser(card).score_and_show(
        Image.new("RGB", (9, 9), "red"), example.captions, budget(3, 1), most=1.0
    )
    answer = Answer(card=card, scores=scores, preference=decide(scores), denoised=denoised)
    yield "about page with a picture", about.page_html(bench, (example, [answer]))
    yield "about experiment", about.experiment_html()
    yield "about models", about.models_html(bench)
    published: tuple[dict[str, str], ...] = (
        {"benchmark": text, "text_score": text, "source": text, "sure": "recalled"},
        {},
    )
    words: dict[str, Any] = {
        "title": text,
        "licence": text,
        "summary": text,
        "training": text,
        "limits": text,
        "caption_stream": text,
    }
    odd = replace(fake_card("odd", download=True), published=published, **words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "cards", lambda: [odd])
        yield "about odd model", about.models_html(bench)


def change(before: int, after: int, n: int = 400) -> dict[str, Any]:
    """A share before and after, with its change."""
    was, now = np.arange(n) < before, np.arange(n) < after
    shares = {"before": asdict(proportion(before, n)), "after": asdict(proportion(after, n))}
    return {**shares, "change": asdict(paired_change(was, now))}


def run_of(text: str, **facts: Any) -> Job:
    """A finished run with everything in its record."""
    first, other, worse = f"{text} validation", f"{text} retrieval", change(80, 20)
    not_finite = {"not_finite": {"before": 3, "after": 0}}
    measured = {
        "benchmark": "mini-validation",
        "sets": {
            first: {"n": 400, "metrics": {"text": change(80, 92), "image": worse, "group_match": change(1, 2)}},
            other: {"n": 400, "metrics": {"accuracy": change(300, 280)}, "kept": False} | not_finite,
        },
        "withheld": {"kind": {"withheld": text, **change(10, 12)}},
        "cosine": {"captions": [0.997, 0.99], "images": [0.5, 0.4]},
        "flipped": {"metric": "text", "fixed": ["3"], "broken": []},
    }  # fmt: skip
    asked = {"asked": 1200, "pairs": 900, "evaluations": 40000, "seconds": 80.0, "stand_ins": 1300}
    points = tuple(
        Point(step=k, losses={"loss": 1.0 / k, "sds": 0.1, text: 0.2}, smoothed=1.0 / k) for k in range(1, 41)
    )
    looks = tuple(EvaluationPoint(step=k, value=0.2, low=0.16, high=0.24, n=400, metric=text) for k in (0, 20))
    record = {"measured": measured, "seconds": 44.0, "preferences": asked | {"teacher_right": asdict(proportion(7, 9))}}
    whole: dict[str, Any] = {
        "id": "x", "recipe": PRESETS["quick"], "state": "finished", "step": 40, "seconds": 20.0, "points": points,
        "evaluations": looks, "written": True, "notices": (text, "another"), "record": record, "device": text,
    }  # fmt: skip
    return Job(**(whole | facts))


def race_views(text: str) -> Views:
    laps = tuple(
        EvaluationPoint(step=k, value=0.4, low=0.3, high=0.5, n=400, metric="text", pictures=bits * 200)
        for k, bits in ((0, "0"), (20, "f"))
    )
    runs = {"none": None, "own": run_of(text, evaluations=laps)}
    runs["apart"] = run_of(text, recipe=replace(PRESETS["quick"], data="folder:x"))
    for name, run in runs.items():
        view = race_view(run, Thumbnails())
        yield f"race {name}", view.chart
        yield f"race pictures {name}", view.pictures
    for is_mini in (True, False):
        commands = {"jobs": text, "gpus": text, "slurm": text}
        yield f"finetune elsewhere {is_mini}", render("finetune.elsewhere", **commands, is_mini=is_mini)
    yield "finetune why", why_html()


def finetune_views(text: str) -> Views:
    runs = {
        "finished": run_of(text),
        "quiet": run_of(
            text, notices=(), device="", record={"measured": run_of(text).record["measured"] | {"cosine": {}}}
        ),
        "waiting": Job(id="x", recipe=PRESETS["quick"], ahead=2),
        "next": Job(id="x", recipe=PRESETS["quick"]),
        "preparing": Job(id="x", recipe=PRESETS["quick"], state="preparing", text=text, done=2, total=7),
        "running": Job(id="x", recipe=PRESETS["quick"], state="running", step=10, seconds=5.0, device="cpu"),
        "measuring": run_of(text, state="stopping", record={}),
        "stopped": run_of(text, state="stopped", record={"out_of_time": True}),
        "interrupted": run_of(text, state="interrupted", written=False, record={}),
        "failed": Job(id="x", recipe=PRESETS["quick"], state="failed", reason=f"{text}: try --lambda."),
    }
    for state, run in {**runs, "none": None}.items():
        yield f"finetune status {state}", finetune_html.status_html(run)
        yield f"finetune result {state}", finetune_html.result_html(run)
        yield f"finetune flips {state}", finetune_html.flipped_html(run, {})
    both = {"3": finetune_html.pictured_html(example(3, text), Thumbnails())}
    yield "finetune flips with pictures", finetune_html.flipped_html(runs["finished"], both)
    yield "finetune pushed", render("finetune.pushed", address=f"https://{text}")
    for points in (runs["finished"].points, runs["finished"].points[:1]):
        yield f"finetune losses {len(points)}", training_curves.losses_svg(points, 40)
    yield from race_views(text)
    for looks in (runs["finished"].evaluations, ()):
        yield f"finetune looks {len(looks)}", training_curves.evaluations_svg(looks, 40)
