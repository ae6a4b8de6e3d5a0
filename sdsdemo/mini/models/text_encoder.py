"""The text encoder of the Mini teachers, pretrained on text alone to describe each word's object; then frozen.

Trained on the denoising loss alone, a text encoder never learns which object is in which place: the noised latent
already shows the layout, so the words carry no gradient. Real pipelines use encoders pretrained on far more text than
they have pictures; this pretraining stands in for that. With fixed random codes e(.) ~ N(0, I), the target at word w of
object k is

    y_w = LN( e(place_k) + e(colour_k) + e(shape_k) + e(size_k) + e(number_k) )     y_w = LN( e(w) ) for any other word

(attributes that the sentence leaves out are omitted), and the loss is the mean of ||h_w - y_w||^2 over words. Attention
must be bidirectional: under a causal mask, the first object's words cannot see what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DistilBertConfig, DistilBertModel

from sdsdemo.data.mini.scenes import Scene
from sdsdemo.data.mini.sentences import PLACES, PLURALS, Sentence
from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.finetuning.loop import LossesAt, TrainingConfig
from sdsdemo.mini.models.tokenizer import CONTEXT, END, PAD, START, VOCABULARY, token_ids

WIDTH = 128
TRAINING = TrainingConfig(steps=500, learning_rate=2e-3, warm_up=60)
BATCH = 96
SALT = 2
SINGULAR = {plural: shape for shape, plural in PLURALS.items()}
NAMES = (*VOCABULARY, *(f"place:{place}" for place in PLACES))


def fresh(seed: int = 0) -> DistilBertModel:
    """An untrained encoder."""
    torch.manual_seed(seed)
    config = DistilBertConfig(
        vocab_size=len(VOCABULARY),
        max_position_embeddings=CONTEXT,
        n_layers=3,
        n_heads=4,
        dim=WIDTH,
        hidden_dim=4 * WIDTH,
        dropout=0.0,
        attention_dropout=0.0,
        pad_token_id=VOCABULARY[PAD],
        bos_token_id=VOCABULARY[START],
        eos_token_id=VOCABULARY[END],
    )
    return DistilBertModel(config)


def codes() -> Tensor:
    """The fixed codes, float [len(NAMES), WIDTH]."""
    return torch.randn(len(NAMES), WIDTH, generator=torch.Generator().manual_seed(7))


def names_of_words(scene: Scene, sentence: Sentence) -> list[list[str]]:
    """For each word, the names of the codes that are summed in its target."""
    said: dict[int, list[str]] = {}
    says_places = set(sentence.owner) >= {0, 1}
    for k, thing in enumerate(scene.things):
        words = {SINGULAR.get(w, w) for w, owner in zip(sentence.words, sentence.owner, strict=True) if owner == k}
        said[k] = sorted(words - {"a", "an", "the", "is"}) + [f"place:{thing.place}"] * bool(
            thing.place and says_places
        )
    return [[word] if owner < 0 else said[owner] for word, owner in zip(sentence.words, sentence.owner, strict=True)]


def targets(scenes: Sequence[Scene], sentences: Sequence[Sentence]) -> tuple[Tensor, Tensor]:
    """target_BLD, and mask_BL of the positions with a word."""
    position = {name: k for k, name in enumerate(NAMES)}
    where = [
        (b, word + 1, position[name])
        for b, (scene, sentence) in enumerate(zip(scenes, sentences, strict=True))
        for word, names in enumerate(names_of_words(scene, sentence))
        for name in names
    ]
    sum_BLN = torch.zeros(len(scenes), CONTEXT, len(NAMES))
    sum_BLN[tuple(torch.tensor(where).T)] = 1.0
    return functional.layer_norm(sum_BLN @ codes(), (WIDTH,)), sum_BLN.any(dim=2)


def losses_at(encoder: Callable[[Tensor], Any], stream: MiniStream) -> LossesAt:
    """The pretraining loss on a step's sentences. encoder: gives `last_hidden_state` of tokens."""

    def losses(step: int) -> Mapping[str, Tensor]:
        index_B, sentences = stream.draw_batch(step, BATCH, salt=SALT)
        target_BLD, mask_BL = targets([stream.scenes[i] for i in index_B], sentences)
        state_BLD = encoder(token_ids(sentences)).last_hidden_state
        return {"loss": (state_BLD - target_BLD).square().mean(dim=2)[mask_BL].mean()}

    return losses
