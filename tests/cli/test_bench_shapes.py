"""Models of real size without real weights: their sizes are the published ones, and the bench scores them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdsdemo.cli import bench_shapes
from sdsdemo.cli.bench import answer, make_question
from sdsdemo.cli.bench_shapes import as_text, bench_shape
from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer, random_weights
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.random_weights import empty_state, read_shape, shape_names, write_pipeline
from sdsdemo.settings import budget
from tests.cli.test_bench import calls_of

PUBLISHED = {"sd-v1-4": 859_520_964, "sd-v2-1": 865_910_724, "sdxl": 2_567_463_684}
"""Parameters of the UNets, as their repositories' weights have them."""
SMALL: dict[str, dict[str, Any]] = {
    "unet": {
        "sample_size": 8,
        "block_out_channels": [8, 16],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    },
    "vae": {"sample_size": 64, "block_out_channels": [4, 4, 8, 8], "norm_num_groups": 4},
    "text_encoder": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a shape as that of Stable Diffusion 1, and small."""
    shape = json.loads((random_weights.SHAPES / "sd-v1-4.json").read_text())
    for part, changes in SMALL.items():
        shape["parts"][part]["config"] |= changes
    (tmp_path / "tiny.json").write_text(json.dumps(shape))
    monkeypatch.setattr(random_weights, "SHAPES", tmp_path)
    return "tiny"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_has_the_parameters_of_the_published_model(name: str, tmp_path: Path) -> None:
    shape = read_shape(name)
    state = empty_state(shape["parts"]["unet"], tmp_path)
    assert sum(weight.numel() for weight in state.values()) == shape["denoiser_parameters"] == PUBLISHED[name]


def test_every_shape_is_of_a_published_size_and_says_where_it_is_from() -> None:
    assert set(shape_names()) == set(PUBLISHED)
    assert all("public configs of" in read_shape(name)["source"] for name in shape_names())


@pytest.mark.parametrize("stored_in", ["F32", "F16", "BF16"])
def test_random_weights_are_numbers_and_none_is_denormal(tiny: str, tmp_path: Path, stored_in: str) -> None:
    shape = read_shape(tiny)
    written = write_pipeline({**shape, "stored_in": stored_in}, tmp_path / "twin")
    found = 0
    for path in (tmp_path / "twin").rglob("*.safetensors"):
        for weight in load_file(path).values():
            assert bool(weight.isfinite().all())
            size = weight.float().abs()
            assert bool(((size == 0) | (size >= torch.finfo(weight.dtype).tiny)).all())
            found += weight.nbytes
    assert found == written


def test_a_shape_is_scored_by_the_ordinary_path_and_measured(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_shapes, "SPEND", budget(1, 2))
    result = bench_shape(tiny, repeats=2, device="cpu", precision="float32")
    assert json.loads(json.dumps(result))["ratios"]["over_floor_tiny"]["repeats"] == 2
    assert (result["pixels"], result["evaluations"], result["precision"]) == (64, 4, "float32")
    assert set(result["step_seconds"]) == {"Jacobian kept", "Jacobian dropped"}
    assert 0 < result["memory"]["weights_mb"] <= result["memory"]["after_loading_mb"]
    for word in ("over_floor_tiny", "peak memory", "one evaluation", "step, Jacobian kept"):
        assert word in as_text(result)


def test_the_floor_does_the_work_of_the_ordinary_path(tiny: str, tmp_path: Path) -> None:
    write_pipeline(read_shape(tiny), tmp_path / "twin")
    scorer = open_scorer(cards.resolve(f"diffusers:{tmp_path / 'twin'}"), device="cpu")
    assert isinstance(scorer, DiffusionScorer)
    scorer.micro_batch = 3
    question = bench_shapes.replace(make_question(tmp_path), spend=bench_shapes.SPEND)
    ours = calls_of(scorer, lambda: answer(scorer, question))
    assert ours == calls_of(scorer, bench_shapes.floor_of_any(scorer)) == [3, 3, 2]


def test_a_shape_that_there_is_not_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"no shape 'sd-v9'.*sd-v1-4"):
        bench_shape("sd-v9")
