"""The public endpoint: it equals the shell's record, it is the only one, and it refuses politely."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from sdsdemo.evaluation.answers import answers_as_dict
from sdsdemo.models.images import open_image
from sdsdemo.settings import LIMITS, TIMESTEPS, budget, usual_noises
from sdsdemo.ui import compare_logic
from sdsdemo.ui.compare_form import Form
from sdsdemo.ui.examples import read_examples

CAPTIONS = ["a red square left of a blue square", "a blue square left of a red square"]
MODELS = ["mini-clip", "mini-diffusion"]


@pytest.fixture(scope="module")
def client(served) -> Iterator[Client]:
    client = Client(served.address, verbose=False)
    yield client
    client.close()


@pytest.fixture
def picture(served) -> str:
    return str(served.assets / "mini" / "examples" / "red-blue.png")


def untimed(record: dict) -> dict:
    """A record without the seconds."""
    return record | {"models": [{k: v for k, v in entry.items() if k != "seconds"} for entry in record["models"]]}


def test_score_returns_what_the_handler_returns(client, served, picture):
    got = client.predict(handle_file(picture), CAPTIONS, MODELS, 4, 2, 5, "pad", [0.4, 0.6], api_name="/score")
    spend = {"timesteps": 4, "noises": 2, "seed": 5, "region": "pad", "timestep_range": [0.4, 0.6]}
    form = Form(image=picture, captions=CAPTIONS, models=MODELS, **spend)
    want = compare_logic.score_dict(served.workbench, read_examples(served.assets), form)
    assert untimed(got) == untimed(json.loads(json.dumps(want)))


def test_models_and_budget_have_defaults_and_names(client, served, picture):
    got = client.predict(image=handle_file(picture), captions=[*CAPTIONS, "a third one"], api_name="/score")
    assert [entry["model"] for entry in got["models"]] == list(served.workbench.settings.models)
    assert len(got["models"][0]["scores"]) == 3


def test_stopping_early_reaches_the_budget(client, picture):
    ask = {
        "image": handle_file(picture),
        "captions": CAPTIONS,
        "models": MODELS,
        "adaptive": True,
        "api_name": "/score",
    }
    spent = [entry["evidence"]["noises"] for entry in client.predict(**ask)["models"] if "evidence" in entry]
    assert spent
    assert set(spent) == {usual_noises(True)}
    with pytest.raises(AppError, match="even number of noise draws; it was 1"):
        client.predict(**ask, noises=1)


def test_score_is_the_only_public_endpoint(client):
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/score"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timesteps": TIMESTEPS.high + 1}, "Timesteps"),
        ({"noises": 1000}, "Noise draws"),
        ({"region": "stretch"}, "region"),
        ({"timestep_range": [0.8, 0.2]}, "such as 0.2 0.8"),
        ({"timestep_range": {"low": 0.2}}, "such as 0.2 0.8"),
        ({"captions": ["only one"]}, "aption"),
        ({"captions": ["x" * 5000, "y"]}, str(LIMITS.caption_characters)),
        ({"captions": {"a": 1}}, "list"),
        ({"models": ["no-such-model"]}, "no-such-model"),
        ({"image": None}, "picture"),
    ],
)
def test_what_the_page_would_not_let_through_is_refused_with_a_sentence(client, picture, change, words):
    asked = {"image": handle_file(picture), "captions": CAPTIONS, "models": MODELS} | change
    with pytest.raises(AppError, match=words) as refusal:
        client.predict(**asked, api_name="/score")
    assert "Traceback" not in str(refusal.value)


def special_picture(kind: str, path: Path) -> Path:
    """A red and a blue half in a file of that kind: the left half is red when it is shown as its maker meant."""
    halves = Image.new("RGB", (64, 64), "red")
    halves.paste("blue", (32, 0, 64, 64))
    path = path / f"{kind}.{'jpg' if kind in ('cmyk', 'turned') else 'webp' if kind == 'animated' else 'png'}"
    if kind == "cmyk":
        halves.convert("CMYK").save(path, quality=95)
    elif kind == "palette":
        halves.convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    elif kind == "grey of 16 bits":
        Image.fromarray(np.full((64, 64), 40_000, dtype=np.uint16)).save(path)
    elif kind == "see-through":
        Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(path)
    elif kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        halves.rotate(90, expand=True).save(path, exif=exif, quality=95)
    elif kind == "animated":
        halves.save(path, save_all=True, append_images=[halves.rotate(90)], duration=50, lossless=True)
    return path


@pytest.mark.parametrize("kind", ["cmyk", "palette", "grey of 16 bits", "see-through", "turned", "animated"])
def test_unusual_pictures_score_alike_over_api_and_shell(client, served, tmp_path, kind):
    path = special_picture(kind, tmp_path)
    got = client.predict(handle_file(str(path)), CAPTIONS, MODELS, 2, 2, 0, api_name="/score")
    answers = list(served.workbench.compare(open_image(path), CAPTIONS, MODELS, budget(2, 2, 0)))
    want = answers_as_dict(path.name, CAPTIONS, answers)
    assert [entry["scores"] for entry in got["models"]] == [entry["scores"] for entry in want["models"]]


@pytest.mark.parametrize(
    ("kind", "words"), [("one pixel", "at least 8 pixels"), ("huge", "million pixels"), ("cut", "damaged")]
)
def test_a_picture_that_cannot_be_taken_is_one_sentence_over_the_api(client, tmp_path: Path, kind: str, words: str):
    path = tmp_path / "picture.png"
    size = {"one pixel": (1, 1), "huge": (20_000, 20_000), "cut": (64, 64)}[kind]
    Image.new("1", size).save(path)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(AppError, match=words) as refusal:
        client.predict(handle_file(str(path)), CAPTIONS, MODELS, api_name="/score")
    assert str(tmp_path) not in str(refusal.value)


def test_a_file_that_is_no_picture_is_refused_without_a_server_path(client, tmp_path: Path):
    wrong = tmp_path / "wrong.png"
    wrong.write_text("this is not a picture")
    with pytest.raises(AppError) as refusal:
        client.predict(handle_file(str(wrong)), CAPTIONS, MODELS, api_name="/score")
    assert html.unescape(str(refusal.value)) == compare_logic.check_picture(str(wrong))
    assert not re.search(r"/\w+/", str(refusal.value))


def test_a_raw_request_for_too_many_timesteps_is_refused_at_every_door(served, picture):
    """`api_visibility="private"` hides the page's own events from clients, but does not close them."""
    config = httpx.get(served.address + "config").json()
    doors = [door for door in config["dependencies"] if door["api_name"] in ("score", "_score")]
    assert len(doors) > 1
    for door in doors:
        reply = _raw(served.address, config, door, _uploaded(served.address, picture), timesteps=100_000)
        assert "100000" in reply
        assert "Traceback" not in reply
        assert "site-packages" not in reply


@pytest.mark.parametrize("image", [{"meta": {"_type": "gradio.FileData"}}, {}], ids=["marked", "bare"])
@pytest.mark.parametrize("path", [__file__, "/etc/passwd"])
def test_a_path_on_the_server_is_no_picture(served, image, path):
    config = httpx.get(served.address + "config").json()
    door = next(door for door in config["dependencies"] if door["api_name"] == "score")
    reply = _raw(served.address, config, door, image | {"path": path}, timesteps=4)
    assert json.loads(reply)["success"] is False


def _uploaded(address: str, picture: str) -> dict:
    with open(picture, "rb") as file:
        path = httpx.post(address + "gradio_api/upload", files={"files": file}).json()[0]
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _raw(address: str, config: dict, door: dict, image: dict, timesteps: int) -> str:
    """Joins the queue without a client, other fields at their defaults; returns the last message that comes back."""
    fields = {component["id"]: component for component in config["components"]}
    special = {"image": image, "picture": image, "timesteps": timesteps, "captions": CAPTIONS}
    data = []
    for identity in door["inputs"]:
        label = fields[identity]["props"].get("label") or ""
        data.append(special.get(label.split(":")[0].lower(), fields[identity]["props"].get("value")))
    body = {"data": data, "fn_index": door["id"], "session_hash": f"raw{door['id']}"}
    joined = httpx.post(address + "gradio_api/queue/join", json=body)
    if joined.is_error:
        return joined.text
    with httpx.stream("GET", address + f"gradio_api/queue/data?session_hash=raw{door['id']}", timeout=30) as lines:
        return next(line.removeprefix("data: ") for line in lines.iter_lines() if "process_completed" in line)
