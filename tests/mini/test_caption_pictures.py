"""Pretraining a text encoder on captioned pictures: the loss, what learns, and what it learns from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.mini.models import caption_pictures, text_encoder, tokenizer
from sdsdemo.mini.models.caption_pictures import PictureDecoder, losses_at, teach
from sdsdemo.mini.models.unet import PLACED, Samples

SHAPE = torch.Size([4, 8, 8])


@pytest.fixture
def stream(tmp_path: Path) -> MiniStream:
    return MiniStream(6, 64, tmp_path)


def test_the_loss_is_the_distance_to_the_pictures_of_the_captions(stream: MiniStream) -> None:
    encoder, decoder = text_encoder.fresh(), PictureDecoder(SHAPE)
    latent_N = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0))
    _, index_B, sentences = Samples(stream, caption_pictures.STAGE)(3)
    guess_B = decoder(encoder(tokenizer.token_ids(sentences)).last_hidden_state)
    expected = sum(((guess - latent_N[i]) ** 2).mean() for guess, i in zip(guess_B, index_B, strict=True)) / 64
    found = losses_at(encoder, decoder, stream, latent_N)(3)["loss"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_guess_depends_on_the_caption_and_on_the_place() -> None:
    decoder = PictureDecoder(SHAPE)
    state_BLD = torch.randn(2, 5, text_encoder.WIDTH, generator=torch.Generator().manual_seed(1))
    one, other = decoder(state_BLD)
    assert one.shape == SHAPE
    assert (one - other).abs().max() > 0.01
    assert (one[:, 0, 0] - one[:, 7, 7]).abs().max() > 0.01


def test_places_are_drawn_often_and_seeds_draw_other_batches(stream: MiniStream) -> None:
    drawn = [
        stream.scenes[i].family in PLACED
        for step in range(20)
        for i in Samples(stream, caption_pictures.STAGE)(step)[1]
    ]
    assert 0.5 < sum(drawn) / len(drawn) < 0.7
    encoder, decoder, latent_N = text_encoder.fresh(), PictureDecoder(SHAPE), torch.randn(64, *SHAPE)
    losses = [losses_at(encoder, decoder, stream, latent_N, seed)(0)["loss"].item() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_the_encoder_learns_and_may_learn_on(
    stream: MiniStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(caption_pictures.STAGE.training, steps=3, warm_up=1)
    monkeypatch.setattr(caption_pictures, "STAGE", replace(caption_pictures.STAGE, training=short))
    encoder, untrained = text_encoder.fresh(), text_encoder.fresh().state_dict()
    curve = teach(encoder, stream, torch.randn(64, *SHAPE), name="a", work=tmp_path, progress=lambda line: None)
    assert curve[-1]["step"] == 3
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert encoder.training
    assert not all(torch.equal(value, untrained[key]) for key, value in encoder.state_dict().items())
