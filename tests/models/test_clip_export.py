"""A CLIP written as a whole model: a fresh process, and the plain libraries, give the scores of before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.clip import ClipModel, ClipScorer
from sdsdemo.models.clip_export import write_open_clip, write_transformers
from sdsdemo.models.delta import base_header, write_delta
from sdsdemo.types import Budget
from tests import forks, twins

CAPTIONS = ["red star left the blue circle", "blue star left the red circle", "star"]
BUDGET = Budget(timesteps=1, noises=1, seed=0, region="crop")
OLD_NAMES = ("PreTrainedTokenizerFast", "CLIPTokenizer")
"""Classes of tokenizers that older versions of transformers know too."""
SAME = 1e-6
"""Of cosines."""


def pictures() -> list[Any]:
    return [twins.picture(0, size=(48, 32)), twins.picture(1)]


def cosines(spec: str) -> np.ndarray:
    return open_scorer(cards.resolve(spec), device="cpu").score(pictures(), CAPTIONS, BUDGET).score_IC / 100


def print_cosines(spec: str) -> None:
    print(json.dumps(cosines(spec).tolist()))


def squares(side: int) -> list[Any]:
    """Pictures of the model's own size, so that no library's way of scaling counts."""
    return [twins.picture(k, size=(side, side)) for k in range(2)]


@torch.no_grad()
def print_plain_open_clip(folder: str, captions: list[str], side: int) -> None:
    module, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(captions)
    pixels = torch.stack([preprocess(picture) for picture in squares(side)])
    image, text = module.eval().encode_image(pixels), module.encode_text(tokens)
    print(json.dumps(torch.cosine_similarity(image[:, None], text[None], dim=-1).tolist()))


@torch.no_grad()
def print_plain_transformers(folder: str, captions: list[str], side: int) -> None:
    module = CLIPModel.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(captions, padding=True, truncation=True, return_tensors="pt")
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(squares(side), return_tensors="pt")["pixel_values"]
    output = module(input_ids=tokens["input_ids"], pixel_values=pixels)
    print(json.dumps((output.image_embeds @ output.text_embeds.T).tolist()))


def in_fresh_process(work: Callable[..., None], *args: Any, out: Path) -> np.ndarray:
    return np.array(json.loads(forks.ran(work, *args, out=out).splitlines()[-1]))


KINDS: dict[str, dict[str, Any]] = {
    "words": {"words": True},
    "bpe": {"words": False},
    "quick gelu": {"words": False, "quick_gelu": True},
    "crop": {"words": False},
    "text tower apart": {"words": True},
}


def twin(folder: Path, kind: str) -> ClipModel:
    twins.clip_folder(folder, **KINDS[kind])
    if kind == "crop":
        change(folder, "preprocess_cfg", resize_mode="shortest", interpolation="bicubic")
    if kind == "text tower apart":
        apart(folder)
    return ClipModel.load(f"open_clip:local-dir:{folder}")


def apart(folder: Path, **text: Any) -> None:
    """New weights for a CLIP whose text tower is a module of its own."""
    config = change(folder, "model_cfg")
    config["text_cfg"] |= text
    change(folder, "model_cfg", **config | {"custom_text": True})
    named = {key: value for key, value in config["text_cfg"].items() if key != "hf_tokenizer_name"}
    torch.manual_seed(0)
    module: Any = open_clip.CustomTextCLIP(config["embed_dim"], config["vision_cfg"], named)
    save_file(module.state_dict(), folder / "open_clip_model.safetensors")


def change(folder: Path, part: str, **values: Any) -> dict[str, Any]:
    described: dict[str, Any] = json.loads((folder / "open_clip_config.json").read_text())
    described[part] |= values
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    changed: dict[str, Any] = described[part]
    return changed


def written(model: ClipModel, folder: Path, form: str) -> str:
    """The spec of the exported model."""
    folder.mkdir()
    if form == "open_clip":
        write_open_clip(model, folder)
        return f"open_clip:local-dir:{folder}"
    write_transformers(model, folder)
    return f"transformers:{folder}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["open_clip", "transformers"])
def test_an_exported_clip_scores_as_before(tmp_path: Path, kind: str, form: str) -> None:
    model = twin(tmp_path / "twin", kind)
    spec = written(model, tmp_path / "out", form)
    expected = cosines(f"open_clip:local-dir:{tmp_path / 'twin'}")
    np.testing.assert_allclose(cosines(spec), expected, atol=SAME, rtol=0)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize(("form", "plain"), [
    ("open_clip", print_plain_open_clip), ("transformers", print_plain_transformers),
])  # fmt: skip
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["words", "quick gelu"])
def test_a_fine_tuned_file_is_a_whole_model_to_the_plain_libraries(
    tmp_path: Path, form: str, plain: Callable[..., None], kind: str
) -> None:
    """A delta on its base, exported, and reloaded where nothing of ours was loaded before."""
    base = twin(tmp_path / "twin", kind)
    changed = {f"clip.{name}": tensor + 0.3 for name, tensor in base.module.state_dict().items() if "ln_" in name}
    write_delta(tmp_path / "model.safetensors", changed, base_header(base))
    spec = f"sds-clip:{tmp_path / 'model.safetensors'}"
    scorer = open_scorer(cards.resolve(spec), device="cpu")
    assert isinstance(scorer, ClipScorer)
    assert isinstance(scorer.model, ClipModel)
    out = written(scorer.model, tmp_path / "out", form)
    expected = cosines(spec)
    assert np.abs(expected - cosines(f"open_clip:local-dir:{tmp_path / 'twin'}")).max() > 1e-3
    found = in_fresh_process(print_cosines, out, out=tmp_path / "ours.txt")
    np.testing.assert_allclose(found, expected, atol=SAME, rtol=0)
    found = in_fresh_process(plain, str(tmp_path / "out"), CAPTIONS, 16, out=tmp_path / "plain.txt")
    expected = scorer.score(squares(16), CAPTIONS, BUDGET).score_IC / 100
    np.testing.assert_allclose(found, expected, atol=SAME, rtol=0)


def test_the_exported_mini_model_loads_in_plain_open_clip(tmp_path: Path) -> None:
    captions = ["a red star left of a blue circle", "a blue star left of a red circle"]
    scorer = open_scorer(cards.resolve("mini-preference-clip"), device="cpu")
    assert isinstance(scorer, ClipScorer)
    assert isinstance(scorer.model, ClipModel)
    written(scorer.model, tmp_path / "out", "open_clip")
    found = in_fresh_process(print_plain_open_clip, str(tmp_path / "out"), captions, 64, out=tmp_path / "plain.txt")
    expected = scorer.score(squares(64), captions, BUDGET).score_IC / 100
    np.testing.assert_allclose(found, expected, atol=SAME, rtol=0)


def test_what_is_written_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    for form in ("open_clip", "transformers"):
        written(twin(tmp_path / f"twin {form}", "words"), tmp_path / form, form)
        texts = [path.read_text() for path in (tmp_path / form).glob("*.json")]
        assert texts
        assert not [text for text in texts if str(tmp_path) in text]
        assert json.loads((tmp_path / form / "tokenizer_config.json").read_text())["tokenizer_class"] in OLD_NAMES


def test_a_tokenizer_is_looked_for_in_the_repository_it_goes_to(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_open_clip(twin(tmp_path / "twin", "words"), tmp_path / "out", "ada/my-clip")
    described = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    assert described["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "ada/my-clip"


def _vision(**values: Any) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        config = change(folder, "model_cfg")
        config["vision_cfg"] |= values
        change(folder, "model_cfg", **config)
        save_file(twins.clip_module(config).state_dict(), folder / "open_clip_model.safetensors")

    return harm


def _canonical(folder: Path) -> None:
    config = change(folder, "model_cfg")
    config["text_cfg"]["tokenizer_kwargs"] = {"clean": "canonicalize"}
    change(folder, "model_cfg", **config)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "average": (_vision(pool_type="avg"), "does not read the class token"),
    "no norm before": (_vision(no_ln_pre=True), "no norm before the blocks"),
    "layer scale": (_vision(ls_init_value=0.1), "its blocks are not the usual ones"),
    "attention pool": (
        _vision(attentional_pool=True, attn_pooler_heads=2),
        "class token|pools by attention|projection",
    ),
    "residual network": (_vision(layers=[1, 1, 1, 1], image_size=32, width=16, head_width=8), "not a plain ViT"),
    "sees behind": (lambda f: apart(f, no_causal_mask=True), "is not causal"),
    "last place": (lambda f: apart(f, pool_type="last"), "does not read the end"),
    "biased": (lambda f: apart(f, proj_bias=True), "without a bias"),
    "whole with white": (lambda f: change(f, "preprocess_cfg", resize_mode="longest"), "has no counterpart"),
    "other cleaning": (_canonical, "changes its captions"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_clipmodel_cannot_be_is_refused_and_open_clip_takes_it(tmp_path: Path, what: str) -> None:
    harm, sentence = REFUSED[what]
    twins.clip_folder(tmp_path / "twin")
    harm(tmp_path / "twin")
    model = ClipModel.load(f"open_clip:local-dir:{tmp_path / 'twin'}")
    with pytest.raises(UserError, match=sentence) as caught:
        written(model, tmp_path / "no", "transformers")
    assert "--format open_clip" in str(caught.value)
    spec = written(model, tmp_path / "out", "open_clip")
    np.testing.assert_array_equal(cosines(spec), cosines(f"open_clip:local-dir:{tmp_path / 'twin'}"))


def test_a_conversion_that_answers_otherwise_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.models.clip_export._activation", lambda tower: "relu")
    with pytest.raises(UserError, match="features would be off by"):
        written(twin(tmp_path / "twin", "bpe"), tmp_path / "out", "transformers")
    assert not (tmp_path / "out" / "model.safetensors").exists()
