"""The page's URL: which fields of each tab it holds, how they are written, and how they are read. Knows no Gradio.

A URL such as `?tab=browse&outcome=fixed&example=14` opens the same view for someone else. Fields with their usual value
are left out, and so is everything about an uploaded picture. Whoever reads a URL takes it for hostile: every value is
checked, and a sentence tells the visitor what was left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from sdsdemo.app.sharing import WHY_GONE, is_shared
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.settings import LIMITS

TABS: Mapping[str, Sequence[str]] = {
    "compare": (
        "example", "run", "picture", "true", "rival", "scene", "a", "b", "models", "timesteps", "noises", "adaptive",
        "seed", "region", "timestep_range",
    ),
    "browse": (
        "run", "model", "against", "metric", "tag", "secondary", "category", "mode", "match", "outcome", "decided",
        "words", "sort", "margins", "gallery", "example",
    ),
    "finetune": ("run", "preset", *(name for name in Recipe.__dataclass_fields__ if name != "data")),
    "results": ("result",),
    "about": (),
}  # fmt: skip
"""By tab, the fields of its URL in their order; the first tab needs no `tab=`.

`page`, `view` and `deep_link` are Gradio's own. A link never names a folder to train on.
"""
FIRST = next(iter(TABS))
PLAIN = "=:,/"
"""Characters that are left as they are, so that a URL stays readable."""
LONGEST, MOST_FIELDS = 8_000, 100
LONGEST_VALUE = LIMITS.caption_characters
LONGEST_OF: Mapping[str, int] = {"models": LIMITS.models * LONGEST_VALUE}
"""Fields that hold several values in one, which may be longer."""
LONGEST_QUOTE, LONGEST_NUMBER = 40, 20
NO_SUCH = "there is none of this name here"


def write(tab: str, values: Mapping[str, Any], usual: Mapping[str, Any] | None = None) -> str:
    """The fields of one tab as a query, in the order of `TABS`. Leaves out what is empty, too long, or as usual."""
    parts: list[tuple[str, str]] = []
    for name in TABS[tab]:
        value = values.get(name)
        if value == (usual or {}).get(name):
            continue
        texts = [str(one) for one in value] if isinstance(value, list | tuple) else [_text(value)]
        parts += [(name, text) for text in texts if 0 < len(text) <= LONGEST_OF.get(name, LONGEST_VALUE)]
    return urlencode(parts, safe=PLAIN)


def link(tab: str, query: str, space: str = "") -> str:
    """A query as a URL that opens the tab, preceded by the Space's URL in a Space."""
    named = "&".join(filter(None, ("" if tab == FIRST else f"tab={tab}", query)))
    return (f"https://huggingface.co/spaces/{space}" if space else "") + f"?{named}"


class Query:
    """What a URL says about one tab. Values that cannot be used are left out, each with a sentence in `left_out`."""

    def __init__(self, tab: str, query: str | Mapping[str, str]) -> None:
        """query: as in a URL, or already split."""
        self.left_out: list[str] = []
        self._given: dict[str, list[str]] = {}
        for name, value in self._pairs(query if isinstance(query, str) else urlencode(query)):
            if name in TABS[tab] and value:
                self._given.setdefault(name, []).append(value)

    def __bool__(self) -> bool:
        """Whether the URL asks for anything in this tab."""
        return bool(self._given or self.left_out)

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def text(self, name: str, most: int = LONGEST_VALUE) -> str:
        """A field as text; empty if it is not there or longer than `most`."""
        value = self._given.get(name, [""])[-1]
        if len(value) <= most:
            return value
        self.leave_out(name, f"it may have up to {most} characters")
        return ""

    def choice(self, name: str, choices: Collection[str], usual: str, why: str = NO_SUCH) -> str:
        """A field that must be one of the choices; `usual` if it is not there, or is something else."""
        value = self.text(name)
        if not value or value in choices:
            return value or usual
        self.leave_out(name, why)
        return usual

    def choices(self, name: str, choices: Collection[str], why: str = NO_SUCH) -> list[str]:
        """The values of a field that may be there several times, each once and each one of the choices."""
        found = list(dict.fromkeys(self._given.get(name, [])))
        for value in found:
            if value not in choices:
                self.say(name, value, why)
        return [value for value in found if value in choices]

    def whole(self, name: str, low: int, high: int, usual: int) -> int:
        """A field that must be a whole number from low to high; `usual` if it is not there, or is something else."""
        value = self.text(name)
        if not value:
            return usual
        if value.isascii() and value.isdecimal() and len(value) <= LONGEST_NUMBER and low <= int(value) <= high:
            return int(value)
        self.leave_out(name, f"it must be a whole number from {low} to {high}")
        return usual

    @property
    def shared(self) -> list[str]:
        """Names of shared models that the URL uses."""
        texts = (text for values in self._given.values() for value in values for text in value.split(","))
        return list(dict.fromkeys(filter(is_shared, map(str.strip, texts))))

    def leave_out(self, name: str, why: str) -> None:
        """Drops a field, and says why."""
        for value in self._given.pop(name, [])[-1:]:
            self.say(name, value, why)

    def say(self, name: str, value: str, why: str) -> None:
        """Notes that one value of a field is left out."""
        why = WHY_GONE if is_shared(value) else why
        self.left_out.append(f"“{name}={short(value)}” is left out: {why.removesuffix('.')}.")

    def _pairs(self, query: str) -> list[tuple[str, str]]:
        if len(query) <= LONGEST:
            try:
                found = parse_qsl(query.removeprefix("?"), max_num_fields=MOST_FIELDS, errors="replace")
                return [(name, _printable(value)) for name, value in found]
            except ValueError:  # more fields than that
                pass
        self.left_out.append("The link is too long, and nothing in it is used.")
        return []


def short(value: str) -> str:
    """The beginning of a value, to be quoted in a sentence."""
    return value if len(value) <= LONGEST_QUOTE else f"{value[:LONGEST_QUOTE]}…"


def _text(value: object) -> str:
    """A value in a URL: numbers without a needless end, switches as on and off."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _printable(value: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in value)
