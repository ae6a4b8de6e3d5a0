"""The teacher's preferences: each caption is scored against its twin once, and the result is cached on disk.

    gap = d(i, c') - d(i, c)                            > 0 if the teacher prefers c; same (t, eps) for both
    p   = sigmoid( sharpness * gap / median |gap| )     the student's target

The cache holds one line per pair, `{"pair": hash of image and both captions, "gap": ...}`, in a file named after the
teacher's weights and the budget, so each teacher and budget has its own file. Several processes may share it: each
reads what the others have added before it queries the teacher, and the first answer for a pair counts. A truncated last
line is dropped.

A non-finite loss yields no preference: its gap is null, and the pair is left out.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sdsdemo.errors import UserError
from sdsdemo.finetuning.run_schema import Answer
from sdsdemo.finetuning.training_pairs import Pair
from sdsdemo.runtime import files
from sdsdemo.runtime.distributed import ALONE, Processes
from sdsdemo.runtime.shapes import shaped
from sdsdemo.types import Budget, Example, Scorer

AT_ONCE = 32
"""Pairs of a process whose scores are written together; a run can stop between such parts."""
LOCK_SECONDS = 60.0
"""How long to wait for another process to write its lines."""
UNREADABLE = "Line {number} of the preferences in {name} cannot be read ({why}): delete that file to score them again."
REVERSED = 11
"""Salt of the draw that decides which answers are reversed."""
NO_ROOM = "The teacher's preferences cannot be saved ({why}): free disk space, or set SDSDEMO_CACHE."


def _nothing() -> None:
    """The work of a process that has none."""


class Preferences:
    """The gaps of one teacher at one budget, by pair."""

    def __init__(self, folder: Path, fingerprint: str, budget: Budget, processes: Processes = ALONE) -> None:
        """Reads cached answers. folder: of all caches. fingerprint: of the teacher's weights.

        processes: those that share the asking, with the same pairs. Raises `UserError`.
        """
        asked = json.dumps([fingerprint, budget.timesteps, budget.noises, budget.seed])
        self.budget, self._processes = budget, processes
        self.path = folder / "preferences" / f"{hashlib.sha256(asked.encode()).hexdigest()[:20]}.jsonl"
        self._gaps: dict[str, float | None] = {}
        self._lines_met = 0
        self._read()
        self._keys: dict[tuple[str, str, str], str] = {}
        self.spent = 0
        """Denoiser evaluations made by this object, without those behind cached answers."""

    def __len__(self) -> int:
        return len(self._gaps)

    def agree(self, pairs: Sequence[Pair]) -> None:
        """Takes what any process knows of these pairs, as their disks may differ; each of them must call it."""
        if self._processes.count > 1:
            keys = {self._key(pair) for pair in pairs if pair.twin is not None}
            self._exchange({key: gap for key, gap in self._gaps.items() if key in keys})

    def remember(self, pairs: Sequence[Pair]) -> None:
        """Hashes these pairs now, so that their images need not stay in memory until the teacher is asked."""
        for pair in pairs:
            if pair.twin is not None:
                self._key(pair)

    def missing(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Pairs with a twin that the teacher has not scored yet."""
        return [pair for pair in pairs if pair.twin is not None and self._key(pair) not in self._gaps]

    def ask(self, teacher: Scorer, pairs: Sequence[Pair], stop: Callable[[], bool]) -> Iterator[int]:
        """Score the missing pairs and cache them; yields how many are done, by all processes.

        Ends early, in all, if `stop` returns True in one. Answers received before an error are kept. Raises `UserError`
        in all processes if it does in one.
        """
        todo = self._missing_in_any(pairs)
        index, count = self._processes.index, self._processes.count
        for start in range(0, len(todo), AT_ONCE * count):
            if any(self._processes.gather([stop()])):
                return
            part = todo[start : start + AT_ONCE * count]
            own = part[index::count]
            self._in_all(partial(self._ask_own, teacher, own))
            self._exchange({key: self._gaps[key] for key, _ in own})
            yield start + len(part)

    def _missing_in_any(self, pairs: Sequence[Pair]) -> list[tuple[str, Pair]]:
        """By key, the pairs that a process does not know: the same in all, whatever other runs have added meanwhile."""
        missing = set(self._processes.gather(list({self._key(pair) for pair in self.missing(pairs)})))
        of_key = {self._key(pair): pair for pair in pairs if pair.twin is not None}
        return [(key, pair) for key, pair in of_key.items() if key in missing]

    def _ask_own(self, teacher: Scorer, own: Sequence[tuple[str, Pair]]) -> None:
        """Asks about those of this process's pairs that no other run has asked about meanwhile."""
        self._read()
        new = [(key, pair) for key, pair in own if key not in self._gaps]
        answers = teacher.score_examples([_example(pair) for _, pair in new], self.budget)
        found: dict[str, float | None] = {}
        try:
            for key, _ in new:
                scores = next(answers)
                gap = float(scores.score_IC[0, 0] - scores.score_IC[0, 1])
                found[key] = gap if math.isfinite(gap) else None
                self.spent += scores.evidence.evaluations if scores.evidence is not None else 0
        finally:
            self._keep(found)

    def _exchange(self, answers: Mapping[str, float | None]) -> None:
        """Takes the answers of all, an earlier process's first; the main one's file gets those that it lacks."""
        if self._processes.count == 1:
            return
        together: dict[str, float | None] = {}
        for found in reversed(self._processes.gather([dict(answers)])):
            together |= found
        self._in_all(partial(self._keep, together) if self._processes.is_main else _nothing)
        self._gaps |= together

    def _in_all(self, work: Callable[[], None]) -> None:
        """Does this process's work. Raises `UserError` in all processes if it does in one, lest the others wait."""
        fault: UserError | None = None
        try:
            work()
        except UserError as error:
            fault = error
        faults = self._processes.gather([str(fault or "")])
        if fault is not None:
            raise fault
        for said in filter(None, faults):
            raise UserError(said)

    def probabilities(
        self, pairs: Sequence[Pair], sharpness: float, *, permuted: int | None = None, unordered: bool = False
    ) -> dict[tuple[str, str, str], float]:
        """p of each pair with a twin, by `pair_key`. permuted: a seed to shuffle the gaps across pairs; most of them
        still favour the true caption. unordered: also give each gap a random sign.

        The median is taken over the swaps among these pairs, so pass the whole pool at once. Other images' captions are
        easier to reject: their gaps are scaled by the same median, and shuffled among themselves.
        """
        known = {pair_key(pair): pair for pair in pairs if pair.twin and self._has(pair)}
        gap_P = np.array([self._gaps[self._key(pair)] for pair in known.values()], dtype=float)
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

    def reversed_until(self, share: float, pairs: Sequence[Pair], seed: int) -> Preferences:
        """These preferences with as many answers reversed as make the teacher right about this share of the swaps.

        Only answers that are right are reversed, or only wrong ones if it is right less often; which ones is drawn at
        random from `seed`, whatever their gap. The cached answers stay.
        """
        swaps = {self._key(pair): pair for pair in pairs if pair.twin and not pair.stand_in and self._has(pair)}
        right = {key for key, pair in swaps.items() if self.right([pair])[0]}
        excess = len(right) - round(share * len(swaps))
        among = sorted(key for key in swaps if (key in right) == (excess > 0))
        chosen = np.random.default_rng((seed, REVERSED)).choice(len(among), size=abs(excess), replace=False)
        found = copy.copy(self)
        found._gaps = self._gaps | {among[k]: -gap for k in chosen if (gap := self._gaps[among[k]]) is not None}
        return found

    def right(self, pairs: Sequence[Pair]) -> tuple[int, int]:
        """Number of swaps where the teacher prefers the true caption, and number of swaps with a known preference.

        This measures the teacher on the pool; training never uses it.
        """
        swaps = [pair for pair in pairs if pair.twin and not pair.stand_in]
        gaps = [(self._gaps.get(self._key(pair)), pair.mislabelled) for pair in swaps]
        known = [-gap if mislabelled else gap for gap, mislabelled in gaps if gap is not None]
        return sum(gap > 0 for gap in known), len(known)

    def _has(self, pair: Pair) -> bool:
        return self._gaps.get(self._key(pair)) is not None

    def _key(self, pair: Pair) -> str:
        """Hash of a pair's pixels, caption and twin. Opens each image once per run."""
        own = pair_key(pair)
        if own not in self._keys:
            image = pair.picture.open()
            digest = hashlib.sha256(json.dumps([image.size, pair.caption, pair.twin]).encode())
            digest.update(image.tobytes())
            self._keys[own] = digest.hexdigest()[:32]
        return self._keys[own]

    def _read(self) -> None:
        """Reads new lines of the file, from any process; the first answer for a pair counts."""
        try:
            lines = files.whole_lines(self.path)
        except OSError as error:
            raise UserError(UNREADABLE.format(number=1, name=self.path, why=error.strerror)) from error
        if len(lines) < self._lines_met:  # the file was deleted meanwhile
            self._lines_met = 0
        for number, line in enumerate(lines[self._lines_met :], start=self._lines_met + 1):
            try:
                answer: Answer = shaped(files.from_json(line, allow_nan=True), Answer)
            except ValueError as error:
                raise UserError(UNREADABLE.format(number=number, name=self.path, why=error)) from error
            gap = answer["gap"]
            self._gaps.setdefault(answer["pair"], gap if gap is not None and math.isfinite(gap) else None)
        self._lines_met = len(lines)

    def _keep(self, found: Mapping[str, float | None]) -> None:
        """Appends answers to the file, except those that another process added first."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.hold(self.path.with_suffix(".lock"), wait=LOCK_SECONDS):
                files.cut_unfinished_line(self.path)
                self._read()
                new = {key: gap for key, gap in found.items() if key not in self._gaps}
                files.append(self.path, [files.to_json({"pair": key, "gap": gap}) for key, gap in new.items()])
        except (OSError, files.BusyError) as error:
            why = error.strerror if isinstance(error, OSError) else "another process is writing them"
            raise UserError(NO_ROOM.format(why=why)) from error
        self._read()


def pair_key(pair: Pair) -> tuple[str, str, str]:
    """Identifies a pair within a run, without opening its image."""
    return pair.picture.key or pair.picture.name, pair.caption, pair.twin or ""


def _example(pair: Pair) -> Example:
    return Example(id="", images=(pair.picture,), captions=(pair.caption, pair.twin or ""), tags={})
