"""Draws the images that Mini ships: a benchmark in Winoground's layout, a validation set, the page's examples.

Both sets are generated alike, from disjoint combinations. Ambiguous pairs, where both captions are true of both images,
are stored beside them and never scored. Runs no model: no item is chosen by a model's score.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from PIL import Image, ImageDraw

from sdsdemo.data.mini.benchmarks import SWAPS, Pair, SwapKind, ambiguous_pairs, benchmark_pairs, random_pair
from sdsdemo.data.mini.drawing import draw as render
from sdsdemo.data.mini.scenes import Scene, Split
from sdsdemo.data.mini.sentences import Sentence
from sdsdemo.data.mini.sketches import write_sketch
from sdsdemo.runtime.files import forget_unfinished, put_folder, write_json, write_whole

SEED = 20_001
"""Seed of the shipped sets; never used for training or model selection."""
EXAMPLES = 400
AMBIGUOUS = "ambiguous"
EPOCH = (2026, 1, 1, 0, 0, 0)
"""Timestamp of every file in the archive, so that the same seed gives the same bytes."""
SHOWN: dict[SwapKind, str] = {
    "left": "Left or right",
    "above": "Above or below",
    "inside": "Inside",
    "colour-and": "Colours",
    "colour-relation": "Colours in a relation",
    "size": "Sizes",
    "count": "Numbers",
    "both-size": "Nouns and sizes",
}
"""Examples on the page: one per kind of swap, with its title, in drawing order."""
OPENS_ON: SwapKind = "colour-and"
"""The example that is listed first and that the page opens on, because the models differ on it."""


def draw(seed: int, out: Path, progress: Callable[[str], None]) -> list[Path]:
    """Draw `out`/benchmark, /validation, /examples and examples.json from a seed. Returns the paths.

    The same seed gives the same bytes.
    """
    splits: tuple[Split, ...] = ("benchmark", "validation")
    for split in splits:
        progress(f"{split}: {EXAMPLES} examples, {2 * EXAMPLES} pictures")
        write_benchmark(out / split, seed, split, EXAMPLES)
    progress("ambiguous: pairs that are never scored")
    write_ambiguous(out / AMBIGUOUS, seed)
    progress(f"examples: {len(SHOWN)} pictures for the page")
    write_examples(out, seed)
    return [*(out / name for name in (*splits, AMBIGUOUS)), out / "examples", out / "examples.json"]


def write_examples(out: Path, seed: int) -> None:
    """Write pictures of combinations that no model was trained on, and the list that the page reads."""
    rng = np.random.default_rng((seed, len(SHOWN)))
    forget_unfinished(out)
    aside = out / "examples.part"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    listing: list[dict[str, object]] = []
    for number, (kind, title) in enumerate(SHOWN.items()):
        pair, true = random_pair(rng, kind, "benchmark"), number % 2
        first, second = (sentence.text for sentence in pair.sentences)
        name = first.replace(" ", "-")
        render(pair.scenes[0]).save(aside / f"{name}.png", optimize=True)
        captions = (second, first) if true else (first, second)
        item = {
            "image": f"mini/examples/{name}.png",
            "captions": captions,
            "true": true,
            "title": title,
            "scene": write_sketch(pair.scenes[0]),
        }
        listing.insert(0 if kind == OPENS_ON else len(listing), item)
    put_folder(aside, out / "examples")
    write_json(out / "examples.json", listing)


def write_benchmark(folder: Path, seed: int, split: Split, count: int) -> None:
    """Write `examples.jsonl` and `images.zip` of a pair-of-pairs set."""
    pairs = benchmark_pairs(seed, split, count)
    _write_pairs(folder, [_row(number, pair) for number, pair in enumerate(pairs)], [pair.scenes for pair in pairs])


def write_ambiguous(folder: Path, seed: int) -> None:
    """Write the same two files for the pairs whose captions are both true of both pictures."""
    pairs = ambiguous_pairs(seed)
    rows = [_columns(number, sentences) | {"tag": "ambiguous"} for number, (_, sentences) in enumerate(pairs)]
    _write_pairs(folder, rows, [scenes for scenes, _ in pairs])


def _write_pairs(folder: Path, rows: Sequence[dict[str, object]], scenes: Sequence[tuple[Scene, Scene]]) -> None:
    """Written to a temporary folder, which then takes the place of the earlier one."""
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    write_whole(aside / "examples.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n")
    with ZipFile(aside / "images.zip", "w", compression=ZIP_STORED) as archive:
        for number, both in enumerate(scenes):
            for k, scene in enumerate(both):
                archive.writestr(ZipInfo(f"ex_{number}_img_{k}.png", EPOCH), _png(scene))
    put_folder(aside, folder)


def _columns(number: int, sentences: Sequence[Sentence]) -> dict[str, object]:
    return {
        "id": number,
        "caption_0": sentences[0].text,
        "caption_1": sentences[1].text,
        "image_0": f"ex_{number}_img_0",
        "image_1": f"ex_{number}_img_1",
    }


def _row(number: int, pair: Pair) -> dict[str, object]:
    recipe = SWAPS[pair.kind]
    return _columns(number, pair.sentences) | {
        "tag": recipe.tag,
        "secondary_tag": pair.relation,
        "collapsed_tag": recipe.collapsed_tag,
        "num_main_preds": pair.predicates,
        "category": pair.category,
    }


def _png(scene: Scene) -> bytes:
    """With a palette: half the bytes, mean error 0.06 of 255."""
    buffer = io.BytesIO()
    palette = render(scene).quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------- contact sheets

SHEET = 24
"""Pairs per sheet."""
THUMB, GAP, LINE = 150, 10, 15
"""Size of a picture, of the gap around it and of a line of text, in pixels."""


def draw_sheets(seed: int, out: Path) -> list[Path]:
    """Draw contact sheets of benchmark pairs with their captions, to check by eye: kinds and categories in turn."""
    out.mkdir(parents=True, exist_ok=True)
    pairs = benchmark_pairs(seed, "benchmark", EXAMPLES)
    chosen = pairs[:: EXAMPLES // (2 * SHEET)][: 2 * SHEET]
    written = []
    for number in range(2):
        path = out / f"benchmark-{number + 1}.png"
        _sheet([(pair.scenes, _caption(pair)) for pair in chosen[number::2]]).save(path, optimize=True)
        written.append(path)
    path = out / "ambiguous.png"
    ambiguous = [(scenes, [s.text for s in sentences]) for scenes, sentences in ambiguous_pairs(seed)[:12]]
    _sheet(ambiguous).save(path, optimize=True)
    return [*written, path]


def _caption(pair: Pair) -> list[str]:
    return [*(sentence.text for sentence in pair.sentences), " · ".join(filter(None, (pair.kind, pair.category)))]


def _sheet(cells: Sequence[tuple[tuple[Scene, Scene], list[str]]]) -> Image.Image:
    """Three columns; each cell holds two pictures with the lines of text below them."""
    columns, wide, high = 3, 2 * THUMB + 3 * GAP, THUMB + 3 * LINE + 2 * GAP
    sheet = Image.new("RGB", (columns * wide, -(-len(cells) // columns) * high), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (scenes, lines) in enumerate(cells):
        x, y = place % columns * wide + GAP, place // columns * high + GAP
        for k, scene in enumerate(scenes):
            sheet.paste(render(scene, THUMB), (x + k * (THUMB + GAP), y))
        for k, line in enumerate(lines):
            pen.text((x, y + THUMB + 2 + k * LINE), line, fill=(40, 40, 48), font_size=11)
    return sheet
