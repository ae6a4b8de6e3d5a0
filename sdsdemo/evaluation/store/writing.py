"""A run's folder, open for more scores from several processes that may be killed at any time. Computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sdsdemo.data.files.quoting import listed
from sdsdemo.errors import UserError
from sdsdemo.evaluation.store.examples import (
    EXAMPLES,
    StoredExample,
    completed,
    differs,
    example_line,
    fits,
    read_examples,
    retagged,
    stored_of,
)
from sdsdemo.evaluation.store.header import HEADER, Header, check_agreement, check_ids, header_of, read_header, refuse
from sdsdemo.evaluation.store.row_format import Row, key_of, line_of, parsed, row_of, strict
from sdsdemo.evaluation.store.score_rows import PARTS, SCORES, Rows
from sdsdemo.runtime.distributed import ALONE, Processes
from sdsdemo.runtime.files import (
    BusyError,
    State,
    append,
    forget_unfinished,
    hold,
    settled_state_of,
    whole_lines,
    write_json,
    write_whole,
)
from sdsdemo.types import Budget, Example, Scores

LOCK = "run.lock"
PATIENCE = 120.0
"""Seconds to wait for another process to write its line."""
OLDER_MODEL = (
    "{model}: an older version kept only a digest of its weights; the stored scores are assumed to be from "
    "the current model."
)
OLDER_BENCHMARK = (
    "The folder is from an older version, which kept no digest of captions and pictures: its scores are assumed to be "
    "from the current benchmark."
)
GROWN = (
    "The folder held {before:,} examples and has {now:,} now: scores of the first ones are kept. A model is reported "
    "again once it has scored all."
)


class RunFolder:
    """The stored scores of one benchmark at one setting, of any number of models, open for more."""

    def __init__(
        self,
        path: Path,
        benchmark: str,
        examples: Sequence[Example],
        budget: Budget,
        processes: Processes = ALONE,
        *,
        of: int | None = None,
        made_of: Mapping[str, str] | None = None,
    ) -> None:
        """Opens or creates the folder. Raises `UserError` if it holds another run, or cannot be written.

        of: number of examples in the benchmark, if these are a sample. made_of: example id -> digest of its captions
        and pictures, from `picture_digest`; rows with another digest do not count.
        """
        self.path, self._processes = path, processes
        self._examples = [stored_of(example, (made_of or {}).get(example.id, "")) for example in examples]
        self._order = {example.id: number for number, example in enumerate(examples)}
        self._gone = {example.id for example in self._examples if example.made_of.endswith("-")}
        self.notes: list[str] = []
        """Changes since the folder was written, in sentences."""
        header, is_new = header_of(benchmark, examples, budget, of or len(examples)), False
        if processes.is_main:
            with self._writing():
                is_new = not (path / HEADER).is_file()
                self._open(header)
        self.is_new = processes.gather([is_new])[0]
        """Whether the run begins here: otherwise another job may be scoring it now."""
        self._header_state: State | None = None
        with self._writing():
            self._read_header()
            known = {example.id: example for example in self._examples}
            self._rows = Rows(path, known, self._header["models"])
            self._catch_up()
        processes.wait()  # no process writes before all have read

    def scores(self, model: str, example: str, what: str = "", *, made_of: str | None = None) -> Scores | None:
        """The stored scores, or None if not scored yet. made_of: for a blind row, the digest of its pictures."""
        key = model, example, what
        if made_of is not None and not fits(self._rows.made_of.get(key, ""), made_of):
            return None
        return self._rows.scores.get(key)

    def refresh(self) -> None:
        """Read what other processes have added since."""
        with self._writing():
            self._catch_up()

    def lists(self, model: str) -> bool:
        """Whether a model of this name has been entered."""
        return model in self._header["models"]

    def is_gone(self, example: str) -> bool:
        """Whether pictures of an example are missing now, so that its scores cannot be checked."""
        return example in self._gone

    def enter(
        self,
        model: str,
        fingerprint: str,
        facts: Mapping[str, str] | None = None,
        before: Callable[[], str] = lambda: "",
    ) -> str:
        """Enter a model before adding its scores. Raises `UserError` if the stored scores are from another one.

        facts: the parts of the fingerprint, stored to say later what differs. before: returns the fingerprint that
        older versions gave this model. Returns a note if that is the stored one, else "".
        """
        with self._writing():
            self._catch_up()
            stored = self._header["models"].get(model, fingerprint)
            if stored != fingerprint and stored != before():
                raise UserError(self._other_model(model, facts or {}))
            if stored != fingerprint or not self.lists(model) or self._facts().get(model, {}) != (facts or {}):
                self._header["models"][model] = fingerprint
                self._header["model_facts"] = {**self._facts(), model: dict(facts or {})}
                self._write_header()
        return "" if stored == fingerprint else OLDER_MODEL.format(model=model)

    def add(self, model: str, example: str, scores: Scores, what: str = "", *, made_of: str | None = None) -> Scores:
        """Append one line, synced to disk; if another process has added it already, its scores stand.

        Returns the stored scores. Raises `UserError` if they cannot be written.
        """
        own = self._rows.examples[example].made_of if made_of is None else made_of
        with self._writing():
            self._catch_up()
            kept = self.scores(model, example, what, made_of=made_of)
            if kept is not None:
                return kept
            self._append(row_of(model, example, scores, what, own))
            self._rows.scores[model, example, what] = scores
            self._rows.made_of[model, example, what] = own
        return scores

    def skip(self, reasons: Mapping[str, str], scored: Iterable[str]) -> None:
        """Record which examples were skipped, and why; examples that have been scored are removed from the list."""
        if not self._processes.is_main:
            return
        with self._writing():
            self._read_header()
            before, done = self._header.get("skipped", {}), set(scored)
            now = {id_: why for id_, why in before.items() if id_ not in done} | dict(reasons)
            if now != before:
                self._header["skipped"] = now
                self._write_header()

    def finish(self, rows: Iterable[Row] = (), shares: Sequence[int] = ()) -> None:
        """Sort the scores by model and example. Rows that others have added meanwhile stay.

        rows: from the other processes, which may have written to another machine's disk. shares: number of rows that
        each process computed, for the header.
        """
        if not self._processes.is_main:
            return
        with self._writing():
            self._catch_up()
            for row in rows:
                if key_of(row) not in self._rows.scores:
                    self._append(row)
            self._sort()
            if shares:
                self._header["shares"] = list(shares)
                self._write_header()

    # ------------------------------------------------------------------------------------------ with the lock held

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Holds the folder's lock. Raises `UserError` if it stays taken, or the disk is full."""
        try:
            with hold(self.path / LOCK, wait=PATIENCE):
                yield
        except BusyError as error:
            raise UserError(
                f"Another process has been writing to the folder '{self.path}' for "
                f"{PATIENCE:.0f} s: wait for it, or name another folder with --out."
            ) from error
        except OSError as error:
            if (self.path / HEADER).is_file():
                raise UserError(
                    f"'{self.path}' cannot take more scores ({error.strerror}): free disk space, then run again."
                ) from error
            raise UserError(f"The folder '{self.path}' cannot be written: name another one with --out.") from error

    def _open(self, header: Header) -> None:
        """Create the folder, or update it to the current benchmark."""
        forget_unfinished(self.path)
        if not (self.path / HEADER).is_file():
            _write_lines(self.path / EXAMPLES, map(example_line, self._examples))
            write_json(self.path / HEADER, header)
            return
        stored, old = read_header(self.path), read_examples(self.path)
        check_agreement(stored, header, self.path)
        check_ids([example.id for example in old], list(self._order), stored, header, self.path)
        if stored["benchmark_hash"] != header["benchmark_hash"] and not all(example.made_of for example in old):
            refuse("a different benchmark", stored, self.path)  # an older version, which cannot say what changed
        _join_parts(self.path)
        changed = self._compare(old)
        now: Header = {**stored, "benchmark": header["benchmark"], "benchmark_hash": header["benchmark_hash"]}
        if stored["examples"] < header["examples"]:
            now |= {"examples": header["examples"], "of": header["of"]}
            self.notes.append(GROWN.format(before=stored["examples"], now=header["examples"]))
        if self._examples != list(old) or now != stored:
            self._rewrite_scores(old, changed, stored["models"])
            _write_lines(self.path / EXAMPLES, map(example_line, self._examples))
            write_json(self.path / HEADER, now)

    def _compare(self, stored: Sequence[StoredExample]) -> set[str]:
        """Ids of the examples that have changed since they were scored; also writes `notes`."""
        before = {example.id: example for example in stored}
        here = [now for now in self._examples if now.id in before]
        changed = {now.id for now in here if differs(before[now.id], now)}
        if 2 * len(changed) > len(before):
            raise UserError(
                f"{len(changed)} of the {len(before)} examples have changed since '{self.path}' scored them: "
                "name another folder with --out."
            )
        if changed:
            self.notes.append(
                f"{len(changed)} of {len(before)} examples have changed and are scored again ({named(changed)})"
            )
        if any(not before[now.id].made_of and now.made_of for now in here if now.id not in changed):
            self.notes.append(OLDER_BENCHMARK)
        tags = retagged((example.tags for example in stored), (now.tags for now in self._examples))
        known = {
            now.id: replace(completed(before[now.id], now), tags=tags(before[now.id].tags, now.tags)) for now in here
        }
        self._examples = [known.get(now.id, now) for now in self._examples]
        return changed

    def _rewrite_scores(self, stored: Sequence[StoredExample], changed: set[str], models: Mapping[str, str]) -> None:
        """Drop the rows of changed examples; give the others the digests of the current ones."""
        now = {example.id: example for example in self._examples}
        rows = Rows(self.path, {example.id: example for example in stored}, models)
        rows.take(whole_lines(self.path / SCORES), SCORES)
        kept = []
        for line in map(strict, whole_lines(self.path / SCORES)):
            row = parsed(line)
            if row["example"] in changed or key_of(row) not in rows.scores:
                continue
            made_of = now[row["example"]].made_of
            if not row.get("what") and made_of and row.get("made_of") != made_of:
                line = line_of({**row, "made_of": made_of})
            kept.append(line)
        if kept != whole_lines(self.path / SCORES):
            _write_lines(self.path / SCORES, kept)

    def _catch_up(self) -> None:
        """Read what was added since; drop a line that a killed process left unfinished."""
        self._read_header()
        self._rows.models = self._header["models"]
        if self._header["examples"] > len(self._rows.examples):  # another process has added some
            self._rows.examples = {e.id: e for e in read_examples(self.path)} | dict(self._rows.examples)
        self._rows.follow(self.path / SCORES)

    def _append(self, row: Row) -> None:
        append(self.path / SCORES, [line_of(row)])

    def _sort(self) -> None:
        """Sort the rows and drop duplicates; rows that another process has added for a newer benchmark stay."""
        known = {example.id: example for example in read_examples(self.path)}
        lines = whole_lines(self.path / SCORES)
        rows = Rows(self.path, known, self._header["models"])
        rows.take(lines, SCORES)
        models = {model: number for number, model in enumerate(self._header["models"])}
        places = {id_: number for number, id_ in enumerate(known)}
        order = sorted(rows.lines, key=lambda key: (models[key[0]], key[2], places[key[1]]))
        kept = [strict(lines[rows.lines[key]]) for key in order]
        if kept != lines or not (self.path / SCORES).is_file():
            _write_lines(self.path / SCORES, kept)

    def _read_header(self) -> None:
        """Reads run.json unless it is as it was: it may name thousands of skipped examples."""
        state = settled_state_of(self.path / HEADER)
        if state is None or state != self._header_state:
            self._header, self._header_state = read_header(self.path), state

    def _write_header(self) -> None:
        self._header_state = None  # should this fail, the next one reads what is there
        write_json(self.path / HEADER, self._header)

    def _facts(self) -> dict[str, dict[str, str]]:
        return self._header.get("model_facts", {})

    def _other_model(self, model: str, facts: Mapping[str, str]) -> str:
        kept = self._facts().get(model, {})
        parts = [part for part in dict.fromkeys((*kept, *facts)) if kept.get(part) != facts.get(part)]
        what = f"other {', other '.join(parts)}" if kept and parts else "other weights or another config"
        return f"The folder '{self.path}' holds scores of {model} with {what}: name another folder with --out."


def named(ids: Iterable[str], most: int = 5) -> str:
    """The first of some names, and how many more there are."""
    return listed(sorted(ids), most)


def _join_parts(path: Path) -> None:
    """Merge the separate files of an older version's processes."""
    parts = sorted(path.glob(PARTS))
    if parts:
        _write_lines(path / SCORES, [line for file in (path / SCORES, *parts) for line in whole_lines(file)])
    for part in parts:
        part.unlink()


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_whole(path, "".join(f"{line}\n" for line in lines))
