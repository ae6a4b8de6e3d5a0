"""The training pairs of a run: images, each with a caption and its swapped twin. Knows no model and no tensor.

Mini's twins are checked to be false of their scenes; those of free text follow `swap_rules`. An image keeps its caption
and twin for the whole run, whatever the objective, so that objectives are comparable and the teacher is queried once.
A share of the swaps may be mislabelled, to test objectives when it is unknown which caption is true.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any, Protocol

import numpy as np

from sdsdemo.captions.swap_rules import OTHER_WORDS, SAME_WORDS, Swap, swap
from sdsdemo.data.captions.sources import Captioned, Captions, read_captions
from sdsdemo.data.mini.drawing import MODEL_PIXELS, draw
from sdsdemo.data.mini.hard_negatives import false_twin
from sdsdemo.data.mini.scenes import Scene, training_stream
from sdsdemo.data.mini.sentences import training_sentence
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.settings import FINETUNING
from sdsdemo.types import Picture

SALT = 6
SAMPLED = 5_000
"""Captions checked before a run, to report how many have a swap."""
LEAST_EQUAL = 0.005
"""Smallest share of rows with an equal caption in their batch that is reported."""
MINI_SETTINGS = ("seed", "pool", "withheld_kind", "withheld_words", "mislabelled")
"""Settings of a recipe that determine the Mini pairs."""
SAME_BATCHES = (
    "Every epoch repeats the same batches, since a stream is read in its own order; --pool 0 reads all of it first."
)
MISLABELLED = 7
"""Salt of the draw that decides whether a caption and its swap are exchanged."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image, its caption, and its twin: the caption's false counterpart."""

    picture: Picture
    caption: str
    twin: str | None
    """None if the caption has no swap that may be trained."""
    kind: str = ""
    """What was swapped: one of `swap_rules.KINDS`; empty if nothing was."""
    stand_in: bool = False
    """The twin is another image's caption, not a swap."""
    mislabelled: bool = False
    """Caption and twin are exchanged, unknown to the objective."""

    @property
    def truth(self) -> str:
        """The image's true caption, for reports; never trained on."""
        return self.twin if self.mislabelled and self.twin is not None else self.caption

    @property
    def untruth(self) -> str | None:
        """The false counterpart of `truth`, for reports."""
        return self.caption if self.mislabelled else self.twin


class Source(Protocol):
    """A source of training pairs."""

    equal_captions_are_right: bool
    """Whether equal captions in a step count as right for each other's images."""

    @property
    def held_out(self) -> list[Pair]:
        """Pairs that are never drawn."""
        ...

    def draw(self, step: int, size: int) -> list[Pair]:
        """`size` pairs; depends only on source, step and size. Raises `UserError` if too many are unreadable."""
        ...

    def describe(self) -> dict[str, Any]:
        """Plain values for the run's record."""
        ...

    def steps(self, size: int, most: int) -> int:
        """Steps of that size per epoch, at most `most`."""
        ...

    @property
    def notes(self) -> list[str]:
        """Notes to show before the first step: how much data there is, and what was not read."""
        ...

    def texts(self, most: int) -> list[str]:
        """Captions of up to `most` images, without reading more data."""
        ...


def read_source(recipe: Recipe) -> Source:
    """The pairs that a recipe names. Raises `UserError` for data that is missing or cannot be used."""
    if recipe.is_mini:
        return MiniPairs(**{name: getattr(recipe, name) for name in MINI_SETTINGS})
    return FreePairs(
        read_captions(
            recipe.data,
            image_column=recipe.image_column,
            caption_column=recipe.caption_column or None,
            held_out=recipe.held_out,
        ),
        recipe,
    )


class MiniPairs:
    """`pool` scenes of the Mini world's training split, drawn from the seed; the small pictures are cached."""

    equal_captions_are_right = False
    """The experiment was declared with the published loss; one row in a thousand has an equal caption in its batch."""

    def __init__(
        self, *, seed: int, pool: int, withheld_kind: str, withheld_words: str, mislabelled: float = 0.0
    ) -> None:
        """Arguments as the recipe's settings of the same names."""
        self._count = count = pool or FINETUNING.page_pool
        self.held_out: list[Pair] = []
        """The Mini benchmarks hold out combinations instead."""
        self.notes: list[str] = []
        """Everything is read."""
        self.seed, self.withheld, self.words = seed, withheld_kind, withheld_words
        self._mislabelled = mislabelled
        rng = np.random.default_rng((seed, SALT))
        self._pairs = [self._pair(rng, k, scene) for k, scene in enumerate(training_stream(seed + 1, count))]

    def draw(self, step: int, size: int) -> list[Pair]:
        """Epoch by epoch, each a permutation of the pool."""
        places = range(step * size, (step + 1) * size)
        return [self._pairs[_permuted(self.seed, place, len(self._pairs))] for place in places]

    def steps(self, size: int, most: int) -> int:
        """Steps of that size per epoch, at most `most`."""
        return min(most, -(-len(self._pairs) // size))

    def texts(self, most: int) -> list[str]:
        """Captions of up to `most` scenes."""
        return [pair.caption for pair in self._pairs[:most]]

    def describe(self) -> dict[str, Any]:
        """Plain values for the run's record."""
        return {"kind": "mini", "items": len(self._pairs), "bad_rows": None, **_swap_shares(self._pairs)}

    def _pair(self, rng: np.random.Generator, number: int, scene: Scene) -> Pair:
        sentence = training_sentence(rng, scene)
        twin = None
        if not _has_words(sentence.text, self.words):
            twin = false_twin(rng, scene, sentence, without=(self.withheld,))
        pair = Pair(
            picture=Picture(
                name=f"scene {number}",
                open=lru_cache(maxsize=1)(partial(draw, scene, MODEL_PIXELS)),
                key=f"mini {self.seed} {self._count} {number}",
            ),
            caption=sentence.text,
            twin=None if twin is None else twin.sentence.text,
            kind="" if twin is None else twin.kind,
        )
        return _labelled(pair, np.random.default_rng((self.seed, MISLABELLED, number)), self._mislabelled)


class FreePairs:
    """The user's own images and captions, with twins by rule.

    The twin of a caption without a swap is a caption of the previous image in the first epoch, from the same batch
    except for its first row. It stays the same for the whole run, so that the teacher is queried about it once.
    """

    equal_captions_are_right = True

    def __init__(self, captions: Captions, recipe: Recipe) -> None:
        self._captions, self._recipe = captions, recipe
        self._seen: dict[str, bool] = {}
        count, pool = self._known, recipe.pool
        self._pool = pool if count is None or pool < count else 0
        """Images that are drawn again and again; 0 for all. A stream learns its length on the way, too late to count:
        a run that goes on would draw others."""

    @property
    def held_out(self) -> list[Pair]:
        """Pairs that are never drawn, with all kinds of swap, including those withheld from training."""
        return [self._pair(item, withheld=("", "")) for item in self._captions.held_out]

    @property
    def notes(self) -> list[str]:
        """The source's notes, then how many captions have a swap, and how many have an equal one in a batch."""
        same = [SAME_BATCHES] if self._pool and self._known is None else []
        return [*self._captions.notes, *same, *self._shares.words(self._recipe.batch)]

    @cached_property
    def _shares(self) -> Shares:
        withheld = (self._recipe.withheld_kind, self._recipe.withheld_words)
        found = [self._said(name, captions, withheld)[:2] for name, captions in self._captions.sample(SAMPLED)]
        kinds = Counter("" if twin is None else twin.kind for _, twin in found)
        return Shares(
            captions=len(found), kinds=kinds, equal=duplicate_share([text for text, _ in found], self._recipe.batch)
        )

    def draw(self, step: int, size: int) -> list[Pair]:
        """The source's images; the image's name and the seed select one of several captions."""
        withheld = (self._recipe.withheld_kind, self._recipe.withheld_words)
        items = self._captions.draw(step, size, self._recipe.seed, self._pool)
        found = [self._pair(item, withheld, item.beside, self._recipe.mislabelled) for item in items]
        self._seen.update({pair.picture.key or pair.picture.name: bool(pair.kind) for pair in found})
        return found

    def texts(self, most: int) -> list[str]:
        """Every caption of up to `most` images, without reading more data."""
        return [text for _, captions in self._captions.sample(most) for text in captions]

    def steps(self, size: int, most: int) -> int:
        """Steps of that size per epoch, at most `most`."""
        count = min(self._known or self._recipe.pool or most * size, self._recipe.pool or most * size)
        return max(1, min(most, -(-count // size)))

    @property
    def _known(self) -> int | None:
        described = self._captions.describe()
        items, held = described.get("items"), described.get("held_out")
        return int(str(items)) - int(str(held or 0)) if items else None

    def describe(self) -> dict[str, Any]:
        """Plain values for the run's record; the share without a swap covers the images drawn so far."""
        met = len(self._seen)
        share = round(1 - sum(self._seen.values()) / met, 4) if met else None
        return {
            **self._captions.describe(),
            "met": met,
            "without_swap": share,
            "looked_at": self._shares.captions,
            "swaps": self._shares.by_kind,
            "equal_captions": round(self._shares.equal, 4),
            "bad_rows": asdict(self._captions.bad),
        }

    def _pair(
        self, item: Captioned, withheld: tuple[str, str], others: tuple[str, ...] = (), mislabelled: float = 0.0
    ) -> Pair:
        """others: captions to stand in for a missing swap. mislabelled: share of swaps to exchange."""
        caption, found, rng = self._said(item.picture.name, item.captions, withheld)
        if found is not None:
            pair = Pair(picture=item.picture, caption=caption, twin=found.text, kind=found.kind)
            return _labelled(pair, rng, mislabelled)
        said = {text.casefold() for text in item.captions}
        others = tuple(text for text in others if text.casefold() not in said)
        other = others[rng.integers(len(others))] if others else None
        return Pair(picture=item.picture, caption=caption, twin=other, stand_in=other is not None)

    def _said(
        self, name: str, captions: tuple[str, ...], withheld: tuple[str, str]
    ) -> tuple[str, Swap | None, np.random.Generator]:
        """An image's caption in this run, its swap, and the random generator for further draws."""
        key = f"{self._recipe.seed} {name} {captions}"
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"))
        caption = captions[rng.integers(len(captions))]
        kind, words = withheld
        without = {kind} - {""} | (set() if self._recipe.replacements else set(OTHER_WORDS))
        return caption, None if _has_words(caption, words) else swap(caption, rng, without=without), rng


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Statistics of a sample of a source's captions, before the run."""

    captions: int
    kinds: Mapping[str, int]
    """Number of captions by kind of swap; "" for none."""
    equal: float
    """Share of a batch's rows with an equal caption in the batch."""

    @property
    def by_kind(self) -> dict[str, float]:
        """Share of captions by kind of swap, the most frequent first."""
        kinds = sorted((kind for kind in self.kinds if kind), key=lambda kind: (-self.kinds[kind], kind))
        return {kind: round(self.kinds[kind] / self.captions, 4) for kind in kinds}

    def words(self, batch: int) -> list[str]:
        """Sentences; none if no caption was checked."""
        if not self.captions:
            return []
        same, other = (sum(self.by_kind.get(kind, 0.0) for kind in kinds) for kinds in (SAME_WORDS, OTHER_WORDS))
        each = ", ".join(f"{kind} {100 * share:.1f}" for kind, share in self.by_kind.items())
        said = [
            f"Of {self.captions:,} captions checked, {100 * (same + other):.1f} % have a swap: {100 * same:.1f} % with "
            f"the same words, {100 * other:.1f} % with a new word" + (f" (in %: {each})." if each else ".")
        ]
        if self.equal >= LEAST_EQUAL:
            said.append(
                f"About {100 * self.equal:.0f} % of the rows in a batch of {batch} share a caption with another row: "
                "equal captions count as right for each other's images."
            )
        return said


def duplicate_share(captions: Sequence[str], batch: int) -> float:
    """Expected share of rows with an equal caption in their batch, for batches drawn at random from these captions."""
    counts, others = Counter(text.casefold() for text in captions), max(len(captions) - 1, 1)
    alone = sum(n * (1 - (n - 1) / others) ** (batch - 1) for n in counts.values())
    return 1 - alone / max(len(captions), 1)


def _labelled(pair: Pair, rng: np.random.Generator, mislabelled: float) -> Pair:
    """The pair, with caption and swap exchanged with this probability. A single draw, so that pairs mislabelled at one
    share stay so at any higher share."""
    if pair.twin is None or rng.random() >= mislabelled:
        return pair
    return replace(pair, caption=pair.twin, twin=pair.caption, mislabelled=True)


def _swap_shares(pairs: list[Pair]) -> dict[str, Any]:
    kinds = Counter(pair.kind for pair in pairs)
    return {
        "without_swap": round(kinds[""] / len(pairs), 4),
        "swaps": {kind: round(count / len(pairs), 4) for kind, count in sorted(kinds.items()) if kind},
    }


def _has_words(caption: str, words: str) -> bool:
    return bool(words.strip()) and f" {words.strip().lower()} " in f" {caption.lower()} "


def _permuted(seed: int, place: int, count: int) -> int:
    """Index of the item at a place in the endless sequence of epochs."""
    return int(_order(seed, place // count, count)[place % count])


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch, SALT)).permutation(count)
