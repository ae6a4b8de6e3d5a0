"""What the page's terms mean, in one line each. `parts.term` shows them."""

from __future__ import annotations

TERMS = {
    "text score": "Percent of examples in which the model chooses the right caption for every picture. By chance: 25 "
    "for two pictures and two captions.",
    "image score": "Percent of examples in which the model chooses the right picture for every caption.",
    "group score": "Percent of examples in which the model is right by both the text and the image score.",
    "denoising loss": "The mean squared error of the noise that the model predicts given a caption. The caption with "
    "the lower loss fits better.",
    "paired difference": "The loss given one caption minus that given the other, with the same noise: what the noise "
    "adds to both cancels out.",
    "timestep": "How much noise is added to the picture: from 0, none, to 1,000, nothing but noise.",
    "base": "A CLIP that was trained from scratch with its own seed, and is fine-tuned here. Few bases say little "
    "about others.",
    "teacher": "The diffusion model whose score is to be taught to CLIP.",
    "L_SDS": "The teacher's denoising loss given the right caption, of a latent that is made from CLIP's view of the "
    "picture.",
    "lambda": "The weight of the teacher's loss beside CLIP's own in fine-tuning.",
    "layer norm": "A layer that rescales what a network computes. The paper trains only these, a small part of CLIP.",
    "Mini": "A small world of coloured shapes with models of its own, trained by this project. Its results say nothing "
    "about models of real size.",
    "SDS-CLIP": "CLIP with its layer norms fine-tuned so that a diffusion model denoises well when given CLIP's view "
    "of the picture.",
    "95 % interval": "If all were measured again and again on other examples, 95 of 100 such intervals would hold "
    "the true value.",
    "chance": "What guessing gets.",
    "undecided": "The two losses differ by less than their noise: other noise draws may change the winner.",
    "Winoground": "400 hand-made pairs of pictures and captions that use the same words in another order.",
}


def gloss(term: str) -> str:
    """A term's meaning. Raises KeyError for a term that the glossary does not have."""
    return TERMS[term]
