"""A Mini CLIP whose text tower can take the lesson of the teachers' text encoder (see `text_encoder`).

    h(c)   states of the words after the first LESSON_BLOCKS blocks, as wide and as many as the teachers' encoder has,
           and bidirectional like it
    g(c)   projection of the state at the end of the text, after one further block that reads all h(c)

With the lesson, embeddings and first blocks are taught from text alone, with the teachers' loss, sentences and steps;
then they are frozen, as the teachers' encoder is. The image tower is that of `mini-clip`. It is an open_clip folder.

`mini-clip-lesson` takes the lesson, then meets the pictures, captions and batches of `mini-clip-clean`: a CLIP with the
lesson of the diffusion teachers, to stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from open_clip import CLIP
from torch import Tensor, nn

from sdsdemo.core.losses import clip_loss
from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.finetuning.loop import LossesAt
from sdsdemo.finetuning.objectives import LARGEST_SCALE
from sdsdemo.mini.models import clip, text_encoder, tokenizer, train_loop
from sdsdemo.mini.models.unet import Samples

NAME = "mini-clip-lesson"
LESSON_BLOCKS = 3
"""As many as the teachers' text encoder has."""


def config() -> dict[str, Any]:
    """open_clip's configuration of the network."""
    usual = clip.config()
    wider = {"width": text_encoder.WIDTH, "heads": 4, "layers": LESSON_BLOCKS + 1, "no_causal_mask": True}
    return {**usual, "text_cfg": usual["text_cfg"] | wider}


def fresh(seed: int = 0) -> CLIP:
    """An untrained CLIP."""
    return clip.built(config(), seed)


class WordStates(nn.Module):
    """h(c) of a CLIP, called as the teachers' text encoder is; trains embeddings and first blocks of that CLIP."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.embedding, self.position = model.token_embedding, model.positional_embedding
        self.blocks = model.transformer.resblocks[:LESSON_BLOCKS]
        self.norm = nn.LayerNorm(text_encoder.WIDTH)  # for the lesson alone, whose targets have unit variance

    def forward(self, token_BL: Tensor) -> SimpleNamespace:
        """`last_hidden_state`: state_BLD."""
        state_BLD = self.embedding(token_BL) + self.position
        for block in self.blocks:
            state_BLD = block(state_BLD)
        return SimpleNamespace(last_hidden_state=self.norm(state_BLD))


def teach(
    name: str, model: CLIP, stream: MiniStream, *, work: Path, progress: train_loop.Progress
) -> tuple[WordStates, train_loop.Curve]:
    """Give a CLIP the lesson, then freeze h(c); and the learning curve. Raises `UserError` if the run fails."""
    states = WordStates(model)
    losses = text_encoder.losses_at(states, stream)
    return states, train_loop.run(name, states, losses, text_encoder.TRAINING, work=work, progress=progress)


def losses_at(model: CLIP, stream: MiniStream, samples: Samples) -> LossesAt:
    """L_CLIP on the pictures and sentences of a step."""

    def losses(step: int) -> Mapping[str, Tensor]:
        _, index_B, sentences = samples(step)
        image_BD, text_BD, scale = model(clip.as_inputs(stream, index_B), tokenizer.token_ids(sentences))
        return {"loss": clip_loss(image_BD, text_BD, scale.clamp(max=LARGEST_SCALE))}

    return losses
