"""What the Mini world ships to look at: a benchmark in Winoground's layout, and the examples of the page."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from sdsdemo.data.mini_drawing import draw
from sdsdemo.data.mini_world import SWAPS, Pair, Split, benchmark_pairs

BENCHMARK_SEED = 20_001
VALIDATION_SEED = 10_001
EXAMPLES = 400
EPOCH = (2026, 1, 1, 0, 0, 0)
"""Time stamp of every file in the archive: the same seed gives the same bytes."""


def write_benchmark(folder: Path, seed: int, split: Split, count: int = EXAMPLES) -> None:
    """`examples.jsonl` and `images.zip`, whole or not at all: written aside, then renamed."""
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    pairs = benchmark_pairs(seed, split, count)
    rows = [json.dumps(_row(number, pair)) for number, pair in enumerate(pairs)]
    (aside / "examples.jsonl").write_text("\n".join(rows) + "\n")
    _write_images(aside / "images.zip", pairs)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _row(number: int, pair: Pair) -> dict[str, object]:
    recipe = SWAPS[pair.kind]
    return {
        "id": number,
        "caption_0": pair.sentences[0].text,
        "caption_1": pair.sentences[1].text,
        "image_0": f"ex_{number}_img_0",
        "image_1": f"ex_{number}_img_1",
        "tag": recipe.tag,
        "secondary_tag": "",
        "collapsed_tag": recipe.collapsed_tag,
        "num_main_preds": 1,
    }


def _write_images(path: Path, pairs: Sequence[Pair]) -> None:
    with ZipFile(path, "w", compression=ZIP_STORED) as archive:
        for number, pair in enumerate(pairs):
            for k, scene in enumerate(pair.scenes):
                buffer = io.BytesIO()
                draw(scene).save(buffer, "PNG", optimize=True)
                archive.writestr(ZipInfo(f"ex_{number}_img_{k}.png", EPOCH), buffer.getvalue())
