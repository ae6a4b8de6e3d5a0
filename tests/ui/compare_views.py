"""The views of Compare that are made of text alone, with one text wherever a view takes foreign text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdsdemo.captions.word_changes import Change
from sdsdemo.core.decision import decide
from sdsdemo.data.mini.sketches import read_sketch
from sdsdemo.settings import budget
from sdsdemo.types import Answer, Preference
from sdsdemo.ui import (
    compare_html,
    compare_logic,
    compare_models,
    denoising_view,
    draw,
    scene_editor,
    word_changes,
)
from sdsdemo.ui.examples import ShownExample
from sdsdemo.ui.templates import render
from tests.conftest import fake_workbench
from tests.fakes import MINI_CARDS, FakeDenoiser, FakeScorer, fake_card

Views = Iterator[tuple[str, str]]


def answers(text: str) -> list[Answer]:
    """Answers of every kind: both kinds of score, decided and not, without a number, and none at all."""
    made = []
    for card in MINI_CARDS:
        for loss in (None, float("nan"), 0.5):
            asked = [Image.new("RGB", (9, 9), "red")], (f"{text} one", f"{text} two"), budget()
            scores = FakeScorer(card, loss=loss).score(*asked)
            named = replace(card, title=f"{text} {card.title}")
            made.append(Answer(card=named, scores=scores, preference=decide(scores), notes=(f"Note `{text}` --flag",)))
    made.append(Answer(card=named, problem=f"{text}: run `fetch {text} --now`, or --later."))
    for decided in (True, False):
        for stderr in (None, 0.0, 0.0043, float("nan")):
            for preferred in (0, 1, None):
                found = Preference(
                    preferred=preferred, difference=None if preferred is None else 0.025, stderr=stderr,
                    decided=decided, note=f"As {text} says.",
                )  # fmt: skip
                made.append(replace(made[0], preference=found))
    return made


def denoising_views(text: str) -> Views:
    card = replace(MINI_CARDS[1], title=f"{text} {MINI_CARDS[1].title}")
    for noises in (1, 4):
        asked = Image.new("RGB", (9, 9), "red"), (f"{text} one", f"{text} two"), budget(3, noises)
        scores, denoised = FakeDenoiser(card).score_and_show(*asked, most=1.0)
        answer = Answer(card=card, scores=scores, preference=decide(scores), denoised=denoised)
        one = replace(
            denoised,
            **{part: getattr(denoised, part)[:1] for part in ("timestep_S", "position_S", "noised_S", "guess_empty_S")},
            guess_CS=denoised.guess_CS[:, :1],
        )
        for name, answers in {"one": [answer], "two": [answer, answer], "few": [replace(answer, denoised=one)]}.items():
            yield f"denoising {name} {noises}", denoising_view.denoising_html(asked[1], answers)


def guess_views(text: str) -> Views:
    yield "guess round", render("guess.round", count=3, first=text)


def strip_views(text: str) -> Views:
    yield (
        "compare strip",
        render("compare.strip", examples=[{"source": text, "title": f"{text} {k}"} for k in range(2)]),
    )


def scene_views(text: str) -> Views:
    scene = read_sketch("sky~star.red.250.300.165~circle.blue.700.600.235")
    yield "scene closed", render("scene.closed")
    yield "scene editor", scene_editor.editor_html(scene)
    for is_quick in (True, False):
        yield f"scene truth {is_quick}", scene_editor.truth_html(scene, [f"{text} one", "a red star"], is_quick)
    yield "scene suggested", render("scene.suggested", texts=[text, f"{text} two"])


def change_views(text: str) -> Views:
    changes = [
        Change(text=f"{text} {k}", group=f"{text} {k // 4}", label=f"{text} {k % 4}", same_words=k < 2)
        for k in range(8)
    ]
    cards = [replace(card, title=f"{text} {card.title}") for card in MINI_CARDS]
    kinds = [
        Preference(preferred=side, difference=0.1, stderr=None, decided=decided)
        for side, decided in ((0, True), (1, True), (0, False), (None, False))
    ]
    rows = [word_changes.Row(card=card, preferences=tuple(kinds * k)) for k, card in enumerate(cards)]
    rows.append(word_changes.Row(card=cards[0], problem=f"{text}: run `fetch {text} --now`"))
    for is_done in (True, False):
        yield f"changes {is_done}", word_changes.tables_html(text, changes, rows, is_done)
    yield "changes of one sort", word_changes.tables_html(text, changes[:2], rows[:1])
    yield "changes busy", render("changes.busy", sentence=text)


def draw_views(text: str) -> Views:
    card = replace(MINI_CARDS[1], title=f"{text} card", seconds_per_pair=9.0)
    yield "draw pictures", draw._html(card, [f"{text} one", text], np.zeros((2, 3, 8, 8, 3), np.uint8), is_done=False)
    yield "draw drawing", render("denoising.drawing", sentence=draw._wait(card))


def compare_views(text: str) -> Views:
    made, two = answers(text), [f"{text} one", f"{text} two"]
    yield "compare empty", compare_html.empty_html()
    for truth in (None, 0, 1):
        yield f"compare answer {truth}", compare_html.answer_html(two, made, truth=truth)
        for place, answer in enumerate(made):
            yield f"compare row {truth} {place}", compare_html.row_html(answer, truth)
    waiting = [(f"{text} A", f"loading {text}"), (f"{text} B", text)]
    tools = compare_html.tools_html("?a=" + text, True, text, text)
    yield "compare waiting", compare_html.answer_html(two, made[:2], waiting, 1, tools)
    yield "compare only waiting", compare_html.answer_html([*two, text], [], waiting)
    yield "compare link", compare_html.tools_html("https://a/?a=" + text, False, "", "")
    yield "compare message", compare_html.message_html(f"Press `{text}`, or say --what-{text}.")
    yield "compare no message", compare_html.message_html("")
    yield "compare remarks", compare_html.remarks_html([text, f"a `{text}` b"])
    yield "compare no remarks", compare_html.remarks_html([])
    yield "compare prose", compare_html.prose(f'a `python {text} --as --b` --c and ` alone "{text}')
    found = fake_card("found", download=True, title=f"{text} found", size_mb=350)
    for allowed in ("on", "off"):
        bench = fake_workbench(SDSDEMO_ALLOW_DOWNLOAD=allowed)
        names = ["mini-clip", "clip-vit-b-32", "sd-1-5", f"no {text}", None]
        yield f"compare models {allowed}", compare_models.models_html(bench, names)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench, "card", lambda name_or_spec: found)
            yield f"compare models titled {allowed}", compare_models.models_html(bench, ["found"])
    own = ShownExample(name=text, path=Path("x.png"), captions=(two[0], two[1]), true=0, title=text)
    yield "compare stored", compare_logic.stored_view(own, made[:3]).answer
