"""CLIP and SigLIP in transformers' format, on twins that it saved itself, against its own classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPModel,
    SiglipImageProcessorPil,
    SiglipModel,
)

from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.clip import ClipScorer
from sdsdemo.models.clip_transformers import TransformersClip
from sdsdemo.models.images import fit
from sdsdemo.models.transformers_files import pixels_config
from sdsdemo.settings import Settings
from sdsdemo.types import Budget, CaptionComparer, Example, Picture, Region
from tests import twins

CAPTIONS = ["red star left the blue circle", "blue star left the red circle", "star"]
OWN = Budget(timesteps=1, noises=1, seed=0, region="own")
REGIONS: tuple[Region, ...] = ("crop", "squash", "pad")
LIBRARY: dict[str, Any] = {
    "clip": (CLIPModel, CLIPImageProcessorPil),
    "siglip": (SiglipModel, SiglipImageProcessorPil),
}


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("transformers")
    return {kind: twins.transformers_folder(root / kind, kind=kind) for kind in LIBRARY}


@pytest.fixture
def folder(originals: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the CLIP that a test may change."""
    return shutil.copytree(originals["clip"], tmp_path / "twin")


def scorer_of(folder: Path | str) -> ClipScorer:
    scorer = open_scorer(cards.resolve(f"transformers:{folder}"), device="cpu")
    assert isinstance(scorer, ClipScorer)
    return scorer


def pictures() -> list[Any]:
    return [twins.picture(0, size=(48, 32)), twins.picture(1)]


@torch.no_grad()
def plain_features(folder: Path, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """feature_ID and feature_CD by transformers alone, in the way of its documentation."""
    model, processor = LIBRARY[kind]
    module = model.from_pretrained(folder).eval()
    pixel_I = processor.from_pretrained(folder)(images=pictures(), return_tensors="pt")["pixel_values"]
    tokens = AutoTokenizer.from_pretrained(folder)(
        CAPTIONS, padding="max_length", max_length=module.config.text_config.max_position_embeddings,
        truncation=True, return_tensors="pt",
    )  # fmt: skip
    output = module(input_ids=tokens["input_ids"], pixel_values=pixel_I)
    return output.image_embeds, output.text_embeds


@pytest.mark.parametrize("kind", LIBRARY)
def test_features_are_those_of_transformers(originals: dict[str, Path], kind: str) -> None:
    model = TransformersClip.load(f"transformers:{originals[kind]}")
    image_ID, text_CD = plain_features(originals[kind], kind)
    torch.testing.assert_close(model.encode_images(pictures()), image_ID, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.encode_texts(CAPTIONS), text_CD, atol=1e-5, rtol=0)
    expected = 100 * (image_ID.double() @ text_CD.double().T).numpy()
    found = scorer_of(originals[kind]).score(pictures(), CAPTIONS, OWN)
    np.testing.assert_allclose(found.score_IC, expected, atol=1e-4)
    assert np.ptp(expected) > 1  # the twins tell pictures and captions apart
    assert (found.kind, model.own_region) == ("similarity", "crop" if kind == "clip" else "squash")


def test_siglip_reads_padding_and_no_capitals_whatever_its_tokenizer_does(
    originals: dict[str, Path], tmp_path: Path
) -> None:
    """As SigLIP 2 was trained; its tokenizer, Gemma's, keeps capitals."""
    folder = shutil.copytree(originals["siglip"], tmp_path / "twin")
    _in_json("tokenizer.json", normalizer=None)(folder)
    model = TransformersClip.load(f"transformers:{folder}")
    id_CL = model.tokenize(["Red STAR", "red star"])
    assert id_CL.shape == (2, twins.CONTEXT)
    assert id_CL[0].tolist() == id_CL[1].tolist()
    short_CD = model._text_features(id_CL[:1, :4])
    assert (model.encode_texts(["red star"]) - short_CD).abs().max() > 1e-3


@pytest.mark.parametrize("kind", LIBRARY)
@pytest.mark.parametrize("region", REGIONS)
def test_a_region_is_the_same_square_for_every_model(originals: dict[str, Path], kind: str, region: Region) -> None:
    model = TransformersClip.load(f"transformers:{originals[kind]}")
    wide = twins.picture(0, size=(64, 32))
    seen = model.prepare(wide, region)
    assert seen.shape == (3, 32, 32)
    torch.testing.assert_close(seen, model.preprocess(fit(wide, 32, region)), atol=0.05, rtol=0)
    others = [other for other in REGIONS if other != region]
    assert all((seen - model.prepare(wide, other)).abs().max() > 0.3 for other in others)


@pytest.mark.parametrize("kind", LIBRARY)
def test_cut_and_equal_captions_and_marks_are_reported(originals: dict[str, Path], kind: str) -> None:
    scorer = scorer_of(originals[kind])
    full = " ".join(["star"] * (scorer.model.context_length - 2))
    assert scorer.concerns([], CAPTIONS) == []
    found = scorer.concerns([], [full, f"{full} red", "Blue  star", "blue star"])
    assert [concern.kind for concern in found] == ["truncated", "equal-captions", "equal-captions"]
    marks = scorer.concerns([], ["a star", f"a star {twins.END}"])
    assert [(c.kind, c.blocking) for c in marks if c.kind == "mark"] == [("mark", True)]


def test_a_benchmark_and_captions_alone_are_scored_alike(originals: dict[str, Path]) -> None:
    scorer = scorer_of(originals["clip"])
    images = tuple(Picture(name=str(k), open=lambda k=k: pictures()[k]) for k in range(2))
    example = Example(id="1", images=images, captions=("red star", "blue star"), tags={})
    [many] = scorer.score_examples([example], OWN)
    np.testing.assert_allclose(many.score_IC, scorer.score(pictures(), example.captions, OWN).score_IC, atol=1e-4)
    assert isinstance(scorer, CaptionComparer)
    [alone] = scorer.compare_captions([example])
    assert alone.score_IC.shape == (1, 1)
    assert 0 < abs(float(alone.score_IC[0, 0])) < 100


@pytest.mark.parametrize(
    ("saving", "file"),
    [
        ({"variant": "fp16"}, "model.fp16.safetensors"),
        ({"max_shard_size": "1MB"}, "model.safetensors.index.json"),
    ],
)
def test_variants_and_shards_give_the_same_scores(
    originals: dict[str, Path], tmp_path: Path, saving: dict[str, Any], file: str
) -> None:
    folder = twins.transformers_folder(tmp_path / "twin", **saving)
    assert (folder / file).is_file()
    assert not (folder / "model.safetensors").is_file()
    expected = scorer_of(originals["clip"]).score(pictures(), CAPTIONS, OWN).score_IC
    np.testing.assert_array_equal(scorer_of(folder).score(pictures(), CAPTIONS, OWN).score_IC, expected)


def test_the_processors_newer_file_is_read_too(folder: Path) -> None:
    before = scorer_of(folder).score(pictures(), CAPTIONS, OWN).score_IC
    pixels = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": pixels}))
    np.testing.assert_array_equal(scorer_of(folder).score(pictures(), CAPTIONS, OWN).score_IC, before)


def test_the_newer_of_both_files_is_read_as_the_library_reads_it(folder: Path) -> None:
    card = cards.resolve(f"transformers:{folder}")
    older = json.loads((folder / "preprocessor_config.json").read_text())
    newer = older | {"image_mean": [0.5, 0.5, 0.5]}
    assert older["image_mean"] != newer["image_mean"]
    for held, expected in ({}, older), ({"image_processor": None}, older), ({"image_processor": newer}, newer):
        (folder / "processor_config.json").write_text(json.dumps(held))
        library: Any = AutoImageProcessor.from_pretrained(folder)
        assert list(library.image_mean) == pixels_config(folder, "twin")["image_mean"] == expected["image_mean"]
    before = cards.fingerprint(card)
    (folder / "preprocessor_config.json").write_text(json.dumps(older | {"resample": 2}))
    assert cards.fingerprint(card) == before
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": newer | {"resample": 2}}))
    assert cards.fingerprint(card) != before


def test_a_card_knows_pixels_size_and_family_without_loading(originals: dict[str, Path]) -> None:
    card = cards.resolve(f"transformers:{originals['siglip']}")
    assert (card.family, card.pixels, card.title, card.needs, card.download) == (
        "transformers", 32, "siglip", "cpu", False,
    )  # fmt: skip
    assert cards.availability(card, Settings.from_environment({})).can_run
    absent = cards.resolve("transformers:msj9817/GenHancer/OpenAICLIP/clip-vit-large-patch14@main")
    assert (absent.download, absent.pixels) == (True, 0)


@pytest.mark.usefixtures("no_network")
def test_a_folder_of_a_repository_comes_from_the_cache_alone(
    originals: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    shutil.copytree(originals["clip"], tmp_path / "repo" / "OpenAICLIP" / "large")
    twins.in_hub_cache(tmp_path / "hub", "twins/many", tmp_path / "repo")
    spec = "transformers:twins/many/OpenAICLIP/large"
    card = cards.resolve(spec)
    assert cards.is_downloaded(card)
    expected = scorer_of(originals["clip"]).score(pictures(), CAPTIONS, OWN).score_IC
    np.testing.assert_array_equal(open_scorer(card, device="cpu").score(pictures(), CAPTIONS, OWN).score_IC, expected)
    assert cards.fingerprint_parts(card)["revision"] == "0" * 40
    with pytest.raises(UserError, match="downloads are off"):
        scorer_of("twins/none/OpenAICLIP/large")


def _in_json(file: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | changes))

    return change


def _in_tower(tower: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        held = json.loads((folder / "config.json").read_text())
        held[tower] |= changes
        (folder / "config.json").write_text(json.dumps(held))

    return change


def _without(*files: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return change


def _cut(file: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / file).write_bytes((folder / file).read_bytes()[:-100])

    return change


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _lost_shard(folder: Path) -> None:
    twins.transformers_folder(folder, max_shard_size="1MB")
    (folder / "model.safetensors").unlink()
    next(folder.glob("*-of-*.safetensors")).unlink()


def _word_tokenizer(folder: Path) -> None:
    _without("vocab.json", "merges.txt")(folder)
    twins.save_words(folder, vocabulary={word: 60_000 + k for word, k in twins.VOCABULARY.items()})


def _sentencepiece(folder: Path) -> None:
    _without("vocab.json", "merges.txt")(folder)
    (folder / "spiece.model").write_bytes(b"x")
    _in_json("tokenizer_config.json", tokenizer_class="SiglipTokenizer")(folder)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (_without("config.json"), "holds no config.json"),
    "no weights": (_without("model.safetensors"), "holds no whole model.safetensors"),
    "pickled weights": (_pickled, "may hold code"),
    "cut weights": (_cut("model.safetensors"), "is truncated"),
    "lost shard": (_lost_shard, "one of the parts of its weights"),
    "no preprocessing": (_without("preprocessor_config.json"), "holds no preprocessing"),
    "no tokenizer": (_without("vocab.json", "merges.txt"), "holds no tokenizer"),
    "other type": (_in_json("config.json", model_type="blip"), "type 'blip'"),
    "one tower": (_in_json("config.json", model_type="clip_vision_model"), "one tower alone"),
    "siglip 2 of variable size": (_in_json("config.json", model_type="siglip2"), "NaFlex"),
    "other width": (_in_tower("text_config", hidden_size=18), "do not fit its config"),
    "more layers": (_in_tower("vision_config", num_hidden_layers=3), "do not fit its config"),
    "huge": (_in_tower("vision_config", hidden_size=4096, intermediate_size=99999), "a larger model"),
    "a config of nothing": (_in_tower("vision_config", num_attention_heads=7), "can build"),
    "end of text elsewhere": (_in_tower("text_config", eos_token_id=7), "the same features"),
    "other tokenizer": (_word_tokenizer, "knows only 49408"),
    "sentencepiece": (_sentencepiece, "pip install sentencepiece protobuf"),
    "other pictures": (_in_json("preprocessor_config.json", image_processor_type="ViTImageProcessor"), "ViTImage"),
    "no square": (_in_json("preprocessor_config.json", do_center_crop=False), "no picture of one size"),
    "other pixels": (_in_json("preprocessor_config.json", crop_size={"height": 24, "width": 24}), "not fit together"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_not_whole_is_one_sentence(folder: Path, fault: str) -> None:
    harm, sentence = FAULTS[fault]
    harm(folder)
    with pytest.raises(UserError, match=sentence) as caught:
        scorer_of(folder)
    assert str(folder.parent) not in str(caught.value)
    assert "twin" in str(caught.value)


@pytest.mark.parametrize("fault", ["no weights", "pickled weights", "no tokenizer", "one tower"])
def test_what_is_missing_is_known_before_loading(folder: Path, fault: str) -> None:
    harm, sentence = FAULTS[fault]
    harm(folder)
    card = cards.resolve(f"transformers:{folder}")
    state = cards.availability(card, Settings.from_environment({}))
    assert not state.can_run
    assert sentence in state.reason
    assert sentence in cards.why_unreadable(card)


CHANGES = {
    "weights": lambda folder: twins.transformers_folder(folder, seed=1),
    "architecture": _in_tower("vision_config", hidden_act="gelu"),
    "preprocessing": _in_json("preprocessor_config.json", resample=2),
    "tokenizer": _in_json("tokenizer_config.json", do_lower_case=False),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_fingerprint_follows_what_moves_a_score(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("SDSDEMO_CACHE", str(tmp_path / "cache"))
    card = cards.resolve(f"transformers:{folder}")
    before = cards.fingerprint_parts(card)
    CHANGES[what](folder)
    assert cards.what_changed(before, cards.fingerprint_parts(card)) == what
