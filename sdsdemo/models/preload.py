"""What a Space fetches while it is built (`preload_from_hub`): the files that loading a card would fetch.

An entry is `REPO FILE,FILE,... COMMIT`, the commit where the card names one. Fetches no weight; lists repositories,
and reads the config of a CLIP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch

from sdsdemo.errors import UserError
from sdsdemo.models import cards, sources
from sdsdemo.types import Card

ENTRY = re.compile(r"(?:[\w.-]+/[\w.-]+|[\w.-]+(?= ))(?: [\w./-]+(?:,[\w./-]+)*(?: [0-9a-f]{40})?)?")
"""REPO, perhaps with files, and then perhaps with a commit. Old repositories have no owner, as xlm-roberta-base."""
UNLISTED = "The files of {repo} could not be listed: check the network and your access to it, or push without {card}."


def preload_entries(names: Iterable[str]) -> list[str]:
    """The entries for some cards, each once. Raises `UserError` for a repository that cannot be listed.

    Mini's models, and models on this machine alone, need none.
    """
    found = [entry for card in map(cards.resolve, names) for one in with_base(card) for entry in _entries(one)]
    return list(dict.fromkeys(found))


def with_base(card: Card) -> list[Card]:
    """A card, after that of its base where it has one."""
    return [card] if card.base is None else [cards.resolve(card.base), card]


def _entries(card: Card) -> list[str]:
    if not card.download or card.family == "sds-clip":
        return []
    files: dict[tuple[str, str | None], list[str]] = {}
    for repo, revision, best, patterns in _wanted(card):
        listed = sources.repo_listing(repo, revision)
        first = [name for name in best if name in listed][:1]  # open_clip takes the first
        found = first + [name for name in listed if any(fnmatch(name, pattern) for pattern in patterns)]
        if not found:
            raise UserError(UNLISTED.format(repo=repo, card=card.name))
        files.setdefault((repo, revision), []).extend(found)
    return [
        " ".join(filter(None, (repo, ",".join(dict.fromkeys(names)), revision)))
        for (repo, revision), names in files.items()
    ]


def _wanted(card: Card) -> Iterator[tuple[str, str | None, Sequence[str], Sequence[str]]]:
    """Repository, commit, names of which the first is taken, and names or patterns of the other files of a card."""
    name, asked = sources.split_revision(sources.split_spec(card.spec)[1])
    revision = asked or card.revision
    if card.family == "clip":
        from sdsdemo.models.clip_hub import parts_on_hub

        parts = parts_on_hub(card.spec, allow_download=True)
        if not parts:
            raise UserError(f"{card.title} is not fetched from the Hub, so a Space cannot fetch it beforehand.")
        yield from ((part.repo, part.revision, part.names, part.beside) for part in parts)
    elif card.family == "diffusion":
        from sdsdemo.models.diffusion_files import files_to_fetch

        yield name, revision, (), files_to_fetch(name, revision)
    else:
        from sdsdemo.models.transformers_files import patterns_to_fetch

        repo = (sources.repo_and_folder(name) or (name, ""))[0]
        yield repo, revision, (), patterns_to_fetch(name, revision)
