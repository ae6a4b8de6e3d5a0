"""What a Space fetches while it is built (`preload_from_hub`): the files that loading a card would fetch.

An entry is `REPO FILE,FILE,... COMMIT`, the commit where the card names one. Fetches no weight; lists repositories.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch

from sdsdemo.errors import UserError
from sdsdemo.models import cards, sources
from sdsdemo.types import Card

ENTRY = re.compile(r"[\w.-]+/[\w.-]+(?: [\w./-]+(?:,[\w./-]+)*(?: [0-9a-f]{40})?)?")
"""REPO, perhaps with files, and then perhaps with a commit."""
UNLISTED = "The files of {repo} could not be listed: check the network and your access to it, or push without {card}."


def preload_entries(names: Iterable[str]) -> list[str]:
    """The entries for some cards, each once. Raises `UserError` for a repository that cannot be listed.

    Mini's models, and models on this machine alone, need none.
    """
    found = [_entry(card) for card in map(cards.resolve, names) for card in with_base(card)]
    return list(dict.fromkeys(entry for entry in found if entry))


def with_base(card: Card) -> list[Card]:
    """A card, after that of its base where it has one."""
    return [card] if card.base is None else [cards.resolve(card.base), card]


def _entry(card: Card) -> str:
    if not card.download or card.family == "sds-clip":
        return ""
    repo, revision, wanted = _wanted(card)
    listed = sources.repo_listing(repo, revision)
    files = [name for name in listed if any(fnmatch(name, pattern) for pattern in wanted)]
    if not files:
        raise UserError(UNLISTED.format(repo=repo, card=card.name))
    if card.family == "clip":
        files = [next(name for name in wanted if name in files)]  # open_clip takes the first
    return " ".join(filter(None, (repo, ",".join(files), revision)))


def _wanted(card: Card) -> tuple[str, str | None, Sequence[str]]:
    """Repository, commit, and the names or patterns of the files of a card."""
    name, asked = sources.split_revision(sources.split_spec(card.spec)[1])
    revision = asked or card.revision
    if card.family == "clip":
        from sdsdemo.models.clip_files import hub_file

        found = hub_file(card.spec)
        if found is None:
            raise UserError(f"{card.title} is not fetched from the Hub, so a Space cannot fetch it beforehand.")
        return found[0], None, found[1]
    if card.family == "diffusion":
        from sdsdemo.models.diffusion_files import files_to_fetch

        return name, revision, files_to_fetch(name, revision)
    from sdsdemo.models.transformers_files import patterns_to_fetch

    return (sources.repo_and_folder(name) or (name, ""))[0], revision, patterns_to_fetch(name, revision)
