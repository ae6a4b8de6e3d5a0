"""What tokenizers do to captions: cut them, make them equal, lose words, or take some for marks of their own.

Knows no model and no library. Compare, evaluate and fine-tuning ask here, so that all of them say the same.

A tokenizer that was saved under the wrong class loads without a complaint and reads every word as unknown; a model then
gives numbers that mean nothing. `check_tokenizer` tries the tokenizer on words of its own vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from sdsdemo.captions.cleaning import clean_caption, letter
from sdsdemo.errors import UserError
from sdsdemo.models.images import PARTLY_SEEN, SAID_BELOW, clean, share_of, square
from sdsdemo.types import Concern, Region

if TYPE_CHECKING:
    from PIL.Image import Image

LOST = (
    "The tokenizer of {model} reads words of its own vocabulary ({words}) as unknown: its files were saved for another "
    "class of tokenizer. Save them again with the right `tokenizer_class`."
)
TOO_HIGH = (
    "The tokenizer of {model} gives token {token}, but its text encoder knows only {size}: the tokenizer's files are "
    "missing or belong to another model."
)
TRIED = 48
"""Words of the vocabulary that are tried."""
MARKED = (
    "Caption {letter} contains `{mark}`, which the tokenizer of this model reads as a mark of its own, not as words: "
    "remove it, or write it without its brackets."
)
MARK_IN_DATA = (
    "The caption “{caption}” contains `{mark}`, which the tokenizer of {model} reads as a mark of its own: "
    "remove it from the data."
)
REMEMBERED = 20_000
"""Captions whose tokens a model keeps."""
MOST_BYTES = 64_000_000
"""What their tokens may take together: 20,000 captions of 77 tokens, 3,125 of a chat model's 512."""
BYTES_PER_TOKEN = 40
"""A number of Python's, and its place in a tuple."""
BRACKETS = ("<", "[")
"""How the marks of tokenizers begin, such as `<pad>` and `[PAD]`."""
LONGEST_SHOWN = 80
CUT = "This model reads only the first {length} tokens: the end of caption {letter} does not count."
PARTLY = (
    "Some text encoders of this model read only the first {length} tokens of caption {letter}, others all of it: "
    "its end counts less."
)
UNKNOWN = (
    "The tokenizer of this model reads something in caption {letter} as unknown: all such words look the same to it."
)
ALL_DROPPED = (
    "This model's pipeline drops all of caption {letter} before it reads it: write it in plain words, in Latin letters."
)
DROPPED = "The pipeline of this model drops words of caption {letter}, and reads it as “{text}”."


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    """A caption as a model meets it."""

    ids: tuple[int, ...]
    """Padded to the model's length. Captions with equal ids are one caption to the model."""
    cut: bool
    """Whether words at the end were dropped, by every text encoder where there are several."""
    partly: int = 0
    """Tokens after which some text encoders dropped them, where others read the whole caption; 0 where none did."""
    mark: str = ""
    """What it contains that the tokenizer reads as a mark of its own, such as the end of a text; "" for nothing."""
    unknown: bool = False
    """Whether the tokenizer read something as its unknown word."""
    read_as: str | None = None
    """What the pipeline's own cleaning left of it, where words are lost; None where all are there."""


def rows_kept(length: int) -> int:
    """Captions of that many tokens whose rows are kept."""
    return max(1, min(REMEMBERED, MOST_BYTES // (BYTES_PER_TOKEN * length)))


def check_tokenizer(tokenizer: Any, model: str) -> None:
    """Raises `UserError` when a transformers tokenizer loses words that stand in its own vocabulary."""
    words = _plain_words(tokenizer.get_vocab())
    if not words:
        return
    rows = tokenizer(words, add_special_tokens=False)["input_ids"]
    unknown = tokenizer.unk_token_id
    lost = [word for word, ids in zip(words, rows, strict=True) if not ids or unknown in ids]
    if lost or len({tuple(ids) for ids in rows}) < len(words):
        raise UserError(LOST.format(model=model, words=", ".join((lost or words)[:3])))


def probes(tokenizer: Any) -> list[str]:
    """Three captions of words that the tokenizer knows: the second differs in its first word, the third in its last."""
    own = getattr(tokenizer, "tokenizer", tokenizer)
    known = _plain_words(own.get_vocab()) if hasattr(own, "get_vocab") else []
    a, b, c, d = known[:4] if len(known) >= 4 else ("red", "star", "blue", "circle")
    return [f"{a} {b}", f"{c} {b}", f"{a} {d}"]


def check_ids(highest: int, size: int, model: str) -> None:
    """Raises `UserError` when a token is beyond the text encoder's table, as with a tokenizer of another model."""
    if highest >= size:
        raise UserError(TOO_HIGH.format(model=model, token=highest, size=size))


def token_row(tokenizer: Any, caption: str, ids: Sequence[int], *, cut: bool) -> TokenRow:
    """What a tokenizer, of open_clip or of transformers, makes of a cleaned caption.

    ids: what the model meets, with start, end and padding; of the caption alone every id is looked at here.
    """
    own = getattr(tokenizer, "tokenizer", tokenizer)
    text = tokenizer.clean_fn(caption) if hasattr(tokenizer, "clean_fn") else caption
    if hasattr(own, "get_vocab"):
        plain, names = own(text, add_special_tokens=False, verbose=False)["input_ids"], _marks(own)
    elif hasattr(own, "encode") and hasattr(own, "all_special_ids"):
        plain, names = own.encode(text), {token: own.decoder[token] for token in own.all_special_ids}
    else:
        plain, names = [], {}
    lost = getattr(own, "unk_token_id", None)
    written = [names[token] for token in plain if token in names and names[token].casefold() in text.casefold()]
    hidden = [names[token] for token in plain if token in names and token != lost]
    mark = next(iter(written + hidden), "")
    return TokenRow(ids=tuple(ids), cut=cut, mark=mark, unknown=not mark and lost in plain)


def joined(rows: Sequence[TokenRow], lengths: Sequence[int], caption: str, cleaned: str) -> TokenRow:
    """A caption as all text encoders of a model meet it, from what the tokenizer of each makes of it.

    lengths: how many tokens each reads. cleaned: what the pipeline's own cleaning leaves of the caption. A mark or an
    unknown word of any of them counts.
    """
    cut_at = [length for row, length in zip(rows, lengths, strict=True) if row.cut]
    cut, mark = len(cut_at) == len(rows), next((row.mark for row in rows if row.mark), "")
    unknown = not mark and any(row.unknown for row in rows)
    partly = 0 if cut else min(cut_at, default=0)
    read_as = None if _letters(caption) == _letters(cleaned) else cleaned
    return replace(rows[0], cut=cut, partly=partly, mark=mark, unknown=unknown, read_as=read_as)


class Reader(Protocol):
    """A model that reads captions."""

    @property
    def context_length(self) -> int: ...

    def token_ids(self, caption: str) -> TokenRow: ...

    def region_of(self, region: Region) -> Region: ...


class DomainCheck(Protocol):
    """What a small model knows."""

    def concerns(self, images: Sequence[Image], captions: Sequence[str]) -> list[Concern]: ...


def concerns_of(
    model: Reader, domain: DomainCheck | None, images: Sequence[Image], captions: Sequence[str], region: Region
) -> list[Concern]:
    """Unknown words and foreign pictures where the domain of a model is known; always what its tokenizer does, and
    what it does not see of the pictures."""
    seen, images = model.region_of(region), [clean(image) for image in images]
    known = domain.concerns([square(image, seen) for image in images], captions) if domain is not None else []
    known += partly_seen([share_of(image.size, seen) for image in images])
    kinds = {concern.kind for concern in known}
    found = caption_concerns([model.token_ids(caption) for caption in captions], model.context_length)
    return known + [concern for concern in found if concern.kind not in kinds]


def partly_seen(share_I: Sequence[float]) -> list[Concern]:
    """That a model sees too little of a picture; of several, the one of which it sees least."""
    share = min(share_I, default=1.0)
    if share >= SAID_BELOW:
        return []
    return [Concern(kind="partly-seen", text=PARTLY_SEEN.format(share=share), blocking=False)]


def caption_concerns(rows: Sequence[TokenRow], length: int) -> list[Concern]:
    """What the model cannot read as meant: marks and dropped captions, which block; cut or equal ones, lost words.

    rows: one a caption, in their order; length: how many tokens the model reads.
    """
    found = []
    for c, row in enumerate(rows):
        if row.mark:
            found.append(Concern(kind="mark", text=MARKED.format(letter=letter(c), mark=row.mark), blocking=True))
        if row.read_as is not None:
            is_lost = not _letters(row.read_as)
            text = (ALL_DROPPED if is_lost else DROPPED).format(letter=letter(c), text=row.read_as)
            found.append(Concern(kind="dropped-words", text=text, blocking=is_lost))
        if row.cut:
            text = CUT.format(letter=letter(c), length=length)
            found.append(Concern(kind="truncated", text=text, blocking=False))
        if row.partly:
            text = PARTLY.format(letter=letter(c), length=row.partly)
            found.append(Concern(kind="partly-read", text=text, blocking=False))
        if row.unknown:
            found.append(Concern(kind="unknown-words", text=UNKNOWN.format(letter=letter(c)), blocking=False))
    return found + _equal_captions(rows)


def reading_notes(model: Reader, title: str, captions: Iterable[str]) -> list[str]:
    """What training on captions should know before it begins: how many are cut, equal to others, or not all known.

    Raises `UserError` for a caption with a mark of the tokenizer's own: training would read it as the end of a text.
    """
    rows = {caption: model.token_ids(caption) for caption in dict.fromkeys(captions)}
    for caption, row in rows.items():
        if row.mark:
            raise UserError(MARK_IN_DATA.format(caption=shortened(caption), mark=row.mark, model=title))
    words_of: dict[tuple[int, ...], set[str]] = {}
    for caption, row in rows.items():
        words_of.setdefault(row.ids, set()).add(clean_caption(caption).casefold())
    counts = {
        f"are truncated at {model.context_length} tokens": sum(row.cut for row in rows.values()),
        **{
            f"are truncated at {n} tokens by some of its text encoders": sum(row.partly == n for row in rows.values())
            for n in sorted({row.partly for row in rows.values()} - {0})
        },
        "lose words to its pipeline's own cleaning": sum(row.read_as is not None for row in rows.values()),
        "have something its tokenizer does not know": sum(row.unknown for row in rows.values()),
        "are the same to it as a differently worded one": sum(
            len(words) for words in words_of.values() if len(words) > 1
        ),
    }
    return [f"{title}: of {len(rows):,} captions {n:,} {what}." for what, n in counts.items() if n]


def shortened(caption: str) -> str:
    """A caption as a sentence can hold it."""
    return caption if len(caption) <= LONGEST_SHOWN else caption[: LONGEST_SHOWN - 1] + "…"


def _letters(text: str) -> str:
    return "".join(sign for sign in text.casefold() if sign.isalnum())


def _equal_captions(rows: Sequence[TokenRow]) -> list[Concern]:
    found: list[Concern] = []
    first: dict[tuple[int, ...], int] = {}
    for c, row in enumerate(rows):
        other = first.setdefault(row.ids, c)
        if other != c:
            text = _equal_words(other, c, row)
            found.append(Concern(kind="equal-captions", text=text, blocking=False))
    return found


def _equal_words(first: int, second: int, row: TokenRow) -> str:
    why = "they differ only in what its tokenizer drops"
    if row.cut or row.unknown:
        why = "they differ only beyond what it reads" if row.cut else "they differ only in words that it does not know"
    return f"Captions {letter(first)} and {letter(second)} are the same to this model: {why}."


def _marks(tokenizer: Any) -> dict[int, str]:
    """The marks of a transformers tokenizer by their ids: start, end, padding, unknown, and whatever was added.

    A plain word that pads is none: Stable Diffusion 2 pads with `!`, which its pipeline reads in captions all the same.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {})
    ids = {*tokenizer.all_special_ids, *(token for token, about in added.items() if about.special)}
    names = {token: str(tokenizer.convert_ids_to_tokens(token)) for token in ids}
    others = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
    padding = tokenizer.pad_token_id
    pads_with_a_word = padding in names and padding not in others and not names[padding].startswith(BRACKETS)
    return {token: name for token, name in names.items() if not (pads_with_a_word and token == padding)}


def _plain_words(vocabulary: dict[str, int]) -> list[str]:
    """Up to `TRIED` lower-case words, evenly from the sorted vocabulary, without the marks of where a word ends."""
    marked = (entry.removesuffix("</w>").lstrip("\u0120\u2581") for entry in vocabulary)
    words = sorted({word for word in marked if len(word) > 2 and word.isascii() and word.isalpha() and word.islower()})
    return words[:: max(1, len(words) // TRIED)][:TRIED]
