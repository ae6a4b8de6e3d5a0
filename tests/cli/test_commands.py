"""`score`, `evaluate`, `models`, `fetch` and `mini draw`: what they print, and JSON that is JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdsdemo.cli.main import main
from sdsdemo.data.mini.benchmarks import benchmark_pairs
from sdsdemo.data.mini.drawing import draw
from tests.cli.shell import said

ASKED = ["a red star", "a blue circle", "--model", "mini-clip"]


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "scene.png"
    draw(benchmark_pairs(5, "validation", 7)[0].scenes[0]).save(path)
    return str(path)


def test_score_prints_one_json_object_with_a_score_for_each_caption(
    picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = said(capsys, "score", picture, *ASKED, "--json")
    (entry,) = json.loads(out)["models"]
    assert status == 0
    assert len(entry["scores"]) == 2
    assert entry["preferred"] == max((0, 1), key=lambda k: entry["scores"][k])


def test_adaptive_scoring_says_what_it_spent(picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["score", picture, *ASKED[:2], "--model", "mini-diffusion", "--model", "mini-clip", "--timesteps", "4"]
    _, out, _ = said(capsys, *asked, "--adaptive")
    (spent,) = re.findall(r"mini-diffusion: (\d+) of at most 128 evaluations", out)
    assert int(spent) in {2 * 4 * rounds for rounds in (1, 2, 4, 8, 16)}
    assert "mini-clip:" not in out
    assert "of at most" not in said(capsys, *asked)[1]


def test_score_reads_as_a_table_with_directions(picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, "score", picture, *ASKED, "--model", "mini-diffusion", "--timesteps", "2")
    assert "A  a red star" in out
    assert "higher is better" in out
    assert "lower is better" in out
    assert "±" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["a red star", "a red star"],
        ["a red star", ""],
        ["a red star", "b" * 5000],
        ["a red star"],
        ["a red star", "a blue star", "--noises", "0"],
        ["a red star", "a blue star", "--noises", "3", "--antithetic"],
        ["a red star", "a blue star", "--noises", "1", "--adaptive"],
        ["a red star", "a blue star", "--model", "mini-klip"],
    ],
    ids=[
        "equal captions",
        "an empty caption",
        "5,000 characters",
        "one caption",
        "no noise",
        "half a pair",
        "one draw",
        "unknown model",
    ],
)
def test_what_the_user_must_change_is_a_sentence_and_exit_2(
    picture: str, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    status, out, err = said(capsys, "score", picture, *arguments)
    assert (status, out) == (2, "")
    assert err.strip().endswith((".", "?"))
    assert "Traceback" not in err


def bad_file(folder: Path, name: str) -> Path:
    path = folder / name
    if name == "words.jpg":
        path.write_text("not a picture")
    elif name == "cut.png":
        Image.effect_noise((64, 64), 50).save(path)
        path.write_bytes(path.read_bytes()[:200])
    elif name == "dot.png":
        Image.new("RGB", (1, 1)).save(path)
    elif name == "huge.png":
        Image.new("1", (20_000, 20_000)).save(path)
    return path


@pytest.mark.parametrize("name", ["words.jpg", "cut.png", "dot.png", "huge.png", "missing.png"])
def test_a_bad_file_is_one_sentence_with_its_path_as_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "mine").mkdir()
    bad_file(tmp_path / "mine", name)
    monkeypatch.chdir(tmp_path)
    status, out, err = said(capsys, "score", f"mine/../mine/{name}", *ASKED)
    assert (status, out) == (2, "")
    assert f"'mine/../mine/{name}': " in err
    assert str(tmp_path) not in err
    assert len(err.strip().splitlines()) == 1


def test_an_unknown_word_is_named_and_gives_no_number(picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "score", picture, "a piano", "a guitar", "--model", "mini-clip", "--json")
    (entry,) = json.loads(out)["models"]
    assert status == 2
    assert "notes" not in entry
    assert "'piano'" in entry["problem"]
    assert "scores" not in entry


def test_evaluate_prints_shares_with_n_and_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "mini-validation", "--model", "mini-clip", "--model", "mini-clip-clean", "--limit", "14"]
    status, out, err = said(capsys, *command, "--json")
    result = json.loads(out)
    assert status == 0
    assert result["n"] == result["models"]["mini-clip"]["text"]["n"] == 14
    assert result["paired"][0]["p"] <= 1
    assert "14 of 14" in err
    assert said(capsys, "evaluate", "nothing")[0] == 2


def test_evaluate_refuses_an_unknown_model_before_it_scores_a_known_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "mini", "--limit", "2", "--model", "mini-clip", "--model", "mini-nothing"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("There is no model called 'mini-nothing'.")
    assert "2 of 2" not in said


def test_evaluate_keeps_every_score_in_a_folder_and_goes_on_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "mini-validation", "--model", "mini-clip", "--limit", "7", "--out", str(tmp_path / "run")]
    first = said(capsys, *command)
    second = said(capsys, *command)
    assert first[0] == second[0] == 0
    assert first[1] == second[1]
    assert "7 of 7 already scored" in second[2]
    status, _, err = said(capsys, *command, "--seed", "1")
    assert status == 2
    assert "different settings" in err


def test_models_lists_whether_each_can_run(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["model"]: row for row in json.loads(said(capsys, "models", "--json")[1])}
    assert rows["mini-clip"]["can_run"]
    assert not rows["clip-vit-b-32"]["can_run"]
    assert "fetch clip-vit-b-32" in rows["clip-vit-b-32"]["next_step"]
    assert "runs here" in said(capsys, "models")[1]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("verb", ["models", "benchmarks"])
def test_a_list_fits_the_terminal_and_every_word_of_it_is_there(
    verb: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = said(capsys, verb)[1]
    assert max(map(len, out.splitlines())) <= columns
    words = " ".join(out.split())
    for row in json.loads(said(capsys, verb, "--json")[1]):
        for sentence in (row.get("reason", ""), row["next_step"], *re.findall("`[^`]*`", row["next_step"])):
            assert sentence in words
        assert re.search(rf"^{row[verb.removesuffix('s')]} ", out, re.MULTILINE)


def test_fetch_of_what_is_here_downloads_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "fetch", "mini-sds-clip", "--json")
    assert status == 0
    assert json.loads(out)["downloaded"] == []
    assert said(capsys, "fetch", "mini-klip")[0] == 2


@pytest.mark.slow
def test_draw_writes_a_fresh_benchmark_that_evaluate_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdsdemo.mini.experiments.draw_assets.EXAMPLES", 14)
    status, out, _ = said(capsys, "mini", "draw", "--seed", "9", "--out", str(tmp_path), "--json")
    assert status == 0
    assert json.loads(out)["seed"] == 9
    evaluated = said(capsys, "evaluate", f"folder:{tmp_path / 'benchmark'}", "--model", "mini-clip", "--json")[1]
    assert json.loads(evaluated)["n"] == 14


def test_score_draws_pairs_unless_plain_noise_is_asked_for(picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    def evidence(*flags: str) -> dict[str, Any]:
        asked = ["a red star", "a blue star", "--model", "mini-diffusion", "--timesteps", "2", "--json", *flags]
        found: dict[str, Any] = json.loads(said(capsys, "score", picture, *asked)[1])["models"][0]["evidence"]
        return found

    assert evidence()["antithetic"]
    assert "antithetic" not in evidence("--no-antithetic")
    assert "antithetic" not in evidence("--noises", "3")


def test_a_bug_of_ours_is_told_from_what_the_user_must_change(
    picture: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    captions = ("a red star left of a blue circle", "a blue circle left of a red star")
    monkeypatch.setattr("sdsdemo.models.diffusion_scorer.DiffusionScorer.score", broken)
    status, out, err = said(capsys, "score", picture, *captions, "--model", "mini-diffusion", "--json")
    (entry,) = json.loads(out)["models"]
    assert (status, entry["fault"]) == (1, True)
    assert "server" not in entry["problem"]
    assert entry["problem"] in err
    both = ("--model", "mini-diffusion", "--model", "mini-clip")
    status, out, err = said(capsys, "score", picture, *captions, *both, "--json")
    assert (status, ["fault" in entry for entry in json.loads(out)["models"]]) == (1, [True, False])
    assert err == ""
    status, out, err = said(capsys, "score", picture, "a red zebra", captions[0], "--model", "mini-clip", "--json")
    assert (status, "fault" in out) == (2, False)
    assert "zebra" in err
