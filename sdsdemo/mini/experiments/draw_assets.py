"""What the Mini world ships to look at: a benchmark in Winoground's layout, a validation set, the page's examples.

Both sets are of one make and of disjoint combinations. The ambiguous pairs, both captions true of both pictures, lie
beside them and are scored by nobody. Scores nothing: no item is chosen by what a model says.
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

SEED = 20_001
"""Of what is shipped; never used to train or to choose."""
EXAMPLES = 400
AMBIGUOUS = "ambiguous"
EPOCH = (2026, 1, 1, 0, 0, 0)
"""Time stamp of every file in the archive: the same seed gives the same bytes."""
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
"""The examples of the page: one a kind of swap, with its title, drawn in this order."""
OPENS_ON: SwapKind = "colour-and"
"""The example that is listed first, and that the page opens on: put there because the models differ on it."""


def draw(seed: int, out: Path, progress: Callable[[str], None]) -> list[Path]:
    """Draws `out`/benchmark, /validation, /examples and examples.json from a seed; gives what was written.

    The same seed gives the same bytes.
    """
    splits: tuple[Split, ...] = ("benchmark", "validation")
    for split in splits:
        progress(f"{split}: {EXAMPLES} examples, {2 * EXAMPLES} pictures")
        write_benchmark(out / split, seed, split, EXAMPLES)
    progress("ambiguous: pairs outside every score")
    write_ambiguous(out / AMBIGUOUS, seed)
    progress(f"examples: {len(SHOWN)} pictures for the page")
    write_examples(out, seed)
    return [*(out / name for name in (*splits, AMBIGUOUS)), out / "examples", out / "examples.json"]


def write_examples(out: Path, seed: int) -> None:
    """Pictures of combinations that no model was trained on, and the list that the page reads."""
    rng = np.random.default_rng((seed, len(SHOWN)))
    shutil.rmtree(out / "examples", ignore_errors=True)
    (out / "examples").mkdir(parents=True, exist_ok=True)
    listing: list[dict[str, object]] = []
    for number, (kind, title) in enumerate(SHOWN.items()):
        pair, true = random_pair(rng, kind, "benchmark"), number % 2
        first, second = (sentence.text for sentence in pair.sentences)
        name = first.replace(" ", "-")
        render(pair.scenes[0]).save(out / "examples" / f"{name}.png", optimize=True)
        captions = (second, first) if true else (first, second)
        item = {"image": f"mini/examples/{name}.png", "captions": captions, "true": true, "title": title}
        listing.insert(0 if kind == OPENS_ON else len(listing), item)
    (out / "examples.json").write_text(json.dumps(listing, indent=1) + "\n")


def write_benchmark(folder: Path, seed: int, split: Split, count: int) -> None:
    """`examples.jsonl` and `images.zip` of a pair-of-pairs set."""
    pairs = benchmark_pairs(seed, split, count)
    _write_pairs(folder, [_row(number, pair) for number, pair in enumerate(pairs)], [pair.scenes for pair in pairs])


def write_ambiguous(folder: Path, seed: int) -> None:
    """The same two files of the pairs whose captions are both true of both pictures."""
    pairs = ambiguous_pairs(seed)
    rows = [_columns(number, sentences) | {"tag": "ambiguous"} for number, (_, sentences) in enumerate(pairs)]
    _write_pairs(folder, rows, [scenes for scenes, _ in pairs])


def _write_pairs(folder: Path, rows: Sequence[dict[str, object]], scenes: Sequence[tuple[Scene, Scene]]) -> None:
    """Whole or not at all: written aside, then renamed."""
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    (aside / "examples.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    with ZipFile(aside / "images.zip", "w", compression=ZIP_STORED) as archive:
        for number, both in enumerate(scenes):
            for k, scene in enumerate(both):
                archive.writestr(ZipInfo(f"ex_{number}_img_{k}.png", EPOCH), _png(scene))
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


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
    """With a palette: half the bytes, and 0.06 of 255 away in the mean."""
    buffer = io.BytesIO()
    palette = render(scene).quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------- contact sheets

SHEET = 24
"""Pairs on a sheet."""
THUMB, GAP, LINE = 150, 10, 15
"""Sides of a picture, of the room around it and of a line of text, in pixels."""


def draw_sheets(seed: int, out: Path) -> list[Path]:
    """Contact sheets of benchmark pairs with their captions, to be checked by eye: kinds and categories in turn."""
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


def _sheet(cells: Sequence[tuple[tuple[Scene, Scene], list[str]]], columns: int = 3) -> Image.Image:
    """Two pictures and the lines below them in each cell."""
    wide, high = 2 * THUMB + 3 * GAP, THUMB + 3 * LINE + 2 * GAP
    sheet = Image.new("RGB", (columns * wide, -(-len(cells) // columns) * high), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (scenes, lines) in enumerate(cells):
        x, y = place % columns * wide + GAP, place // columns * high + GAP
        for k, scene in enumerate(scenes):
            sheet.paste(render(scene, THUMB), (x + k * (THUMB + GAP), y))
        for k, line in enumerate(lines):
            pen.text((x, y + THUMB + 2 + k * LINE), line, fill=(40, 40, 48), font_size=11)
    return sheet
