"""Turns argparse's errors into sentences that say what to do. Knows no verb."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from sdsdemo.errors import UserError

NUMBER = re.compile(r"argument (?P<flag>[^:]+): invalid (?P<kind>int|float) value: '(?P<said>.*)'")
CHOICE = re.compile(r"argument (?P<what>[^:]+): invalid choice: '(?P<said>.*?)' \(choose from (?P<known>.*)\)")
MISSING = re.compile(r"the following arguments are required: (?P<names>.*)")
NO_VALUE = re.compile(r"argument (?P<flag>[^:]+): expected (?:one|at least one) argument")
UNKNOWN = re.compile(r"unrecognized arguments: (?P<said>\S+)")
KINDS = {"int": "a whole number, such as 400", "float": "a number, such as 0.5"}


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises errors as `UserError` sentences and prints nothing."""

    _words: Sequence[str] = ()
    """What is being parsed."""

    def error(self, message: str) -> NoReturn:
        raise UserError(self.in_words(message))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, but each verb reports its own unknown arguments, as it knows its options."""
        self._words = list(args or ())
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and self._subparsers is None:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def in_words(self, message: str) -> str:
        """An argparse message in plain words."""
        help_ = f"`{self.prog} --help` shows the options."
        if found := NUMBER.fullmatch(message):
            return f"{_flag(found['flag'])} takes {KINDS[found['kind']]}; it was '{found['said']}'."
        if found := CHOICE.fullmatch(message):
            known = re.findall(r"[\w-]+", found["known"])
            return f"There is no {found['what'].lower()} '{found['said']}'{_guess(found['said'], known)}. {help_}"
        if found := MISSING.fullmatch(message):
            return f"Still missing: {found['names']}. {help_}"
        if found := NO_VALUE.fullmatch(message):
            return f"{_flag(found['flag'])} needs a value after it. {help_}"
        if found := UNKNOWN.match(message):
            said = found["said"].partition("=")[0]
            if said.startswith("-"):
                return f"There is no option {said} here{_guess(said, sorted(set(_options(self))))}. {help_}"
            option = self._option_before(said)
            if row := self._row():
                again = f", and write {option} before every value of it" if option else ""
                return f"'{said}' stands apart: put every {row} in one row, before the options{again}. {help_}"
            again = f"{option} takes one value, so write it before each. " if option else ""
            return f"'{said}' is one word too many: {again or 'put what belongs together in quotes. '}{help_}"
        return f"{message[:1].upper()}{message[1:]}. {help_}"

    def _option_before(self, said: str) -> str:
        """The option that may be repeated, where a word follows its value, as in `--model A B`; else empty."""
        words = self._words[: self._words.index(said)] if said in self._words else []
        given = next((word.partition("=")[0] for word in reversed(words) if word.startswith("-")), "")
        option = self._option_string_actions.get(given)
        return given if isinstance(option, argparse._AppendAction) else ""

    def _row(self) -> str:
        """The name of the argument that takes a row of words, which argparse reads only where they stand together."""
        rows = [str(action.metavar) for action in self._actions if action.nargs == "+" and not action.option_strings]
        return rows[0] if rows else ""


def _flag(name: str) -> str:
    """The long form of a flag such as `-h/--help`."""
    return max(name.split("/"), key=len)


def _guess(said: str, known: list[str]) -> str:
    """A guess at what was meant: by initials, or by similar spelling."""
    short = [word for word in known if "-" in word.strip("-") and _initials(word) == said.lstrip("-")]
    close = short or get_close_matches(said, known, n=1, cutoff=0.7)
    return f" (did you mean {close[0]}?)" if close else ""


def _initials(word: str) -> str:
    return "".join(part[:1] for part in word.strip("-").split("-"))


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every option of a parser and its subparsers."""
    for action in parser._actions:
        yield from action.option_strings
        children: Any = action.choices if isinstance(action, argparse._SubParsersAction) else {}
        for child in children.values():
            yield from _options(child)
