"""Tiny tokenizers and text encoders of the kinds that the twins read with."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

from transformers import GemmaTokenizer, T5Config, T5EncoderModel, T5Tokenizer
from transformers.models.t5gemma.configuration_t5gemma import T5GemmaConfig, T5GemmaModuleConfig
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

SPACE = "▁"
"""Where a word begins."""


def t5_tokenizer() -> Any:
    """Of some words and all small letters; longer than any pipeline reads."""
    letters = [(letter, -9.0) for letter in string.ascii_lowercase]
    words = [(SPACE + word, -3.0) for word in ("red", "blue", "star", "circle", "left", "of", "cat")]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (SPACE, -2.0), *letters, *words]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def t5(width: int) -> Any:
    """An encoder of two layers, gated as T5 v1.1 is."""
    config = T5Config(
        vocab_size=64, d_model=width, d_kv=8, d_ff=24, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return T5EncoderModel(config).eval()


def gemma_tokenizer(length: int) -> Any:
    """Of all small letters, and a byte for anything else."""
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", SPACE]
    tokens = [*marks, *string.ascii_lowercase, *(f"<0x{byte:02X}>" for byte in range(256))]
    return GemmaTokenizer(vocab={token: k for k, token in enumerate(tokens)}, merges=[], model_max_length=length)


def t5gemma(width: int) -> Any:
    """An encoder of two layers, of which one looks nearby only."""
    return T5GemmaEncoder(_t5gemma_config(width).encoder).eval()


def describe_both_halves(folder: Path, width: int) -> None:
    """Writes the config beside T5Gemma's encoder as it lies on the Hub: of encoder and decoder."""
    _t5gemma_config(width).save_pretrained(folder)


def _t5gemma_config(width: int) -> T5GemmaConfig:
    half: dict[str, Any] = {
        "vocab_size": 320,
        "hidden_size": width,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 16,
        "max_position_embeddings": 128,
    }
    return T5GemmaConfig(encoder=T5GemmaModuleConfig(**half), decoder=T5GemmaModuleConfig(**half), vocab_size=320)


def rename(folder: Path, **classes: str) -> None:
    """Gives parts in `model_index.json` the classes that the Hub has, where diffusers writes others.

    classes: by part, CLASS, or LIBRARY.CLASS where the library is another one too.
    """
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    for part, kind in classes.items():
        library, _, own = kind.rpartition(".")
        index[part] = [library or index[part][0], own]
    path.write_text(json.dumps(index))
