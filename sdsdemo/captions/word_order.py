"""The word-order sets of ARO: a true caption and four shuffles of it (Yuksekgonul et al. 2023, 2210.01936, sec. 2.2).

    nouns and adjectives      nouns are shuffled among nouns and adjectives among adjectives, all others stay
    all but these             all other words are shuffled
    within trigrams           the words within each trigram are shuffled
    trigrams                  the trigrams are shuffled

The authors seed their shuffles with their own tools; ours are seeded with the caption itself, so that a caption always
gets the same four: the same test, not the same strings. As in their code, spaCy tags the words, punctuation marks are
shuffled as words are, and only then become spaces, and a trigram counts "black-and-white" as one word.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from functools import cache

from sdsdemo.errors import UserError

NOUNS = ("NN", "NNS", "NNP", "NNPS")
ADJECTIVES = ("JJ", "JJR", "JJS")
MODEL = "en_core_web_sm"
MOST_WORDS = 30
"""Words of a caption that a model is shown, as the authors do it."""
TRIES = 20
"""Most attempts to redraw a shuffle that changed nothing."""
NO_TAGGER = (
    "The order sets need spaCy to find nouns and adjectives: run `pip install spacy` and "
    f"`python -m spacy download {MODEL}`, or remove the two order files from the folder."
)

_WORD = re.compile(r"\w+(?=n't\b)|n't\b|'\w*|\w(?:[\w/.-]*\w)?|[^\w\s]", re.IGNORECASE)
"""A word or mark, about as NLTK splits a caption: "don't" and "man's" are two, "close-up" is one."""
Tagged = Sequence[tuple[str, str]]
"""(word, Penn Treebank tag) in order."""


def shuffled(caption: str, tag: Callable[[str], Tagged] | None = None) -> tuple[str, str, str, str]:
    """The four shuffles of a caption, in the order above; one that can change nothing is the plain caption.

    Raises `UserError` if no tagger is installed.
    """
    tagged = (tag or _spacy())(caption)
    words, whole = [word for word, _ in tagged], _WORD.findall(caption)
    nouns, adjectives = ([k for k, (_, kind) in enumerate(tagged) if kind in kinds] for kinds in (NOUNS, ADJECTIVES))
    others = [k for k in range(len(words)) if k not in {*nouns, *adjectives}]
    draw = random.Random(caption)
    groups = [whole[k : k + 3] for k in range(0, len(whole), 3)]
    return (
        _redrawn(caption, words, lambda: _moved(_moved(words, nouns, draw), adjectives, draw)),
        _redrawn(caption, words, lambda: _moved(words, others, draw)),
        _redrawn(caption, whole, lambda: [word for group in groups for word in draw.sample(group, len(group))]),
        _redrawn(caption, whole, lambda: [word for group in draw.sample(groups, len(groups)) for word in group]),
    )


def plain_caption(caption: str) -> str:
    """Lower case, no punctuation, at most `MOST_WORDS` words: how the authors show captions to a model."""
    return " ".join(re.sub(r"[.!\"()*#:;~]", " ", caption.lower()).split()[:MOST_WORDS])


def _moved(words: Sequence[str], places: Sequence[int], draw: random.Random) -> list[str]:
    moved = list(words)
    for place, source in zip(places, draw.sample(list(places), len(places)), strict=True):
        moved[place] = words[source]
    return moved


def _redrawn(caption: str, words: Sequence[str], make: Callable[[], list[str]]) -> str:
    """A shuffle whose words differ from the caption's, or the plain caption if none is found."""
    for _ in range(TRIES + 1):
        if (found := plain_caption(" ".join(make()))) != plain_caption(" ".join(words)):
            return found
    return plain_caption(caption)


@cache
def _spacy() -> Callable[[str], Tagged]:
    try:
        import spacy

        language = spacy.load(MODEL, disable=["parser", "ner", "lemmatizer"])
    except (ImportError, OSError) as error:
        raise UserError(NO_TAGGER) from error
    return lambda text: [(token.text, token.tag_) for token in language(text)]
