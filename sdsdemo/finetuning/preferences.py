"""What the teacher prefers: each caption against its twin, scored once, kept on disk, used in any later run.

    gap = d(i, c') - d(i, c)                            > 0 where the teacher prefers c; same (t, eps) for both
    p   = sigmoid( sharpness * gap / median |gap| )     what the student is asked to prefer

The cache holds a line a pair, `{"pair": hash of image and both captions, "gap": ...}`, in a file named after the
teacher's weights and the budget: another teacher or other timesteps are another file. A cut last line is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sdsdemo.errors import UserError
from sdsdemo.finetuning.pairs import Pair
from sdsdemo.types import Budget, Example, Scorer

AT_ONCE = 32
"""Pairs whose scores are written together; a stop is obeyed between two such parts."""


class Preferences:
    """The gaps of one teacher at one budget, by pair."""

    def __init__(self, folder: Path, fingerprint: str, budget: Budget) -> None:
        """Reads what is kept. folder: of all caches; fingerprint: of the teacher's weights. Raises `UserError`."""
        asked = json.dumps([fingerprint, budget.timesteps, budget.noises, budget.seed])
        self.budget = budget
        self.path = folder / "preferences" / f"{hashlib.sha256(asked.encode()).hexdigest()[:20]}.jsonl"
        self._gaps = _read(self.path)
        self._keys: dict[tuple[str, str, str], str] = {}
        self.spent = 0
        """Denoiser evaluations that were made here, not those that were found."""

    def __len__(self) -> int:
        return len(self._gaps)

    @property
    def answers(self) -> dict[str, float]:
        """The gap of every pair that is known, by the pair's hash."""
        return self._gaps

    def take(self, answers: Mapping[str, float]) -> None:
        """Answers that another process was given, which may have another disk."""
        self._gaps.update(answers)

    def missing(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Pairs with a twin that the teacher was not asked about yet."""
        return [pair for pair in pairs if pair.twin is not None and self._key(pair) not in self._gaps]

    def ask(self, teacher: Scorer, pairs: Sequence[Pair], stop: Callable[[], bool]) -> Iterator[int]:
        """Score the missing ones and keep them; yields how many are done. Ends early where `stop` says so."""
        todo = list({self._key(pair): pair for pair in self.missing(pairs)}.items())
        for start in range(0, len(todo), AT_ONCE):
            if stop():
                return
            part = todo[start : start + AT_ONCE]
            examples = [_example(pair) for _, pair in part]
            lines = []
            for (key, _), scores in zip(part, teacher.score_examples(examples, self.budget), strict=True):
                self._gaps[key] = gap = float(scores.score_IC[0, 0] - scores.score_IC[0, 1])
                self.spent += scores.evidence.evaluations if scores.evidence is not None else 0
                lines.append(json.dumps({"pair": key, "gap": gap}) + "\n")
            self._append(lines)
            yield start + len(part)

    def probabilities(
        self, pairs: Sequence[Pair], sharpness: float, *, permuted: int | None = None, unordered: bool = False
    ) -> dict[tuple[str, str, str], float]:
        """p of each pair that has a twin, by `told_apart`. permuted: a seed that deals the gaps to other pairs,
        most of which still prefer the caption; unordered: and draws by lot which of the two is preferred.

        The median is over the swaps among these pairs: ask for the whole pool at once. Captions of other images are
        told apart more easily: their gaps are measured in the same unit, and dealt among themselves.
        """
        known = {told_apart(pair): pair for pair in pairs if pair.twin and self._has(pair)}
        gap_P = np.array([self._gaps[self._key(pair)] for pair in known.values()])
        swap_P = np.array([not pair.stand_in for pair in known.values()], dtype=bool)
        if permuted is not None:
            rng = np.random.default_rng(permuted)
            for group_P in (swap_P, ~swap_P):
                gap_P[group_P] = rng.permutation(gap_P[group_P])
            if unordered:
                gap_P *= rng.choice([-1.0, 1.0], size=len(gap_P))
        unit_of = gap_P[swap_P] if swap_P.any() else gap_P
        usual = max(float(np.median(np.abs(unit_of))), 1e-12) if len(unit_of) else 1.0
        p_P = 1 / (1 + np.exp(-np.clip(sharpness * gap_P / usual, -500, 500)))
        return dict(zip(known, p_P.tolist(), strict=True))

    def right(self, pairs: Sequence[Pair]) -> tuple[int, int]:
        """For how many swaps with a known preference the teacher prefers the true caption, and of how many.

        No training looks at it: it is the teacher's quality on this pool.
        """
        swaps = [pair for pair in pairs if pair.twin and not pair.stand_in]
        gaps = [self._gaps[self._key(pair)] * (-1 if pair.mislabelled else 1) for pair in swaps if self._has(pair)]
        return sum(gap > 0 for gap in gaps), len(gaps)

    def _has(self, pair: Pair) -> bool:
        return self._key(pair) in self._gaps

    def _key(self, pair: Pair) -> str:
        """The content of a pair: pixels, caption and twin. An image is opened for it once a run."""
        own = told_apart(pair)
        if own not in self._keys:
            image = pair.picture.open()
            digest = hashlib.sha256(json.dumps([image.size, pair.caption, pair.twin]).encode())
            digest.update(image.tobytes())
            self._keys[own] = digest.hexdigest()[:32]
        return self._keys[own]

    def _append(self, lines: Sequence[str]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"The teacher's preferences cannot be kept ({error.strerror}): make room, or set SDSDEMO_CACHE."
            ) from error


def told_apart(pair: Pair) -> tuple[str, str, str]:
    """What tells the pairs of one run apart, without opening the image."""
    return pair.picture.key or pair.picture.name, pair.caption, pair.twin or ""


def _example(pair: Pair) -> Example:
    return Example(id="", images=(pair.picture,), captions=(pair.caption, pair.twin or ""), tags={})


def _read(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    gaps: dict[str, float] = {}
    for number, line in enumerate(whole.decode(errors="replace").splitlines(), start=1):
        try:
            row: Mapping[str, float | str] = json.loads(line)
            gaps[str(row["pair"])] = float(row["gap"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"Line {number} of the preferences in {path.name} cannot be read: delete that file."
            ) from error
    return gaps
