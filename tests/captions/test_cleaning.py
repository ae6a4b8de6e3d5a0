"""One text for every model: what cleaning does to captions, and that both kinds of adapter read what it leaves."""

from __future__ import annotations

import html
import random
import string
import sys
from pathlib import Path
from typing import Any

import ftfy
import pytest
import regex
from transformers import CLIPTokenizer

from sdsdemo.captions.cleaning import clean_caption, cleaning_notes, is_blank, plain_notes
from sdsdemo.errors import UserError
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.families import load_diffusion
from sdsdemo.models.tokenizer_checks import reading_notes, token_row
from tests import twins

ODD = (
    "the dog\u2019s ball",
    "\ufb01ne \ufb02ags",
    "\uff41 \uff52\uff45\uff44 star",
    "salt &amp; pepper",
    "salt &amp;amp;amp; pepper",
    "salt < &amp;amp;amp;amp;amp;amp;amp; pepper",
    "a &lt;b&gt; c",
    "the dog\u00e2\u20ac\u2122s ball",
    "un carre\u0301",
    "\u201chi\u201d \u2018there\u2019",
    "a\u00a0red\u2003star",
    "a\u2028red\u0085star",
    "\ufeffa r\u00aded\u200b star\u202e",
    "a \x1b[31mred\x1b[0m star",
    "caf\u00e9 &eacute;t&eacute;",
)
ALPHABET = [*string.ascii_letters, *"  .,'&;#<>-", "\u2019", "\ufb01", "\u00e9", "e\u0301", "\u200b", "&amp;", "&lt;"]


def open_clip_s_own(text: str) -> str:
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


@pytest.mark.parametrize("caption", ODD)
def test_cleaning_is_open_clip_s_and_doing_it_twice_changes_nothing(caption: str) -> None:
    clean = clean_caption(caption)
    assert clean_caption(clean) == clean
    assert open_clip_s_own(clean) == clean
    assert clean.isprintable()


def test_cleaning_settles_for_random_texts() -> None:
    draw = random.Random(0)
    for _ in range(1000):
        clean = clean_caption("".join(draw.choices(ALPHABET, k=24)))
        assert clean_caption(clean) == open_clip_s_own(clean) == clean


def test_plain_captions_change_in_their_spaces_alone() -> None:
    draw = random.Random(1)
    for _ in range(1000):
        plain = "".join(draw.choices(string.ascii_letters + string.digits + " .,'-<>!?", k=40))
        assert clean_caption(plain) == " ".join(plain.split()) == open_clip_s_own(plain)


def test_only_what_changes_more_than_spaces_is_said() -> None:
    typed = ["  two   spaces ", "the dog\u2019s", "un carre\u0301", "plain"]
    notes = cleaning_notes(typed, [clean_caption(caption) for caption in typed])
    assert len(notes) == 1
    assert "Caption B is read as \u201cthe dog's\u201d" in notes[0]


EVERY = "".join(map(chr, range(sys.maxunicode + 1)))
UNSEEN = [
    character
    for character in regex.findall(r"\p{Default_Ignorable_Code_Point}|[\x00-\x1f\x7f]", EVERY)
    if not character.isspace()
]
"""Halves of characters make a whole one in pairs, and U+0080 to U+009F are what is left of Windows' quotation marks."""
WITH_JOINERS = {
    "Persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Devanagari, joined": "\u0915\u094d\u200d\u0937",
    "Devanagari, apart": "\u0915\u094d\u200c\u0937",
    "Malayalam, at the end of a word": "\u0d05\u0d35\u0d28\u0d4d\u200d \u0d35\u0d28\u0d4d\u0d28\u0d41",
    "Bengali": "\u09b0\u200d\u09cd\u09af",
    "Mongolian": "\u182e\u180b\u1820",
    "a family": "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "a firefighter": "\U0001f468\U0001f3fd\u200d\U0001f692",
    "a burning heart": "\u2764\ufe0f\u200d\U0001f525",
    "a rainbow flag": "\U0001f3f3\ufe0f\u200d\U0001f308",
    "a keycap": "1\ufe0f\u20e3",
    "England": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
}
LATIN = (
    "a red star",
    "un caf\u00e9 noir",
    "\u0447\u0451\u0440\u043d\u044b\u0439 \u043a\u043e\u0442",
    "\u8d64\u3044\u661f",
)


def test_no_unseen_character_makes_another_word_wherever_it_stands() -> None:
    draw = random.Random(3)
    for number, character in enumerate(UNSEEN):
        plain = clean_caption(LATIN[number % len(LATIN)])
        at = draw.randrange(len(plain) + 1)
        typed = f"{plain[:at]}{character * draw.randrange(1, 4)}{plain[at:]}"
        assert clean_caption(typed) == plain, f"U+{ord(character):04X} at {at} of {plain!r}"
        assert cleaning_notes([typed], [plain]), f"U+{ord(character):04X} is not said"
    assert len(UNSEEN) > 4000


def test_captions_of_unseen_characters_alone_are_blank() -> None:
    draw = random.Random(4)
    blanks = [*UNSEEN, *[" ", "\u00a0", "&#8203;", "\u2800", "\u3000"] * 500]
    for _ in range(300):
        assert is_blank("".join(draw.choices(blanks, k=draw.randrange(9))))


@pytest.mark.parametrize("kind", WITH_JOINERS)
def test_joiners_stay_where_a_script_or_an_emoji_is_written_with_them(kind: str) -> None:
    word = WITH_JOINERS[kind]
    assert clean_caption(word) == word
    assert clean_caption(f"a {word}\u200c and a\u200d star\ufe0f") == f"a {word} and a star"
    assert cleaning_notes([word], [clean_caption(word)]) == ()


def test_many_captions_are_told_how_many_of_them_are_made_plain() -> None:
    assert plain_notes(["a star", " a  star ", "two stars"]) == []
    (note,) = plain_notes(["a star", "a s\u200dtar", "two &amp; two", "a star"])
    assert "2 of 3" in note


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipModel:
    return ClipModel.load(f"open_clip:local-dir:{twins.clip_folder(tmp_path_factory.mktemp('c') / 'bpe', words=False)}")


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    return load_diffusion(f"diffusers:{twins.sd_folder(tmp_path_factory.mktemp('d') / 'sd')}")


def _words(ids: list[int]) -> list[int]:
    """Without start, end and padding, which the two tokenizers write differently."""
    return [token for token in ids if token not in (0, 49406, 49407)]


@pytest.mark.parametrize("caption", ODD)
def test_clip_and_diffusion_read_the_same_words(clip: ClipModel, diffusion: LatentDiffusion, caption: str) -> None:
    clean = clean_caption(caption)
    for model in (clip, diffusion):
        assert model.tokenize([caption]).tolist() == model.tokenize([clean]).tolist()
        assert model.token_ids(caption).ids == model.token_ids(clean).ids
    assert _words(clip.tokenize([caption])[0].tolist()) == _words(diffusion.tokenize([caption])[0].tolist())
    assert (diffusion.encode_prompts([caption]) == diffusion.encode_prompts([clean])).all()


@pytest.mark.parametrize("written", ["{}", "a {} cat", "a{}cat", "&lt;{}", "a {} and {}", "A {} CAT"])
def test_a_mark_in_a_caption_is_named(clip: ClipModel, diffusion: LatentDiffusion, written: str) -> None:
    for model, marks in (
        (clip, ("<start_of_text>", "<end_of_text>", "<END_OF_TEXT>", "<end_of\u200b_text>")),
        (diffusion, (twins.START, twins.END)),
    ):
        for mark in marks:
            typed = mark.join(written.split("{}")).replace("&lt;<", "&lt;")
            assert model.token_ids(typed).mark.casefold() == clean_caption(mark).casefold(), typed
            assert model.token_ids(typed.replace("_", " ").replace("|", " ")).mark == "", typed


def test_words_about_marks_are_words(clip: ClipModel, diffusion: LatentDiffusion) -> None:
    for caption in ("the end of text", "a <b> tag", "start_of_text", "endoftext", "a cat!", "|", "<"):
        assert not clip.token_ids(caption).mark
        assert not diffusion.token_ids(caption).mark


@pytest.mark.parametrize("added", [False, True], ids=["Stable Diffusion 2", "Stable Diffusion XL"])
def test_a_plain_word_that_pads_is_no_mark(added: bool, tmp_path: Path) -> None:
    twins.save_bpe(tmp_path, padding=twins.END if added else "!")
    tokenizer: Any = CLIPTokenizer.from_pretrained(tmp_path)
    if added:
        tokenizer.add_special_tokens({"pad_token": "!"})
    assert tokenizer("Watch out! A dog")["input_ids"][3] == tokenizer.pad_token_id == 0
    assert not token_row(tokenizer, "Watch out! A dog", (), cut=False).mark
    assert token_row(tokenizer, f"a dog{twins.END}!", (), cut=False).mark == twins.END


def test_every_mark_of_a_word_level_tokenizer_is_found(tmp_path: Path) -> None:
    model = ClipModel.load(f"open_clip:local-dir:{twins.clip_folder(tmp_path / 'words')}")
    for mark in (twins.PAD, twins.START, twins.END, twins.UNKNOWN):
        row = model.token_ids(f"a red {mark} star")
        assert row.mark == mark
    row = model.token_ids("a red piano")
    assert (row.mark, row.unknown) == ("", True)


def test_training_reports_cut_and_equal_captions(clip: ClipModel) -> None:
    cut = "star " * 80
    captions = ["a cat", "a  CAT", "a dog", f"{cut} red", f"{cut} blue", "the dog\u2019s", "the dog's"]
    notes = reading_notes(clip, "CLIP", captions)
    assert notes == [
        "CLIP: of 7 captions 2 are truncated at 77 tokens.",
        "CLIP: of 7 captions 2 are the same to it as a differently worded one.",
    ]
    assert reading_notes(clip, "CLIP", ["a cat", "a dog", "a cat"]) == []
    with pytest.raises(UserError, match="`<end_of_text>`, which the tokenizer of CLIP reads as a mark"):
        reading_notes(clip, "CLIP", ["a cat", "a <end_of_text> dog"])
