"""The command line: exit status, sentences instead of tracebacks, JSON that is JSON, examples that work."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdsdemo.cli import main as cli
from sdsdemo.cli.main import main
from sdsdemo.data.mini.benchmarks import benchmark_pairs
from sdsdemo.data.mini.drawing import draw
from sdsdemo.evaluation.store.header import Settings, header_of, held, settings_of
from sdsdemo.settings import FINETUNING, LIMITS, ROOT, VARIABLES, budget

VERBS = (
    "score", "evaluate", "mini draw", "mini train", "mini study", "mini verify", "mini document", "mini opening",
    "mini costs", "models", "fetch", "export", "bench", "doctor",
)  # fmt: skip
ASKED = ["a red star", "a blue circle", "--model", "mini-clip"]


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "scene.png"
    draw(benchmark_pairs(5, "validation", 7)[0].scenes[0]).save(path)
    return str(path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example_that_parses(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*verb.split(), "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--json" in text
    example = re.search(r"example: python -m sdsdemo (.*)$", text)
    assert example is not None
    assert cli._parser().parse_args(shlex.split(example.group(1))).run


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


def test_doctor_names_every_variable_limit_and_model_and_never_a_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_value")
    status, out, _ = said(capsys, "doctor")
    found = json.loads(said(capsys, "doctor", "--json")[1])
    assert status == 0
    assert found["hub_token"] is True
    assert "hf_secret" not in out + json.dumps(found)
    assert {v["name"] for v in found["variables"]} == {v.name for v in VARIABLES}
    assert found["limits"]["image_bytes"] == LIMITS.image_bytes
    for word in ("Python", "Shipped weights", "What to do", *(v.name for v in VARIABLES)):
        assert word in out


def test_a_report_for_an_issue_names_no_folder_of_the_users(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_value")
    monkeypatch.setenv("HOME", str(tmp_path / "ada-lovelace"))
    monkeypatch.setenv("SDSDEMO_CACHE", str(tmp_path / "ada-lovelace" / "cache"))
    status, out, _ = said(capsys, "doctor", "--report")
    assert status == 0
    assert out.startswith("```text\nsdsdemo ")
    assert "~/cache" in out
    for secret in ("hf_secret", "ada-lovelace", str(ROOT)):
        assert secret not in out


def test_doctor_says_each_limit_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    block = said(capsys, "doctor")[1].split("\nLimits\n")[1].split("\n\n")[0]
    sentences = " ".join(block.split()).split(". ")
    limits = asdict(LIMITS) | FINETUNING.of_the_page
    assert len(sentences) == len(limits)
    for sentence, (name, value) in zip(sentences, limits.items(), strict=True):
        shown = ", ".join(value) if isinstance(value, tuple) else f"{value:,}"
        assert shown in sentence, name
        assert len(sentence.split()) > 4


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_doctor_is_wrapped_to_the_terminal_and_nothing_is_cut(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("SDSDEMO_MODELS", "mini-clip,clip-vit-b-32")
    out = said(capsys, "doctor")[1]
    assert max(map(len, out.splitlines())) <= columns
    found = json.loads(said(capsys, "doctor", "--json")[1])
    words = " ".join(out.split())
    for sentence in (*found["advice"], *(v["meaning"] for v in found["variables"])):
        assert " ".join(sentence.split()) in words


def test_doctor_says_what_to_do_about_missing_weights(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDSDEMO_MODELS", "mini-clip,clip-vit-b-32")
    assert "fetch clip-vit-b-32" in said(capsys, "doctor")[1].split("What to do")[1]


def test_draw_writes_a_fresh_benchmark_that_evaluate_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdsdemo.mini.experiments.draw_assets.EXAMPLES", 14)
    status, out, _ = said(capsys, "mini", "draw", "--seed", "9", "--out", str(tmp_path), "--json")
    assert status == 0
    assert json.loads(out)["seed"] == 9
    evaluated = said(capsys, "evaluate", f"folder:{tmp_path / 'benchmark'}", "--model", "mini-clip", "--json")[1]
    assert json.loads(evaluated)["n"] == 14


def test_stopping_is_a_word_and_not_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sdsdemo.cli.commands.list_models", stopped)
    status, _, err = said(capsys, "models")
    assert (status, err.strip()) == (130, "Stopped.")


def test_help_is_quick_and_loads_no_library_of_models() -> None:
    code = (
        "import sys; from sdsdemo.cli import main; main._parser(); "
        "print({'torch', 'gradio', 'diffusers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


def test_a_reader_that_has_had_enough_is_no_trouble() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "sdsdemo", "models"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("finetune --steps ten", ["--steps takes a whole number", "'ten'"]),
        ("finetune --lambda much", ["--lambda takes a number", "'much'"]),
        ("finetun", ["no verb 'finetun'", "did you mean finetune?"]),
        ("mini drow", ["no deed 'drow'", "did you mean draw?", "mini --help"]),
        ("evaluate mini --limt 3", ["no option --limt", "did you mean --limit?"]),
        ("evaluate mini --limt=3", ["no option --limt", "did you mean --limit?"]),
        ("finetune --lr 3", ["no option --lr", "did you mean --learning-rate?", "finetune --help"]),
        ("evaluate mini --work 3", ["no option --work here. ", "evaluate --help"]),
        ("evaluate", ["Still missing: benchmark", "evaluate --help"]),
        ("evaluate mini --out", ["--out needs a value"]),
        ("doctor now", ["'now' is one word too many"]),
    ],
)
def test_a_command_line_that_cannot_be_read_gets_one_sentence_on_stderr(
    arguments: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = said(capsys, *arguments.split())
    assert (status, out) == (2, "")
    assert all(word in err for word in words)
    assert "usage" not in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("endless", ["9" * 6000, "1e" + "9" * 6000, "0." + "3" * 6000, "word" * 1500])
@pytest.mark.parametrize(
    "line",
    [
        "score x.png a b --timesteps {}", "score x.png a b --timestep-range {} 1", "score x.png a b --model {}",
        "score x.png a b --region {}", "score {}.png a b", "score x.png a b --{}", "evaluate {}", "evaluate folder:{}",
        "evaluate mini --limit {}", "evaluate mini --model open_clip:{}/{}", "evaluate mini --model diffusers:{}",
        "finetune --steps {}", "finetune --data {}", "finetune --temperature {}", "finetune --objective {}",
        "report {}", "fetch {}", "{}", "mini {}",
    ],
)  # fmt: skip
def test_a_value_without_an_end_is_shortened_in_its_sentence(
    line: str, endless: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = said(capsys, *(word.replace("{}", endless) for word in line.split()))
    assert (status, out) == (2, "")
    assert len(err) < 1_500
    assert not re.search(rf"{endless[:10]}[{endless[:10]}]{{200}}", err)


@pytest.mark.parametrize("flag", ["--base", "--teacher"])
def test_finetune_refuses_an_unknown_model_before_torch_is_loaded(tmp_path: Path, flag: str) -> None:
    code = (
        "import sys; from sdsdemo.cli import main as cli; "
        f"status = cli.main(['finetune', '{flag}', 'mini-klip', '--out', {str(tmp_path / 'run')!r}]); "
        "print(status, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["2", "False"]
    assert "mini-klip" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_failed_training_gives_its_reason_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"state": "failed", "steps_done": 3, "steps": 9, "reason": "Make room."}
    monkeypatch.setattr("sdsdemo.finetuning.console_report.run_in_shell", lambda *arguments, **options: record)
    assert cli.main(["finetune", "--out", str(tmp_path / "run")]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert "Failed after 3 of 9 steps: Make room." in error


@pytest.mark.parametrize(
    ("name", "stored"),
    [("preference-controls", "dealt"), ("dealt", "dealt"), ("wise-ft", "return"), ("return", "return")],
)
def test_a_study_is_known_by_its_new_and_its_old_name(
    name: str, stored: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []
    monkeypatch.setattr("sdsdemo.mini.experiments.verify.make_studies", lambda names, *rest: made.extend(names))
    status, out, _ = said(capsys, "mini", "study", name, "--json")
    assert (status, made, json.loads(out)["studies"]) == (0, [stored], [stored])


@pytest.mark.parametrize(
    "flags",
    [
        "", "--antithetic", "--no-antithetic", "--noises 2 --antithetic", "--noises 3", "--adaptive",
        "--empty-prompt --region pad", "--timestep-range 0.1234567 0.9",
    ],
)  # fmt: skip
def test_a_refused_folder_names_the_flags_that_match_it(flags: str) -> None:
    def settings(line: str) -> Settings:
        asked = vars(cli._parser().parse_args(shlex.split(line)))
        named = ("timesteps", "noises", "seed", "timestep_range", "region", "empty_prompt", "antithetic", "adaptive")
        return settings_of(budget(**{name: asked[name] for name in named if asked[name] is not None}))

    asked = settings(f"evaluate mini --noises 6 {flags}")
    header = header_of("mini", [], budget(), of=0)
    assert settings(f"evaluate {held({**header, 'settings': asked})}") == asked


def test_flags_that_are_the_default_are_not_named() -> None:
    header = header_of("mini", [], budget(), of=0)
    assert "antithetic" not in held(header)
    assert "antithetic" not in held({**header, "settings": settings_of(budget(noises=3))})
    assert held({**header, "settings": settings_of(budget(antithetic=False))}).endswith("--no-antithetic")


def test_score_draws_pairs_unless_plain_noise_is_asked_for(picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    def evidence(*flags: str) -> dict[str, Any]:
        asked = ["a red star", "a blue star", "--model", "mini-diffusion", "--timesteps", "2", "--json", *flags]
        found: dict[str, Any] = json.loads(said(capsys, "score", picture, *asked)[1])["models"][0]["evidence"]
        return found

    assert evidence()["antithetic"]
    assert "antithetic" not in evidence("--no-antithetic")
    assert "antithetic" not in evidence("--noises", "3")


def test_a_full_disk_is_a_sentence_whatever_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*asked: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sdsdemo.mini.experiments.draw_assets.draw", full)
    status, _, error = said(capsys, "mini", "draw", "--seed", "7", "--out", str(tmp_path))
    assert (status, "free disk space, then run the command again" in error) == (2, True)
