"""Pretraining a text encoder h(c) on captioned pictures, without any label: from a caption to its mean picture.

    L = E || D(h(c))_p - z_p ||^2        z_p the latent at place p of its grid

D has a query for every place, which attends to the words' states; it is dropped afterwards. This is denoising at its
end, where pure noise shows nothing and only the caption tells the layout (zero terminal SNR, Lin et al. 2023,
2305.08891), by a network that knows where each place lies. At lower noise levels the latent itself shows which thing is
where, so the word earns nothing; and the UNet has no position embeddings.

Shape suffixes: B batch, L position in the sentence, P place in the latent's grid, D feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import DistilBertModel

from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.finetuning.loop import LossesAt, TrainingConfig
from sdsdemo.mini.models import text_encoder, tokenizer, train_loop
from sdsdemo.mini.models.unet import PLACED, Samples, Stage

STAGE = Stage(
    training=TrainingConfig(steps=3000, learning_rate=1e-3, warm_up=100, decay="late"), shares={PLACED: 0.6}, salt=11
)
LAYERS = 2


class PictureDecoder(nn.Module):
    """D: the latent that a caption describes, place by place."""

    def __init__(self, latent_shape: torch.Size, seed: int = 0) -> None:
        """latent_shape: [channels, rows, columns]."""
        super().__init__()
        torch.manual_seed(seed)
        channels, rows, columns = latent_shape
        self.shape = (channels, rows, columns)
        self.query_PD = nn.Parameter(torch.randn(rows * columns, text_encoder.WIDTH))
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                text_encoder.WIDTH,
                nhead=4,
                dim_feedforward=2 * text_encoder.WIDTH,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(text_encoder.WIDTH)
        self.out = nn.Linear(text_encoder.WIDTH, channels)

    def forward(self, state_BLD: Tensor) -> Tensor:
        """latent_B: [B, channels, rows, columns]."""
        state_BPD = self.query_PD.expand(len(state_BLD), -1, -1)
        for layer in self.layers:
            state_BPD = layer(state_BPD, state_BLD)
        latent_B: Tensor = self.out(self.norm(state_BPD)).transpose(1, 2).reshape(-1, *self.shape)
        return latent_B


def losses_at(
    encoder: DistilBertModel, decoder: PictureDecoder, stream: MiniStream, latent_N: Tensor, seed: int = 0
) -> LossesAt:
    """The loss of a step. latent_N: every picture of the stream, scaled. seed: as in `Samples`."""
    samples = Samples(stream, STAGE, seed=seed)

    def losses(step: int) -> Mapping[str, Tensor]:
        _, index_B, sentences = samples(step)
        state_BLD = encoder(tokenizer.token_ids(sentences)).last_hidden_state
        return {"loss": (decoder(state_BLD) - latent_N[index_B]).square().mean()}

    return losses


def teach(
    encoder: DistilBertModel,
    stream: MiniStream,
    latent_N: Tensor,
    seed: int = 0,
    *,
    name: str,
    work: Path,
    progress: train_loop.Progress,
) -> train_loop.Curve:
    """Pretrain the encoder, which can learn on afterwards. Returns the learning curve.

    Raises `UserError` if the run fails.
    """
    decoder = PictureDecoder(latent_N.shape[1:], seed)
    losses = losses_at(encoder, decoder, stream, latent_N, seed)
    both = nn.ModuleList([encoder, decoder])
    curve = train_loop.run(name, both, losses, STAGE.training, work=work, progress=progress)
    encoder.requires_grad_(True).train()
    return curve
