"""Benchmarks by name, and their examples as a list. Opens images only on demand; scores nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from PIL.Image import Image

from sdsdemo.captions.cleaning import is_blank, plain_notes
from sdsdemo.data.files import picture_digest
from sdsdemo.data.files.image_files import Note
from sdsdemo.data.files.quoting import shown
from sdsdemo.data.mini.choices import Choice, order_choices, retrieval_sets, single_choices, swap_choices
from sdsdemo.data.mini.drawing import SCREEN_PIXELS, draw
from sdsdemo.data.mini.scenes import Split
from sdsdemo.data.published.sets import differences
from sdsdemo.data.readers.choices import read_aro, read_sugarcrepe, read_sugarcrepe_pp
from sdsdemo.data.readers.eqben import read_eqben
from sdsdemo.data.readers.mmvp import read_mmvp
from sdsdemo.data.readers.naturalbench import read_naturalbench
from sdsdemo.data.readers.pairs import read_pairs
from sdsdemo.data.readers.valse import read_valse
from sdsdemo.data.readers.whatsup import read_whatsup
from sdsdemo.data.readers.winoground import read_from_hub, read_winoground
from sdsdemo.errors import UserError
from sdsdemo.settings import ASSETS, expanded
from sdsdemo.types import Example, Picture

MINI, VALIDATION = ASSETS / "mini" / "benchmark", ASSETS / "mini" / "validation"
COLORSWAP = {"caption_0": "caption_1", "caption_1": "caption_2", "image_0": "image_1", "image_1": "image_2"}
RETRIEVAL_SEED = 20_002
ZERO_SHOT_SEED = 20_004
SWAPS_SEED = 20_006
ORDERS_SEED = 20_007


def retrieval(
    seed: int = RETRIEVAL_SEED,
    sets: int = 5,
    size: int = 100,
    pixels: int = SCREEN_PIXELS,
    split: Split = "benchmark",
) -> list[Example]:
    """Retrieval: one image and `size` captions, the true one first; sets x size generated examples.

    The scenes are combinations of a split that was never trained on; within a set, no caption is true of two pictures.
    """
    examples = []
    called = f"retrieval {seed}" + ("" if split == "benchmark" else f" {split}")
    for number, pairs in enumerate(retrieval_sets(seed, sets, size, split)):
        for own, (scene, sentence) in enumerate(pairs):
            others = tuple(other.text for k, (_, other) in enumerate(pairs) if k != own)
            key = f"{called} {sets}x{size} {number}-{own} {pixels}"
            picture = _drawn(f"{number}-{own}.png", partial(draw, scene, pixels), key)
            captions = (sentence.text, *others)
            examples.append(
                Example(id=f"{number}-{own}", images=(picture,), captions=captions, tags={"tag": scene.family})
            )
    return examples


def zero_shot(seed: int = ZERO_SHOT_SEED, count: int = 500, pixels: int = SCREEN_PIXELS) -> list[Example]:
    """Zero-shot classification: generated pictures of one object, with its name first and those of others."""
    return [
        Example(
            id=str(number),
            images=(
                _drawn(f"{number}.png", partial(draw, scene, pixels), f"zero-shot {seed} {count} {number} {pixels}"),
            ),
            captions=captions,
            tags={"tag": scene.things[0].shape},
        )
        for number, (scene, captions) in enumerate(single_choices(seed, count))
    ]


def swaps(seed: int = SWAPS_SEED, count: int = 300, pixels: int = SCREEN_PIXELS) -> list[Example]:
    """Like ARO's attribution and relation sets: a true caption and a swapped one; `count` of each, generated."""
    return _chosen(f"swaps {seed} {count}", swap_choices(seed, count), pixels)


def orders(seed: int = ORDERS_SEED, count: int = 200, pixels: int = SCREEN_PIXELS) -> list[Example]:
    """Like ARO's order sets: a true caption and four shuffles of its words; generated."""
    return _chosen(f"orders {seed} {count}", order_choices(seed, count), pixels)


def _drawn(name: str, open_: Callable[[], Image], key: str) -> Picture:
    return Picture(name=name, open=open_, key=key, content=partial(picture_digest.of_text, key))


def _chosen(name: str, choices: Iterable[Choice], pixels: int) -> list[Example]:
    return [
        Example(
            id=str(number),
            images=(_drawn(f"{number}.png", partial(draw, choice.scene, pixels), f"{name} {number} {pixels}"),),
            captions=choice.captions,
            tags={"tag": choice.tag, "collapsed_tag": choice.collapsed_tag},
        )
        for number, choice in enumerate(choices)
    ]


def _once(make: Callable[[], list[Example]]) -> Callable[[], list[Example]]:
    """As `make`, which always gives the same, but made once per process: each call gets a list of its own."""
    made = cache(lambda: tuple(make()))
    return lambda: list(made())


class Benchmark(list[Example]):
    """The examples of a benchmark, with notes to show before scoring."""

    notes: Sequence[str] = ()


READERS: dict[str, Callable[[Path, Note], list[Example]]] = {
    "folder": read_pairs,
    "winoground": read_winoground,
    "colorswap": partial(read_pairs, columns=COLORSWAP, stems=("test", "examples", "train")),
    "sugarcrepe": read_sugarcrepe,
    "sugarcrepe++": read_sugarcrepe_pp,
    "aro": read_aro,
    "mmvp-vlm": read_mmvp,
    "whatsup": read_whatsup,
    "naturalbench": read_naturalbench,
    "valse": read_valse,
    "eqben": read_eqben,
}
"""Readers by the prefix of a benchmark's name."""
GATED = frozenset({"winoground", "colorswap"})
"""Sets whose authors give them only to those who accept their terms."""
NAMED: dict[str, Callable[[], list[Example]]] = {
    "mini": partial(read_pairs, MINI),
    "mini-validation": partial(read_pairs, VALIDATION),
    "mini-retrieval": _once(retrieval),
    "mini-zero-shot": _once(zero_shot),
    "mini-swaps": _once(swaps),
    "mini-orders": _once(orders),
    "winoground": read_from_hub,
}
MEANING = {
    "mini": "the Mini world, two images and two captions",
    "mini-validation": "a set built the same way, for model selection",
    "mini-retrieval": "one image, its caption among 100",
    "mini-zero-shot": "one object, its name among those of other objects",
    "mini-swaps": "one image, its caption and a swapped one, like ARO's attribution and relation",
    "mini-orders": "one image, its caption among four shuffles of it, like ARO's orders",
    "winoground": "Winoground from the Hub, with your own token",
    "folder:PATH": "your own set, two images a row or one: examples.jsonl, .json, .csv, .tsv or Parquet, and images",
    "winoground:PATH": "your copy of Winoground",
    "colorswap:PATH": "your copy of ColorSwap",
    "sugarcrepe:PATH": "your copy of SugarCrepe, with COCO's val2017",
    "sugarcrepe++:PATH": "your copy of SugarCrepe++, two true captions and a false one, with COCO's val2017",
    "aro:PATH": "your copy of ARO: relation, attribution and the two order sets, as available",
    "mmvp-vlm:PATH": "your copy of MMVP-VLM, nine visual patterns that CLIP is blind to",
    "whatsup:PATH": "your copy of What'sUp, spatial relations: the six parts, as available",
    "naturalbench:PATH": "your copy of NaturalBench-Retrieval",
    "valse:PATH": "your copy of VALSE, captions and foils; its valid cases",
    "eqben:PATH": "your copy of EqBen, images that differ in one thing; the whole set or a subset",
}
"""Every benchmark in a few words."""


def read_benchmark(name: str) -> list[Example]:
    """The examples of a benchmark by name, or of a local copy: `folder:PATH` and the other prefixes of READERS.

    Raises `UserError` for an unknown name, and for a benchmark that is missing or unreadable.
    """
    if name in NAMED:
        return NAMED[name]()
    source, _, path = name.partition(":")
    if source in READERS and path:
        folder = expanded(path)
        if not folder.is_dir():
            raise UserError(f"There is no folder '{folder.name}': check the path after '{source}:'.")
        notes: list[str] = []
        examples = Benchmark(READERS[source](folder, notes.append))
        _check_ids(examples)
        _check_captions(examples)
        examples.notes = tuple(dict.fromkeys(notes))
        return examples
    copies = ", ".join(f"{source}:PATH" for source in READERS)
    raise UserError(
        f"There is no benchmark called '{name}'. Choose from {', '.join(NAMED)}; or, for your own copy, {copies}."
    )


def absolute(name: str) -> str:
    """The name of a benchmark that means the same from any folder: with the whole path of a copy."""
    source, _, path = name.partition(":")
    return f"{source}:{os.path.abspath(expanded(path))}" if source in READERS and path else name


def from_here(name: str) -> str:
    """The name of a benchmark to show: the path of a copy below the current folder as seen from there."""
    source, _, path = name.partition(":")
    if source not in READERS or not Path(path).is_relative_to(Path.cwd()):
        return name
    return f"{source}:{Path(path).relative_to(Path.cwd())}"


def _check_ids(examples: Sequence[Example]) -> None:
    """Raises `UserError` for an id that two examples have: the store could keep the scores of one."""
    twice = [id_ for id_, count in Counter(example.id for example in examples).items() if count > 1]
    if twice:
        raise UserError(
            f"{len(twice):,} ids are there more than once, such as {shown(twice[0])}: "
            "if the folder holds a part twice, remove one of the two."
        )


def _check_captions(examples: Sequence[Example]) -> None:
    """Raises `UserError` for a blank caption, whatever its reader made of it."""
    for example in examples:
        if blank := [number for number, caption in enumerate(example.captions, 1) if is_blank(caption)]:
            raise UserError(f"Example {shown(example.id)} has a blank caption (number {blank[0]}): remove the example.")


def is_gated(name: str) -> bool:
    """Whether a benchmark's pictures and captions may be shown only to whoever accepted its terms."""
    return name.partition(":")[0] in GATED


def list_benchmarks() -> list[dict[str, object]]:
    """Every benchmark with its size and whether it is available; if not, the next step."""
    rows: list[dict[str, object]] = []
    for name, meaning in MEANING.items():
        row: dict[str, object] = {"benchmark": name, "meaning": meaning, "n": None, "here": None, "next_step": ""}
        if name in NAMED:
            try:
                row |= {"n": len(NAMED[name]()), "here": True}
            except UserError as error:
                row |= {"here": False, "next_step": str(error)}
        rows.append(row)
    return rows


def differs(name: str, tags: Sequence[Mapping[str, str]]) -> list[str]:
    """Differences from the published benchmark, in sentences: a copy may be partial or old."""
    return differences(name.partition(":")[0], tags)


SHARED = "Examples share images, but the intervals treat them as independent, so the intervals are somewhat too narrow."
"""Frames of one video, or several images of one place, do not count: only the same file is noticed."""


def notes_on(name: str, examples: Sequence[Example]) -> list[str]:
    """Notes before scoring a benchmark, in sentences: its size, and differences from the published set."""
    pictures = {picture.key or f"{e.id}/{picture.name}" for e in examples for picture in e.images}
    captions = {caption for e in examples for caption in e.captions}
    size = f"{len(examples):,} examples, {len(pictures):,} different images, {len(captions):,} different captions."
    return [
        size,
        *([SHARED] if len(pictures) < sum(len(e.images) for e in examples) else []),
        *plain_notes(captions),
        *getattr(examples, "notes", ()),
        *differs(name, [example.tags for example in examples]),
    ]
