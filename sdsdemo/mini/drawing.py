"""What the Mini world ships to look at: a benchmark in Winoground's layout, a validation set, the page's examples.

Both sets are of one make and of disjoint combinations. Scores nothing: no item of them is chosen by what a model says.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from sdsdemo.data.mini_drawing import draw as render
from sdsdemo.data.mini_world import SWAPS, Pair, Split, SwapKind, benchmark_pairs, random_pair

SEED = 20_001
"""Of what is shipped; never used to train or to choose."""
EXAMPLES = 400
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
}
"""The examples of the page: one a kind of swap, with its title, drawn in this order."""
OPENS_ON: SwapKind = "above"
"""The example that is listed first, and that the page opens on: put there because the models differ on it."""


def draw(seed: int, out: Path, progress: Callable[[str], None]) -> list[Path]:
    """Draws `out`/benchmark, /validation, /examples and examples.json from a seed; gives what was written.

    The same seed gives the same bytes.
    """
    splits: tuple[Split, ...] = ("benchmark", "validation")
    for split in splits:
        progress(f"{split}: {EXAMPLES} examples, {2 * EXAMPLES} pictures")
        write_benchmark(out / split, seed, split, EXAMPLES)
    progress(f"examples: {len(SHOWN)} pictures for the page")
    write_examples(out, seed)
    return [*(out / split for split in splits), out / "examples", out / "examples.json"]


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
                render(scene).save(buffer, "PNG", optimize=True)
                archive.writestr(ZipInfo(f"ex_{number}_img_{k}.png", EPOCH), buffer.getvalue())
