"""The Mini training stream: scenes, their pictures at the models' size, and new random sentences for every batch.

The pictures are drawn once and cached in a file beside the run. Knows no model and no tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sdsdemo.data.mini.drawing import MODEL_PIXELS, draw
from sdsdemo.data.mini.scenes import Scene, training_stream
from sdsdemo.data.mini.sentences import Sentence, tags_of, training_sentence
from sdsdemo.runtime.files import write_aside


class MiniStream:
    """`count` training scenes of one seed, with pictures_N: uint8 [N, 64, 64, 3]."""

    def __init__(self, seed: int, count: int, work: Path) -> None:
        """Draws the pictures, or memory-maps `work/pictures-SEED-COUNT.npy` if they were drawn before."""
        self.seed = seed
        self.scenes = list(training_stream(seed, count))
        self.pictures_N = _pictures(self.scenes, work / f"pictures-{seed}-{count}.npy")

    def __len__(self) -> int:
        return len(self.scenes)

    def draw_batch(
        self, step: int, size: int, *, tag_share: float = 0.0, salt: int = 0
    ) -> tuple[np.ndarray, list[Sentence]]:
        """Indices of a step's scenes, and a sentence for each; depends only on seed, salt and step.

        tag_share: share of sentences that are replaced by their content words, shuffled.
        """
        rng = np.random.default_rng((self.seed, salt, step))
        index_B = rng.integers(len(self), size=size)
        return index_B, self.sentences(rng, index_B, tag_share)

    def sentences(self, rng: np.random.Generator, index_B: np.ndarray, tag_share: float = 0.0) -> list[Sentence]:
        """A new sentence for each of these scenes."""
        return [self._sentence(rng, self.scenes[i], tag_share) for i in index_B]

    def _sentence(self, rng: np.random.Generator, scene: Scene, tag_share: float) -> Sentence:
        sentence = training_sentence(rng, scene)
        return tags_of(rng, sentence) if rng.random() < tag_share else sentence


def _pictures(scenes: Sequence[Scene], path: Path) -> np.ndarray:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures_N = np.empty((len(scenes), MODEL_PIXELS, MODEL_PIXELS, 3), dtype=np.uint8)
        for index, scene in enumerate(scenes):
            pictures_N[index] = np.asarray(draw(scene, MODEL_PIXELS))
        with write_aside(path) as aside, aside.open("wb") as file:
            np.save(file, pictures_N)
    stored_N: np.ndarray = np.load(path, mmap_mode="r")
    return stored_N
