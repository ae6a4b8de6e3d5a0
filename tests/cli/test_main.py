"""The command line: help, what cannot be read, exit status, and sentences instead of tracebacks."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import NoReturn
from unittest.mock import Mock

import pytest

from sdsdemo import errors
from sdsdemo.cli import main as cli
from sdsdemo.cli.main import main
from sdsdemo.evaluation.store.header import Settings, header_of, held, settings_of
from sdsdemo.finetuning.recipe import Recipe, cli_flag
from sdsdemo.settings import ROOT, budget
from tests.cli.shell import said

VERBS = (
    "score", "evaluate", "mini draw", "mini train", "mini study", "mini verify", "mini document", "mini opening",
    "mini costs", "models", "fetch", "export", "bench", "doctor",
)  # fmt: skip


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


def test_stopping_is_a_word_and_not_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sdsdemo.cli.commands.list_models", stopped)
    status, _, err = said(capsys, "models")
    assert (status, err.strip()) == (130, "Stopped.")


def test_a_shell_without_a_home_writes_into_no_folder_called_tilde(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def homeless(*_: object) -> NoReturn:
        raise RuntimeError("Could not determine home directory.")

    cache: list[Path] = []
    monkeypatch.setenv("HOME", "")  # so that it is put back
    monkeypatch.setattr("sdsdemo.runtime.homes.tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("sdsdemo.cli.commands.list_models", lambda bench: cache.append(bench.settings.cache) or [])
    with monkeypatch.context() as patch:
        patch.setattr("sdsdemo.runtime.homes.Path.home", homeless)
        said(capsys, "models", "--json")
    assert os.environ["HOME"].startswith(str(tmp_path))
    assert cache[0].is_relative_to(tmp_path)


def test_help_is_quick_and_loads_no_library_of_models() -> None:
    code = (
        "import sys; from sdsdemo.cli import main; main._parser(); "
        "print({'torch', 'gradio', 'diffusers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
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
        ("finetun", ["no command 'finetun'", "did you mean finetune?"]),
        ("mini drow", ["no command 'drow'", "did you mean draw?", "mini --help"]),
        ("evaluate mini --limt 3", ["no option --limt", "did you mean --limit?"]),
        ("evaluate mini --limt=3", ["no option --limt", "did you mean --limit?"]),
        ("finetune --lr 3", ["no option --lr", "did you mean --learning-rate?", "finetune --help"]),
        ("evaluate mini --work 3", ["no option --work here. ", "evaluate --help"]),
        ("evaluate", ["Still missing: benchmark", "evaluate --help"]),
        ("evaluate mini --out", ["--out needs a value"]),
        ("doctor now", ["'now' is one word too many"]),
        ("score x.png a --model mini-clip b", ["'b' stands apart", "every CAPTION in one row, before the options"]),
        ("score x.png a b --model mini-clip c", ["'c' stands apart", "write --model before every value of it"]),
        ("evaluate mini --model a b c", ["'b' is one word too many: --model takes one value, so write it before each"]),
        ("evaluate mini --model=a b", ["'b' is one word too many: --model takes one value"]),
        ("evaluate mini --limit 3 b", ["'b' is one word too many: put what belongs together in quotes"]),
        ("report x --json y", ["'y' stands apart", "every DIR in one row, before the options"]),
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


def test_the_defaults_of_finetune_are_those_that_it_trains_with(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    main(["finetune", "--show"])
    recipe = json.loads(capsys.readouterr().out)
    flags = {cli_flag(setting.name): recipe[setting.name] for setting in fields(Recipe)}
    found = {flag: re.search(rf"{flag} [A-Z]+ (?:(?! --).)*?Default: (\S+)\.", text) for flag in flags}
    told = {flag: match.group(1) for flag, match in found.items() if match is not None}
    assert told == {flag: str(flags[flag]) for flag in told}
    assert {"--lambda", "--pool", "--learning-rate"} <= told.keys()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([], ["--learning-rate 0.003", "--lambda 10", "--pool 4000"]),
        (["--lambda", "1", "--pool", "0"], ["--learning-rate 0.003"]),
        (["--preset", "quick"], []),
        (["--learning-rate", "5e-5", "--lambda", "1", "--pool", "0"], []),
    ],
)
def test_settings_of_mini_are_named_for_data_of_ones_own(
    flags: list[str], named: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--base", "mini-nothing", "--data", f"folder:{tmp_path}", "--out", str(tmp_path / "run")]
    assert main(["finetune", *data, *flags]) == 2
    noted = "".join(line for line in capsys.readouterr().err.splitlines() if line.startswith("These settings"))
    assert all(words in noted for words in named)
    assert noted.count("--") == len(named)


def test_a_python_without_the_packages_is_told_what_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ModuleNotFoundError("No module named 'PIL.Image'", name="PIL.Image")
    monkeypatch.setattr(cli, "_parser", Mock(side_effect=missing))
    with pytest.raises(ModuleNotFoundError):
        main(["doctor"])  # a bug, in a Python that has them all
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    assert main(["doctor"]) == 2
    assert "has no package PIL: run `make run` once" in capsys.readouterr().err


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
    [
        ("preference-controls", "dealt"), ("dealt", "dealt"), ("wise-ft", "return"), ("return", "return"),
        ("bases", "ten-bases"),
    ],
)  # fmt: skip
def test_a_study_is_known_by_its_new_and_its_old_name(
    name: str, stored: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part of it is made in this process, all of it in processes of one core each."""
    made: list[str] = []
    for maker in ("make_studies", "share"):
        monkeypatch.setattr(
            f"sdsdemo.mini.experiments.verify.{maker}", lambda names, *rest, by=maker: made.extend([by, *names])
        )
    status, out, _ = said(capsys, "mini", "study", name, "--part", "0/2", "--json")
    assert (status, made, json.loads(out)["studies"]) == (0, ["make_studies", stored], [stored])
    made.clear()
    status, out, _ = said(capsys, "mini", "study", name, "--json")
    assert (status, made, json.loads(out)["studies"]) == (0, ["share", stored], [stored])


def test_all_stands_for_everything_also_beside_other_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sdsdemo.mini.experiments import train_all
    from sdsdemo.mini.experiments.declared import STUDIES

    trained: list[str] = []
    monkeypatch.setattr(train_all, "train", lambda parts, *rest: trained.extend(parts))
    assert said(capsys, "mini", "train", "all", "mini-clip-4", "mini-clip")[0] == 0
    assert trained == [*train_all.PARTS, "mini-clip-4"]
    made: list[str] = []
    monkeypatch.setattr("sdsdemo.mini.experiments.verify.share", lambda names, *rest: made.extend(names))
    assert said(capsys, "mini", "study", "bases", "all")[0] == 0
    assert sorted(made) == sorted(STUDIES)
    assert made[0] == "ten-bases"


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


def test_a_full_disk_is_a_sentence_whatever_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*asked: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sdsdemo.mini.experiments.draw_assets.draw", full)
    status, _, error = said(capsys, "mini", "draw", "--seed", "7", "--out", str(tmp_path))
    assert (status, "free disk space, then run the command again" in error) == (2, True)


@pytest.mark.parametrize("where", ["file/x", "file"])
def test_a_folder_that_cannot_be_is_a_sentence(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    status, _, error = said(capsys, "mini", "draw", "--seed", "7", "--out", str(tmp_path / where))
    assert (status, str(tmp_path / "file") in error) == (2, True)
    assert "name another folder" in error


def test_only_a_refusal_that_names_a_file_is_one_of_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*asked: object) -> None:
        raise refusals.pop()

    refusals = [PermissionError(13, "Permission denied"), PermissionError(13, "Permission denied", "/not/mine")]
    monkeypatch.setattr("sdsdemo.mini.experiments.draw_assets.draw", refuse)
    order = ("mini", "draw", "--seed", "7", "--out", str(tmp_path))
    status, _, error = said(capsys, *order)
    assert (status, "'/not/mine' cannot be read or written (Permission denied)" in error) == (2, True)
    with pytest.raises(PermissionError):
        said(capsys, *order)
