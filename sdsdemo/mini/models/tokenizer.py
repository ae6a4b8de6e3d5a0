"""The word-level tokenizer of the Mini models: one token per word, so that unknown words are recognised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sdsdemo.data.mini.sentences import WORDS, Sentence
from sdsdemo.runtime.files import write_json
from sdsdemo.runtime.shipped import shipped

CONTEXT = 20
"""Tokens per caption, including start and end; the longest caption of the world has 17."""
PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<|startoftext|>", "<|endoftext|>"
VOCABULARY = {word: token for token, word in enumerate((PAD, UNKNOWN, START, *WORDS, END))}
"""The end has the highest id: CLIP's text tower finds it by its argmax."""


def tokenizer() -> PreTrainedTokenizerFast:
    """Lowercases, drops punctuation, splits at spaces."""
    backend = Tokenizer(models.WordLevel(VOCABULARY, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[^\w]+"), " ")]
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, VOCABULARY[START]), (END, VOCABULARY[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=START,
        eos_token=END,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, with a class name that transformers 4 and 5 both load."""
    tokenizer().save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = shipped(path, dict[str, Any]) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    write_json(path, config, indent=2)


def token_ids(sentences: Sequence[Sentence]) -> Tensor:
    """int64 [B, CONTEXT], as from the tokenizer, but by fast dictionary look-up: training needs millions."""
    id_BL = np.full((len(sentences), CONTEXT), VOCABULARY[PAD], dtype=np.int64)
    for row, sentence in zip(id_BL, sentences, strict=True):
        words = (START, *sentence.words, END)
        row[: len(words)] = [VOCABULARY[word] for word in words]
    return torch.from_numpy(id_BL)
