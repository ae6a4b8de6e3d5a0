"""Models of real size without real weights: their sizes are the published ones, and the bench scores them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdsdemo.cli import bench_shapes
from sdsdemo.cli.bench import answer, make_question, peak_memory_mb, peaks_mb
from sdsdemo.cli.bench_shapes import as_text, bench_shape
from sdsdemo.cli.main import main
from sdsdemo.errors import UserError
from sdsdemo.models import cards, compiled, open_scorer, random_weights
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.random_weights import empty_state, read_shape, shape_names, write_model, write_pipeline
from sdsdemo.settings import budget
from tests.cli.test_bench import calls_of

PUBLISHED = {
    "sd-v1-4": 859_520_964,
    "sd-v2-1": 865_910_724,
    "sdxl": 2_567_463_684,
    "sd-3-5-medium": 2_469_663_936,
    "clip-vit-l-14": 427_616_513,
}
"""Parameters of the denoisers and of the CLIP, as their repositories' weights have them."""
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
SMALL_CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a shape as that of Stable Diffusion 1, and small."""
    return _shrunk("sd-v1-4", SMALL, tmp_path, monkeypatch)


@pytest.fixture
def tiny_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a shape as that of ViT-L/14, and small."""
    return _shrunk("clip-vit-l-14", {"clip": SMALL_CLIP}, tmp_path, monkeypatch)


def _shrunk(name: str, small: dict[str, dict[str, Any]], place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    shape = json.loads((random_weights.SHAPES / f"{name}.json").read_text())
    for part, changes in small.items():
        shape["parts"][part]["config"] |= changes
    (place / "tiny.json").write_text(json.dumps(shape | {"short": "tiny"}))
    monkeypatch.setattr(random_weights, "SHAPES", place)
    return "tiny"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_has_the_parameters_of_the_published_model(name: str, tmp_path: Path) -> None:
    shape = read_shape(name)
    (part,) = shape["parts"].keys() & {"unet", "transformer", "clip"}
    state = empty_state(shape["parts"][part], tmp_path)
    assert sum(weight.numel() for weight in state.values()) == shape["parameters"] == PUBLISHED[name]
    assert all(weight.is_meta for weight in state.values())


def test_the_shape_of_a_model_is_found_by_its_card() -> None:
    for name in shape_names():
        for card in read_shape(name)["cards"]:
            assert cards.resolve(card).family == ("diffusion" if read_shape(name)["pipeline"] else "clip")
            assert random_weights.shape_of(card) == name
    assert random_weights.shape_of("mini-diffusion") is None


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


@pytest.mark.slow
def test_a_shape_is_scored_by_the_ordinary_path_and_measured(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_shapes, "SPEND", budget(1, 2))
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    result = bench_shape(tiny, repeats=2, device="cpu", precision="float32", compiles=True)
    ratios = json.loads(json.dumps(result))["ratios"]
    assert ratios["over_floor_tiny"]["repeats"] == 2
    assert set(ratios) == {"over_floor_tiny", "sds_kept_over_dropped_tiny", "loading_over_weights_tiny"}
    assert (result["pixels"], result["evaluations"], result["precision"]) == (64, 4, "float32")
    for jacobian in ("kept", "dropped"):
        assert result["step_seconds"][f"Jacobian {jacobian}, batch 1"]["median"] > 0
        assert f"Jacobian {jacobian}, batch {result['micro_batch']}" in result["step_seconds"]
    assert 0 < result["memory"]["weights_mb"] <= result["memory"]["after_loading_mb"]
    assert result["compiled"]["works"]
    for word in ("over_floor_tiny", "torch.compile took", "peak memory", "one evaluation", "step, Jacobian kept"):
        assert word in as_text(result)


def test_the_ratio_to_the_floor_is_that_of_the_default_budget() -> None:
    """Encoding takes 10 s, an evaluation 2 s, of which 1 s is the denoiser's; 8 of them are timed, 64 count."""
    seconds = {"ours": [10.0 + 8 * 2.0] * 2, "encoding": [10.0] * 2, "floor": [8 * 1.0] * 2}
    found = bench_shapes.over_floor(seconds, 8)
    assert found["median"] == round((10 + 64 * 2) / (64 * 1), 5)
    assert found["repeats"] == 2


def test_what_is_timed_as_encoding_asks_the_denoiser_nothing(tiny: str, tmp_path: Path) -> None:
    scorer = _written(tiny, tmp_path)
    question = make_question(tmp_path)
    encoded = []
    hooks = [part.register_forward_hook(lambda *_: encoded.append(1)) for part in scorer.model.text_encoders]
    assert calls_of(scorer, lambda: bench_shapes.encoded(scorer, question)) == []
    assert len(encoded) == len(hooks) == 1


@pytest.mark.parametrize(("samples_that_fit", "batch"), [(0, 1), (3, 3), (1000, 8)])
def test_the_batch_of_a_step_is_what_half_of_the_free_memory_holds(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples_that_fit: int, batch: int
) -> None:
    scorer = _written(tiny, tmp_path)
    scorer.micro_batch = 8
    sample = bench_shapes.held_bytes(scorer, 1)
    monkeypatch.setattr(bench_shapes, "free_bytes", lambda device: 2 * sample * samples_that_fit)
    assert bench_shapes.fitting_batch(scorer) == batch


def test_what_a_step_keeps_grows_with_its_batch_and_leaves_weights_out(tiny: str, tmp_path: Path) -> None:
    scorer = _written(tiny, tmp_path)
    one, three = (bench_shapes.held_bytes(scorer, batch) for batch in (1, 3))
    assert three == pytest.approx(3 * one, rel=0.02)


def test_a_clip_shape_is_encoded_and_trained_and_measured(tiny_clip: str) -> None:
    result = json.loads(json.dumps(bench_shape(tiny_clip, repeats=2, device="cpu")))
    ratios = {"over_floor_tiny_images", "over_floor_tiny_captions", "loading_over_weights_tiny"}
    assert set(result["ratios"]) == ratios
    assert result["pixels"] == 32
    for what, count in (("images", 4), ("captions", 16)):
        assert result["a_second"][what]["high"] == pytest.approx(count / result["seconds"][what]["low"], rel=0.1)
    assert len(result["step_seconds"]) == 2
    for word in ("images a second", "over_floor_tiny_captions", "step, L_CLIP, norms", "after training"):
        assert word in as_text(result)


def test_the_floor_does_the_work_of_the_ordinary_path(tiny: str, tmp_path: Path) -> None:
    scorer = _written(tiny, tmp_path)
    scorer.micro_batch = 3
    question = bench_shapes.replace(make_question(tmp_path), spend=bench_shapes.SPEND)
    ours = calls_of(scorer, lambda: answer(scorer, question))
    assert ours == calls_of(scorer, bench_shapes.floor_of_any(scorer)) == [3, 3, 2]


def _written(name: str, place: Path) -> DiffusionScorer:
    spec, _ = write_model(read_shape(name), place / "twin")
    scorer = open_scorer(cards.resolve(spec), device="cpu")
    assert isinstance(scorer, DiffusionScorer)
    return scorer


def test_a_shape_that_there_is_not_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"no shape 'sd-v9'.*sd-v1-4"):
        bench_shape("sd-v9")


def test_compiling_is_measured_of_a_shape_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--compile"]) == 2
    assert "name one with --shape too" in capsys.readouterr().err


def _unread() -> float:
    raise AssertionError("the clock was read without waiting for the device")


def test_no_clock_is_read_before_the_device_is_done(tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_shapes, "clock_of", lambda device, clock: time.perf_counter)
    assert bench_shape(tiny_clip, repeats=1, device="cpu", clock=_unread)["seconds"]["images"]["median"] > 0


def test_peak_memory_of_a_gpu_stands_beside_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3_000_000_000)
    found = peaks_mb("after_scoring", torch.device("cuda"))
    assert found == {"after_scoring_mb": pytest.approx(peak_memory_mb(), rel=0.1), "gpu_after_scoring_mb": 3000.0}
    assert set(peaks_mb("after_scoring", torch.device("cpu"))) == {"after_scoring_mb"}
