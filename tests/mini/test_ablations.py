"""CLIP variants over tag shares, and teachers that lack one of the advantages of mini-diffusion."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from sdsdemo import models
from sdsdemo.app.workbench import Workbench
from sdsdemo.core.bits import packed
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.mini.sentences import PLACES, Sentence
from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.mini.experiments import ablations, train_all
from sdsdemo.mini.experiments.ablations import SHORT, TEACHERS, make_teacher, measure_sweep, places_read, train_sweep
from sdsdemo.mini.experiments.document import KINDS, shares_grid, teacher_markdown, teachers_grid
from sdsdemo.mini.experiments.study import right_of
from sdsdemo.mini.experiments.study_store import Lines, read_rows
from sdsdemo.mini.experiments.verify import EXPERIMENT, MEASURED
from sdsdemo.mini.models import autoencoder, caption_pictures, clip, text_encoder, unet
from sdsdemo.mini.models.from_folder import RelocatedWorkbench
from sdsdemo.models import open_scorer
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.settings import CHECKPOINTS
from sdsdemo.types import Budget

pytestmark = pytest.mark.slow

EXAMPLES = 3


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of runs of two steps on 64 pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_all, "PICTURES", 64)
        patch.setattr(clip, "TRAINING", replace(clip.TRAINING, steps=2, warm_up=1))
        patch.setattr(ablations, "TRAINING", replace(ablations.TRAINING, steps=2, warm_up=1))
        short = replace(caption_pictures.STAGE.training, steps=2, warm_up=1)
        patch.setattr(caption_pictures, "STAGE", replace(caption_pictures.STAGE, training=short))
        patch.setattr(ablations, "READ", 8)
        patch.setattr(ablations, "ASKED", 4)
        patch.setattr(ablations, "read_benchmark", lambda name: read_benchmark(name)[:EXAMPLES])
        yield tmp_path_factory.mktemp("variants")


def test_the_sweep_is_trained_once_and_apart_from_what_is_shipped(work: Path) -> None:
    said: list[str] = []
    train_sweep(work / "sweep", work, said.append)
    trained = len(said)
    train_sweep(work / "sweep", work, said.append)
    assert len(said) == trained > 0
    assert {path.name for path in (work / "sweep").iterdir()} == {*clip.SWEEP, "curves"}


def test_the_sweep_has_a_line_a_share_made_once(tmp_path: Path) -> None:
    for name in clip.SWEEP:
        shutil.copytree(CHECKPOINTS / "mini-clip", tmp_path / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "base_row", lambda model, _: {"run": f"base {model}"})
        for _ in range(2):
            measure_sweep(tmp_path, Lines(tmp_path / "tags.jsonl"), Workbench())
    assert [row["tag_share"] for row in read_rows(tmp_path / "tags.jsonl")] == [0.0, 0.2, 0.4, 0.6, 0.8]


def test_variants_that_have_their_lines_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the shipped lines are there in a fresh clone, whose work folder is empty."""
    for name in ("tags", "teachers"):
        shutil.copyfile(EXPERIMENT / f"{name}.jsonl", tmp_path / f"{name}.jsonl")
    monkeypatch.setattr(ablations.train_all, "stream_of", lambda work: pytest.fail("something is trained again"))
    ablations.make_variants(CHECKPOINTS, tmp_path, tmp_path / "work", Workbench(), lambda line: None)
    for name in ("tags", "teachers"):
        assert read_rows(tmp_path / f"{name}.jsonl") == read_rows(EXPERIMENT / f"{name}.jsonl")


@pytest.fixture(scope="module", params=["shipped", "from scratch"])
def lines(work: Path, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The lines of all teachers, each asked for twice: beside the shipped models, and with the models elsewhere."""
    workbench: Any = Workbench() if request.param == "shipped" else RelocatedWorkbench(Workbench(), CHECKPOINTS)
    store = work / request.param / "teachers.jsonl"
    opened, spent, score = list[str](), list[Budget](), DiffusionScorer.score_examples
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "open_scorer", lambda card, **how: opened.append(card.spec) or open_scorer(card, **how))
        patch.setattr(DiffusionScorer, "score_examples", lambda *asked: spent.append(asked[-1]) or score(*asked))
        for name in (*TEACHERS, *TEACHERS):
            make_teacher(name, CHECKPOINTS, Lines(store), work, workbench, lambda line: None)
    folders = [work.resolve() / "teachers" / name.replace(" ", "-") / "mini-diffusion-short" for name in TEACHERS]
    assert opened == [f"diffusers:{folder}" for folder in folders], "each is scored, once, and not another one"
    assert [spend.antithetic for spend in spent] == len(TEACHERS) * [False], "plain noise, as in the shipped lines"
    return read_rows(store)


def test_every_teacher_has_one_line_with_its_score(lines: list[dict[str, Any]]) -> None:
    assert [line["teacher"] for line in lines] == [*TEACHERS]
    for line in lines:
        assert line["n"] == {"mini": EXAMPLES}
        assert len(right_of(line, "mini", "text")) == EXAMPLES
        assert 0 <= line["places_read"] <= 1
    kinds = [(line["tag_share"], line["lesson"]) for line in lines]
    assert kinds == [(0.0, True), (0.2, True), (0.0, False), (0.0, False)]


def of(work: Path, name: str, part: str) -> dict[str, torch.Tensor]:
    folder = work / "teachers" / name.replace(" ", "-") / "mini-diffusion-short"
    return load_file(next((folder / part).glob("*.safetensors")))


@pytest.mark.usefixtures("lines")
def test_teachers_differ_in_what_they_name_and_share_the_rest(work: Path) -> None:
    shipped = load_file(CHECKPOINTS / "mini-diffusion-short" / "text_encoder" / "model.safetensors")
    untrained = text_encoder.fresh().half().state_dict()
    for name, kind in TEACHERS.items():
        text = of(work, name, "text_encoder")
        assert all(torch.equal(text[key], shipped[key]) for key in shipped) == kind.lesson, name
        assert not all(torch.equal(text[key], untrained[key]) for key in text), f"{name}: the encoder never learned"
        assert json.loads(
            (work / "teachers" / name.replace(" ", "-") / "mini-diffusion-short" / "vae" / "config.json").read_text()
        )["scaling_factor"] == pytest.approx(
            json.loads((CHECKPOINTS / "mini-diffusion-short" / "vae" / "config.json").read_text())["scaling_factor"]
        )
    unets = [of(work, name, "unet") for name in TEACHERS]
    key = "conv_in.weight"
    assert not any(torch.equal(unets[0][key], other[key]) for other in unets[1:])


def test_latents_are_of_the_autoencoder_that_asks_and_encoded_once(tmp_path: Path) -> None:
    """`mini variants`, `mini lesson` and `mini train` share a work folder, and their autoencoders differ."""
    stream, said = MiniStream(4, 64, tmp_path), list[str]()
    shipped = AutoencoderKL.from_pretrained(CHECKPOINTS / "mini-diffusion-short" / "vae").float()
    new = autoencoder.fresh()
    found = {}
    for asked in range(2):
        for name, vae in (("shipped", shipped), ("new", new)):
            latent_N = found[name, asked] = train_all.latents(vae, stream, tmp_path, said.append)
            torch.testing.assert_close(latent_N, autoencoder.encode_all(vae, stream.pictures_N))
    assert len(said) == 2
    assert not torch.allclose(found["shipped", 0], found["new", 0])
    longer = train_all.latents(new, MiniStream(4, 65, tmp_path), tmp_path, said.append)
    assert len(longer) == 65
    assert not list(tmp_path.glob("*.part"))


def test_the_denoiser_meets_tags_at_the_share_that_it_is_given(tmp_path: Path) -> None:
    stream = MiniStream(4, 64, tmp_path)
    latent_N = torch.zeros(64, 4, 8, 8)
    shares: list[float] = []
    asked = SimpleNamespace(
        scenes=stream.scenes,
        seed=0,
        sentences=lambda rng, index_B, share: (shares.append(share), stream.sentences(rng, index_B, share))[1],
    )
    stage = unet.STAGES["denoiser"]
    given = [
        unet.losses_at(unet.fresh(), text_encoder.fresh(), asked, latent_N, stage, share)(0)["loss"].item()
        for share in (0.0, 1.0)
    ]
    assert shares == [0.0, 1.0]
    assert given[0] != given[1]


class Knowing:
    """An encoder whose states hold the place of each word's thing, or nothing."""

    def __init__(self, stream: MiniStream, knows: bool) -> None:
        self.stream, self.knows = stream, knows
        self.said: list[tuple[Any, Sentence]] = []

    def __call__(self, token_BL: torch.Tensor) -> SimpleNamespace:
        state_BLD = torch.randn(*token_BL.shape, len(PLACES) + 2, generator=torch.Generator().manual_seed(0))
        if self.knows:
            for b, (scene, sentence) in enumerate(self.said):
                for word, owner in enumerate(sentence.owner):
                    if owner >= 0 and scene.things[owner].place:
                        state_BLD[b, word + 1, PLACES.index(scene.things[owner].place)] += 20
        return SimpleNamespace(last_hidden_state=state_BLD)


@pytest.mark.parametrize(("knows", "low", "high"), [(True, 0.97, 1.0), (False, 0.1, 0.4)])
def test_places_are_read_where_they_are_and_at_chance_where_they_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knows: bool, low: float, high: float
) -> None:
    stream = MiniStream(5, 600, tmp_path)
    encoder = Knowing(stream, knows)
    describe = ablations.describe
    monkeypatch.setattr(
        ablations, "describe", lambda rng, scene: (encoder.said.append((scene, s := describe(rng, scene))), s)[1]
    )
    monkeypatch.setattr(ablations, "READ", 120)
    monkeypatch.setattr(ablations, "ASKED", 60)
    assert low <= places_read(encoder, stream) <= high


def test_the_short_teacher_is_made_as_the_shipped_one_is() -> None:
    assert TEACHERS[SHORT] == ablations.TeacherVariant(tag_share=0.0, lesson=True)


def bits(right_E: np.ndarray) -> dict[str, str]:
    return dict.fromkeys(("text", "image", "group", "accuracy"), packed(right_E))


def test_the_teachers_table_compares_by_kind_with_the_usual_one() -> None:
    examples = read_benchmark("mini")
    placed_E = np.array([example.tags["tag"] in KINDS["places"] for example in examples])
    rows = [
        {"teacher": name, "right": {"mini": bits(right_E)}, "n": {"mini": 400}, "places_read": 0.51}
        for name, right_E in ((SHORT, np.ones(400, bool)), ("without the lesson", ~placed_E))
    ]
    head, usual, other = teachers_grid(rows, examples)
    assert head[5] == "places (n = 100)"
    assert usual[4:10] == ["", "100", "100", "100", "100", "100"]
    assert other[1].startswith("75.0 [")
    assert other[4].startswith("-25.0 [-29")
    assert other[5:7] == ["0", "100"]
    assert other[-1] == "51 %"


def test_the_table_of_the_sweep_is_in_the_order_of_the_shares() -> None:
    sets = ("mini", "mini-retrieval", "mini-order")
    rows = [
        {
            "tag_share": share,
            "right": {name: bits(np.arange(100) < hits) for name in sets},
            "n": dict.fromkeys(sets, 100),
        }
        for share, hits in ((0.4, 20), (0.0, 50))
    ]
    head, clean, tagged = shares_grid(rows)
    assert (clean[0], clean[1][:4], tagged[0], tagged[1][:4]) == ("0", "50.0", "40", "20.0")
    assert len(head) == len(clean) == 6


def test_a_longer_run_of_the_teacher_is_a_row_of_its_own() -> None:
    shipped = json.loads(MEASURED.read_text())
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 400}
    longer = {
        "settings": {"timesteps": 16},
        "models": {"mini-diffusion": dict.fromkeys(("text", "image", "group"), share)},
    }
    by_count, by_range = teacher_markdown(shipped, longer).split("\n\n")
    assert by_count.splitlines()[-1] == "| 16, separate run | 50.0 [40, 60] | 50.0 [40, 60] | 50.0 [40, 60] |"
    assert teacher_markdown(shipped).split("\n\n") == ["\n".join(by_count.splitlines()[:-1]), by_range]
