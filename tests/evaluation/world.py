"""A model's folder and a benchmark's, and the kinds of change that may come over them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from PIL import Image

from sdsdemo.evaluation.run import evaluate
from sdsdemo.models import cards
from sdsdemo.settings import budget
from sdsdemo.types import Budget, Scores
from tests.fakes import OneByOne

COUNT = 12


class World(OneByOne):
    """A model's folder and a benchmark's; every score depends on every byte of them, and on the settings."""

    def __init__(self, folder: Path) -> None:
        self.model, self.images, self.rows = folder / "model", folder / "set" / "images", []
        self.spec, self.benchmark = f"open_clip:local-dir:{self.model}", f"folder:{folder / 'set'}"
        self.spend = budget(2, 2, 0)
        self.calls = 0
        self.model.mkdir(parents=True)
        self.images.mkdir(parents=True)
        (self.model / "open_clip_model.safetensors").write_bytes(bytes(200))
        (self.model / "merges.txt").write_text("a b\n")
        text = {"hf_tokenizer_name": "none/here", "width": 8}
        config = {"model_cfg": {"quick_gelu": False, "text_cfg": text}, "preprocess_cfg": {"mean": [0.5] * 3}}
        (self.model / "open_clip_config.json").write_text(json.dumps(config))
        for number in range(COUNT):
            for k in (0, 1):
                self.draw(f"{number}-{k}.png", (number * 20, k * 200, 9))
            row = {"id": f"e{number}", "caption_0": f"{number} on one", "caption_1": f"{number} on two", "tag": "a"}
            self.rows.append(row | {f"image_{k}": f"{number}-{k}.png" for k in (0, 1)})
        self.write()

    def draw(self, name: str, colour: tuple[int, int, int]) -> None:
        stream = io.BytesIO()
        Image.new("RGB", (12, 8), colour).save(stream, "PNG", compress_level=0)
        (self.images / name).write_bytes(stream.getvalue())

    def write(self) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        (self.images.parent / "examples.jsonl").write_text(lines)

    def scorer(self, name: str) -> World:
        self.card = cards.resolve(name)
        return self

    def score(self, images: Sequence[Image.Image], captions: Sequence[str], spend: Budget) -> Scores:
        self.calls += 1
        files = [path.read_bytes() for path in sorted(self.model.rglob("*")) if path.is_file()]
        values = [
            [_unit(*files, repr(spend).encode(), image.tobytes(), caption.encode()) for caption in captions]
            for image in images
        ]
        return Scores(kind="similarity", score_IC=np.array(values))

    def evaluate(self, out: Path | None, said: list[str] | None = None) -> dict:
        remark = (said if said is not None else []).append
        return evaluate(self.benchmark, [self.spec], workbench=self, budget=self.spend, out=out, remark=remark)

    def truth(self) -> dict[str, np.ndarray]:
        """The scores of every example as they are now."""
        found = {}
        for row in self.rows:
            images = [Image.open(self.images / row[f"image_{k}"]).convert("RGB") for k in (0, 1)]
            found[row["id"]] = self.score(images, [row["caption_0"], row["caption_1"]], self.spend).score_IC
        return found


def _unit(*parts: bytes) -> float:
    return int.from_bytes(hashlib.sha256(b"|".join(parts)).digest()[:6], "big") / 2**48


def weights(world: World, draw: random.Random) -> None:
    path = world.model / "open_clip_model.safetensors"
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 + draw.randrange(255)
    path.write_bytes(content)


def config(world: World, draw: random.Random) -> None:
    path = world.model / "open_clip_config.json"
    found = json.loads(path.read_text())
    found["preprocess_cfg"] |= {
        draw.choice(["mean", "std"]): [draw.random()] * 3, "interpolation": draw.choice(["bicubic", "bilinear"])
    }  # fmt: skip
    found["model_cfg"]["quick_gelu"] = draw.random() < 0.5
    path.write_text(json.dumps(found))


def tokenizer(world: World, draw: random.Random) -> None:
    (world.model / "merges.txt").write_text(f"a b\n{draw.random()}\n")


def picture(world: World, draw: random.Random) -> None:
    """Same name, same size, same time."""
    path = world.images / draw.choice(world.rows)[f"image_{draw.randrange(2)}"]
    before = path.stat()
    world.draw(path.name, (draw.randrange(256), draw.randrange(256), draw.randrange(256)))
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def caption(world: World, draw: random.Random) -> None:
    draw.choice(world.rows)[f"caption_{draw.randrange(2)}"] += f" {draw.randrange(9)}"
    world.write()


def swapped(world: World, draw: random.Random) -> None:
    row = draw.choice(world.rows)
    row["image_0"], row["image_1"] = row["image_1"], row["image_0"]
    world.write()


def tag(world: World, draw: random.Random) -> None:
    draw.choice(world.rows)["tag"] = draw.choice("abcd")
    world.write()


def setting(world: World, draw: random.Random) -> None:
    world.spend = changed(world.spend, draw.choice([field.name for field in fields(Budget)]))


def changed(spend: Budget, name: str) -> Budget:
    """With one setting turned, whichever there are."""
    value = getattr(spend, name)
    other = (0.2, 0.8) if value is None else None if isinstance(value, tuple) else f"another {value}"
    if isinstance(value, bool | int):
        other = not value if isinstance(value, bool) else value + 1
    return replace(spend, **{name: other})
