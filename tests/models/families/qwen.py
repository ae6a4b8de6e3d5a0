"""Qwen3 as text encoder, tiny: a byte-level tokenizer with a chat template, and a language model of 28 layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AddedToken, Qwen2Tokenizer, Qwen3Config

WIDTH = 8
END, MESSAGE, MESSAGE_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)
"""Qwen3's own, without tools."""
LESSON = ["a red star left of a blue circle", "user", "assistant", "a cat above the circle", "two small blue stars"] * 4


def tokenizer() -> Qwen2Tokenizer:
    """Bytes, and the words of a short lesson."""
    taught = Tokenizer(models.BPE())
    taught.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    taught.train_from_iterator(LESSON, trainer)
    found = json.loads(taught.to_str())["model"]
    merges = [tuple(pair) for pair in found["merges"]]
    made: Any = Qwen2Tokenizer(vocab=found["vocab"], merges=merges, eos_token=MESSAGE_END, pad_token=END)
    made.add_tokens([AddedToken(MESSAGE, special=True), AddedToken(MESSAGE_END, special=True)])
    made.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    made.chat_template = TEMPLATE
    return made


def config(vocabulary: int) -> Qwen3Config:
    """28 layers, the least that FLUX.2 klein reads from."""
    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        max_position_embeddings=4096,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )


def template_into_config(folder: Path) -> None:
    """As older repositories have it: the chat template in `tokenizer_config.json`, without a file of its own."""
    path, template = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    described = json.loads(path.read_text()) | {"chat_template": template.read_text()}
    path.write_text(json.dumps(described))
    template.unlink()


def lively(module: torch.nn.Module, std: float = 0.3) -> Any:
    """Every weight drawn anew, so that none is zero or one."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return module.eval()


def exact_flow(latent: Tensor, sigma_of: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """(x, time as the network is given it) -> eps - z = (x - z) / sigma."""

    def target(x: Tensor, time: Tensor) -> Tensor:
        return (x - latent) / sigma_of(time).reshape(-1, *[1] * (x.dim() - 1))

    return target
