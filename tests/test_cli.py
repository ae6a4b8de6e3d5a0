"""The command line: exit status, sentences instead of tracebacks, JSON that is JSON."""

import json

import pytest

from sdsdemo.cli import main
from sdsdemo.data.mini_drawing import draw
from sdsdemo.data.mini_world import benchmark_pairs


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "scene.png"
    draw(benchmark_pairs(5, "validation", 7)[0].scenes[0]).save(path)
    return str(path)


def test_score_prints_one_json_object_with_a_score_for_each_caption(picture, capsys):
    assert main(["score", picture, "a red star", "a blue circle", "--model", "mini-clip", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["models"]
    assert len(entry["scores"]) == 2
    assert entry["preferred"] == max((0, 1), key=lambda k: entry["scores"][k])


@pytest.mark.parametrize(
    "arguments",
    [["a red star", "a red star"], ["a red star", ""], ["a red star", "a blue star", "--noises", "0"]],
    ids=["equal captions", "an empty caption", "no noise"],
)
def test_what_the_user_must_change_is_a_sentence_and_exit_2(picture, capsys, arguments):
    assert main(["score", picture, *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.strip().endswith((".", "?"))


def test_a_file_that_is_no_picture_is_named_without_its_path(tmp_path, capsys):
    path = tmp_path / "words.jpg"
    path.write_text("not a picture")
    assert main(["score", str(path), "a red star", "a blue star"]) == 2
    assert str(tmp_path) not in capsys.readouterr().err


def test_models_lists_whether_each_can_run(capsys):
    assert main(["models", "--json"]) == 0
    assert {row["model"] for row in json.loads(capsys.readouterr().out)} >= {"mini-clip", "mini-diffusion"}
