"""Scores a whole benchmark: resumable, shared by several processes, every score kept. Knows no file format and no page.

`summary` interprets the scores; `tables` formats them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from sdsdemo.data.benchmarks import absolute, differs, notes_on, read_benchmark
from sdsdemo.data.files.picture_digest import made_of
from sdsdemo.data.opening import Opening, left_out, refuse_most
from sdsdemo.errors import UserError
from sdsdemo.evaluation.blind import blinded, has_unrelated, unrelated
from sdsdemo.evaluation.model_fit import check_fit
from sdsdemo.evaluation.progress import REPORTED_EVERY, Digests, Progress, row_name, scoring_line, silent
from sdsdemo.evaluation.result_schema import Result
from sdsdemo.evaluation.sampling import scattered, stratified
from sdsdemo.evaluation.store import BLIND, TEXT_ONLY, Row, RunFolder, row_of, scores_of, settings_of
from sdsdemo.evaluation.summary import Scored, summarise
from sdsdemo.evaluation.tables import warnings
from sdsdemo.evaluation.text_only import captions_alone, has_embedding, has_task
from sdsdemo.evaluation.time_needed import MEASURING, time_needed
from sdsdemo.models import cards
from sdsdemo.models.images import SAID_BELOW
from sdsdemo.models.memory import memory_in_words
from sdsdemo.models.remarks import remarks
from sdsdemo.runtime import distributed
from sdsdemo.runtime.distributed import Processes
from sdsdemo.types import Budget, CaptionComparer, Card, Example, Scorer, Scores


class Models(Protocol):
    """The source of scorers: the workbench."""

    def scorer(self, name_or_spec: str) -> Scorer: ...


def evaluate(
    benchmark: str,
    models: Sequence[str],
    *,
    workbench: Models,
    budget: Budget,
    limit: int | None = None,
    out: Path | None = None,
    blind: bool = False,
    progress: Progress = silent,
    remark: Progress = silent,
) -> Result:
    """The dict of `evaluate --json`: each model's share of right examples, and comparisons of every two models.

    Examples whose pictures cannot be opened are excluded: `skipped` names each with the reason; the next run retries.

    limit: score only so many examples, an even share of each tag.
    out: a folder that stores each score immediately; a stopped run resumes from it.
    blind: the blind row for every model, which takes 32 times as long; similarity models always have it.
    progress, remark: called with a progress line, and with a line to keep on display.

    Under `torchrun` or `accelerate launch` the processes share the examples, and each returns the whole result.
    Raises `UserError` for an unreadable benchmark, a model that cannot run here or on it, and another run's folder.
    """
    processes = distributed.find()
    every = read_benchmark(benchmark)
    examples = _chosen(every, limit)
    for note in notes_on(benchmark, every):
        remark(note)
    run = None if out is None else _open_run(out, benchmark, examples, budget, processes, len(every), progress)
    work = _Work(workbench, budget, run, processes, progress, remark, len(examples))
    broken, usable, scored = work.score_all(models, examples, blind)
    summary = summarise(usable, scored)
    result: Result = {
        "benchmark": benchmark,
        "n": len(usable),
        "of": len(every),
        "asked": len(examples),
        "differs": differs(benchmark, [example.tags for example in every]),
        "skipped": [{"example": example, "reason": reason} for example, reason in broken.items()],
        "settings": settings_of(budget),
        "processes": processes.count,
        "chance": summary["chance"],
        "models": summary["models"],
        "paired": summary["paired"],
    }
    result["warnings"] = warnings(result)
    for line in result["warnings"]:
        remark(line)
    return result


def _chosen(every: Sequence[Example], limit: int | None) -> Sequence[Example]:
    """The examples to score. Raises `UserError` for none."""
    examples = every if limit is None else stratified(every, limit)
    if not examples:
        raise UserError("There is nothing to score: set --limit to at least 1.")
    return examples


def _open_run(
    out: Path,
    benchmark: str,
    examples: Sequence[Example],
    budget: Budget,
    processes: Processes,
    of: int,
    progress: Progress,
) -> RunFolder:
    """The folder, with the examples' current digests, from the main process."""
    own = Digests(progress).of(examples) if processes.is_main else {}
    return RunFolder(out, absolute(benchmark), examples, budget, processes, of=of, made_of=processes.gather([own])[0])


class _Work:
    """State shared by the models of one run."""

    def __init__(
        self,
        workbench: Models,
        budget: Budget,
        run: RunFolder | None,
        processes: Processes,
        progress: Progress,
        remark: Progress,
        total: int,
    ) -> None:
        """total: number of examples."""
        self.workbench, self.budget, self.run, self.processes = workbench, budget, run, processes
        self.progress, self.remark, self.total = progress, remark, total
        self.opening = Opening(total)
        self.unread: dict[str, dict[str, tuple[str, ...]]] = {}
        """By model that was checked before the first one scored: what `check_fit` found."""
        self.from_others: list[Row] = []
        """Rows computed by all processes, in the store's format."""
        self.shares = [0] * processes.count
        """Number of rows computed by each process."""

    def score_all(
        self, models: Sequence[str], examples: Sequence[Example], blind: bool
    ) -> tuple[dict[str, str], list[Example], dict[str, Scored]]:
        """Skipped examples with reasons, the usable ones, and their scores by model."""
        self.check_kept(models)
        self.check_unscored(models, examples)
        found: dict[str, dict[str, Scores]] = {}
        broken: dict[str, str] = {}
        for name in models:
            found[name] = self.scores(name, examples)
            broken = self.broken(examples)
            self.record(broken, examples)
        usable = [example for example in examples if example.id not in broken]
        if broken:
            self.remark(left_out(broken, len(examples)))
        scored = {name: self.with_further(name, usable, [found[name][e.id] for e in usable], blind) for name in models}
        self.finish()
        return broken, usable, scored

    def check_kept(self, models: Sequence[str]) -> None:
        """Raises `UserError` if the folder holds scores of a different model with the same name."""
        if self.run is None:
            return
        for line in self.run.notes:
            self.remark(line)
        for name in models:
            if self.run.lists(name):
                self._enter(name)

    def check_unscored(self, models: Sequence[str], examples: Sequence[Example]) -> None:
        """Raises `UserError` if the benchmark does not suit a model with examples to score, before another scores it.

        With one model, that is checked when it scores.
        """
        for name in models if len(models) > 1 else ():
            own = examples[self.processes.index :: self.processes.count]
            if todo := [example for example in own if self._stored(name, example, "") is None]:
                self.unread[name] = check_fit(self.workbench.scorer(name), todo, self.budget.region)

    def record(self, broken: Mapping[str, str], examples: Sequence[Example]) -> None:
        """Record in the folder what was left out, so that a model that is done can be reported."""
        if self.run is not None:
            self.run.skip(broken, [example.id for example in examples if example.id not in broken])

    def with_further(self, name: str, examples: Sequence[Example], scores_E: list[Scores], blind: bool) -> Scored:
        """All scores of one model: blind ones too if requested or free, and text-only ones if the set needs them
        and the model embeds captions."""
        one_image = all(len(example.images) == 1 for example in examples)
        is_free = scores_E[0].kind == "similarity" and has_unrelated(examples)
        with_blind = one_image and (blind or is_free)
        alone = has_task([example.tags for example in examples]) and has_embedding(scores_E[0])
        return Scored(
            scores_E=scores_E,
            blind_E=self._further(name, unrelated(examples), BLIND) if with_blind else None,
            text_E=self._further(name, captions_alone(examples), TEXT_ONLY) if alone else None,
        )

    def _further(self, name: str, examples: Sequence[Example], what: str) -> list[Scores]:
        """In the order of the examples."""
        found = self.scores(name, examples, what)
        return [found[example.id] for example in examples]

    def broken(self, examples: Sequence[Example]) -> dict[str, str]:
        """Example id -> why its pictures cannot be opened, in order, from all processes, each of which met only its
        own. Raises `UserError`, in all of them, if most cannot."""
        why = dict(pair for pair in self.processes.gather(list(self.opening.broken.items())))
        broken = {example.id: why[example.id] for example in examples if example.id in why}
        refuse_most(broken, len(examples))
        return broken

    def finish(self) -> None:
        """Sort the folder's scores."""
        if self.run is not None:
            self.run.finish(self.from_others, self.shares if self.processes.count > 1 else ())
            self.remark(f"Every score is kept in {self.run.path}: python -m sdsdemo report {self.run.path}")

    def scores(self, name: str, examples: Sequence[Example], what: str = "") -> dict[str, Scores]:
        """Scores by example id: from the run's folder if stored, else computed by all processes and added to it.

        Examples that cannot be opened are left out.
        """
        kept = self._kept(name, examples, what)
        if kept:
            self.remark(f"{row_name(name, what)}  {len(kept)} of {len(examples)} already scored")
        todo = [example for example in examples if example.id not in kept]
        return kept | (self._together(name, todo, what) if todo else {})

    def _kept(self, name: str, examples: Sequence[Example], what: str) -> dict[str, Scores]:
        """Stored scores, as known to the main process, of examples that still exist."""
        if self.run is None:
            return {}
        run = self.run
        known = [example.id for example in examples if self._stored(name, example, what) is not None]
        known = self.processes.gather([known])[0]
        if any(run.scores(name, id_, what) is None for id_ in known):
            run.refresh()
        gone = {e.id for e in examples if run.is_gone(e.id) and not self.opening.can_open(e)}
        found = {id_: run.scores(name, id_, what) for id_ in known if id_ not in gone}
        return {id_: scores for id_, scores in found.items() if scores is not None}

    def _together(self, name: str, todo: Sequence[Example], what: str) -> dict[str, Scores]:
        own = todo[self.processes.index :: self.processes.count]
        computed = self._fresh(name, own, what) if own else {}
        if self.processes.count == 1:
            return computed
        rows = [row_of(name, example, scores, what) for example, scores in computed.items()]
        gathered = self.processes.gather(rows)
        for process, count in enumerate(self.processes.gather([len(rows)])):
            self.shares[process] += count
        self.from_others += gathered
        return {row["example"]: scores_of(row) for row in gathered}

    def _fresh(self, name: str, examples: Sequence[Example], what: str) -> dict[str, Scores]:
        """Scores computed here, or taken from another run that has just added them."""
        scorer = self.workbench.scorer(name)
        unread = None if what else self.unread.get(name)
        if unread is None:
            unread = check_fit(scorer, examples, self.budget.region)
        for sentence in remarks(scorer.card, self.budget) if not what else ():
            self.remark(sentence)
        if cards.is_slow(scorer.card) and not what:
            self.progress(MEASURING.format(model=name))
            self.remark(time_needed(scorer, examples, self.budget))
        if self.run:
            self._enter(name)
        found: dict[str, Scores] = {}
        asked: deque[Example] = deque()
        order = examples if self.run is None or self.run.is_new else scattered(examples)
        began = said = time.perf_counter()
        with memory_in_words(scorer.card.title):
            for scores in self._answers(scorer, self._asked(name, order, what, found, asked), what):
                example = asked.popleft()
                scores = blinded(scores) if what == BLIND else replace(scores, unread=unread.get(example.id, ()))
                found[example.id] = self._keep(name, example, scores, what)
                now, done = time.perf_counter(), len(found)
                if now - said > REPORTED_EVERY or done == len(examples):
                    said = now
                    self.progress(scoring_line(row_name(name, what), done, len(examples), done / (now - began)))
        if not what:
            self._say_unseen(name, scorer)
        return found

    def _answers(self, scorer: Scorer, examples: Iterator[Example], what: str) -> Iterator[Scores]:
        if what != TEXT_ONLY:
            return scorer.score_examples(examples, self.budget)
        assert isinstance(scorer, CaptionComparer), "a model of similarities embeds captions"
        return scorer.compare_captions(examples)

    def _say_unseen(self, name: str, scorer: Scorer) -> None:
        """Reports how many of the pictures opened here this model sees too little of."""
        shares = [scorer.share_seen(size, self.budget.region) for size in self.opening.sizes.values()]
        little = [share for share in shares if share < SAID_BELOW]
        if little:
            self.remark(
                f"{name}  sees less than {SAID_BELOW:.0%} of {len(little)} of {len(shares)} pictures, of one only "
                f"{min(little):.0%}: --region squash or pad shows them in full"
            )
        if self.opening.animated:
            self.remark(f"{self.opening.animated} pictures are animations: only the first frame of each is read.")
            self.opening.animated = 0

    def _asked(
        self, name: str, examples: Sequence[Example], what: str, found: dict[str, Scores], asked: deque[Example]
    ) -> Iterator[Example]:
        """The examples as the scorer takes them, recorded in `asked`; those stored meanwhile go to `found`."""
        for example in self.opening.usable(examples):
            kept = self._stored(name, example, what)
            if kept is not None:
                found[example.id] = kept
            else:
                asked.append(example)
                yield example

    def _stored(self, name: str, example: Example, what: str) -> Scores | None:
        """The stored scores of an example in its current state."""
        return None if self.run is None else self.run.scores(name, example.id, what, made_of=_digest_of(example, what))

    def _keep(self, name: str, example: Example, scores: Scores, what: str) -> Scores:
        """Stores scores; returns those that count."""
        if self.run is None:
            return scores
        return self.run.add(name, example.id, scores, what, made_of=_digest_of(example, what))

    def _enter(self, name: str) -> None:
        """Register the model in the folder. Raises `UserError` if the folder holds scores of another model of this
        name, and for a model that can no longer be read."""
        assert self.run is not None
        card = self._card(name)
        try:
            note = self.run.enter(
                name, cards.fingerprint(card), cards.fingerprint_parts(card), lambda: cards.weights_fingerprint(card)
            )
        except UserError as error:
            raise UserError(cards.why_unreadable(card) or str(error)) from error
        if note:
            self.remark(note)

    def _card(self, name: str) -> Card:
        """Without loading the model, unless the caller supplied it."""
        try:
            return cards.resolve(name)
        except UserError:
            return self.workbench.scorer(name).card


def _digest_of(example: Example, what: str) -> str | None:
    """What a row depends on that is not scored on the example's own pictures: other pictures, or none."""
    return made_of(example) if what else None
