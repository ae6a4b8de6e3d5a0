"""Tiny random vision-language models, saved by transformers itself in the Hub's format: as SmolVLM, LLaVA, Qwen2-VL.

The tokenizer is a byte-level BPE, as SmolVLM's, which begins a text with a mark, as LLaVA's; it is trained here, on the
few words that the tests use.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    BloomConfig,
    CLIPImageProcessor,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Pix2StructConfig,
    Pix2StructForConditionalGeneration,
    Pix2StructImageProcessor,
    Pix2StructProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    T5Config,
)

from sdsdemo.models import cards, open_scorer
from sdsdemo.models.vlm_scorer import VlmScorer

PIXELS, PATCH, CONTEXT = 32, 8, 192
START, END, PAD, IMAGE, OF_UTTERANCE = "<|im_start|>", "<|im_end|>", "<pad>", "<image>", "<end_of_utterance>"
CORPUS = [
    'Does this figure show "a red star left of a blue circle"? Please answer yes or no.',
    "Yes yes No no Yes. No. yes. no.",
    "User: Assistant: Yes Assistant: No right above and the",
]
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""In the manner of SmolVLM's."""
QWEN_TEMPLATE = TEMPLATE.replace(IMAGE, "<|vision_start|><|image_pad|><|vision_end|>")
QWEN_MARKS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def save(folder: Path, *, kind: str = "idefics3", seed: int = 0, words: tuple[str, ...] = (), **saving: Any) -> Path:
    """A model and its processor. words: what the tokenizer knows beyond `CORPUS`; saving: for `save_pretrained`."""
    torch.manual_seed(seed)
    made, processor = KINDS[kind](tokenizer([*CORPUS, *words]))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made.eval().save_pretrained(folder, **saving)
    processor.save_pretrained(folder)
    return folder


def scorer_of(folder: Path | str, precision: str = "auto") -> VlmScorer:
    scorer = open_scorer(cards.resolve(f"vlm:{folder}"), device="cpu", precision=precision)
    assert isinstance(scorer, VlmScorer)
    return scorer


def in_json(file: str, **changes: Any) -> Callable[[Path], None]:
    """Changes values of a file of JSON in a twin's folder."""

    def change(folder: Path) -> None:
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | changes))

    return change


def tokenizer(corpus: list[str], **options: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE of these sentences, with the marks of a chat and of a picture."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = [PAD, START, END, IMAGE, "<fake_token_around_image>", OF_UTTERANCE, "<global-img>"]
    places = [f"<row_{row + 1}_col_{column + 1}>" for row in range(6) for column in range(6)]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        min_frequency=1,
        special_tokens=[*special, *places, *QWEN_MARKS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(corpus, trainer)
    started = [(START, backend.token_to_id(START))]  # a template that writes it too must not have it twice
    backend.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=started)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=START, eos_token=END, pad_token=PAD, padding_side="left", **options
    )


def _text(vocabulary: int) -> LlamaConfig:
    return LlamaConfig(**LAYERS, vocab_size=vocabulary, num_key_value_heads=1, max_position_embeddings=CONTEXT)


def _idefics3(words: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """SmolVLM's kind: a picture is scaled to 64 pixels and cut into four, beside a small copy of all of it."""
    pixels = Idefics3ImageProcessor(size={"longest_edge": 2 * PIXELS}, max_image_size={"longest_edge": PIXELS})
    processor = Idefics3Processor(pixels, words, image_seq_len=4, chat_template=TEMPLATE)
    config = Idefics3Config(
        text_config=_text(len(words)),
        vision_config={**LAYERS, "image_size": PIXELS, "patch_size": PATCH},
        image_token_id=words.convert_tokens_to_ids(IMAGE),
        scale_factor=2,
        tie_word_embeddings=True,
        pad_token_id=words.pad_token_id,
    )
    return Idefics3ForConditionalGeneration(config), processor


def _llava(words: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """The middle square of a picture through a CLIP, whose class token is dropped."""
    pixels = CLIPImageProcessor(size={"shortest_edge": PIXELS}, crop_size={"height": PIXELS, "width": PIXELS})
    processor = LlavaProcessor(
        pixels,
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    config = LlavaConfig(
        text_config=_text(len(words)),
        vision_config=CLIPVisionConfig(**LAYERS, image_size=PIXELS, patch_size=PATCH, projection_dim=16),
        image_token_index=words.convert_tokens_to_ids(IMAGE),
    )
    return LlavaForConditionalGeneration(config), processor


def _qwen2_vl(words: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """A picture at its own shape, as released bounded by pixels; its places are rows and columns, not an order."""
    sides = {"patch_size": PATCH, "merge_size": 2, "size": {"shortest_edge": 256, "longest_edge": 12_845_056}}
    pixels, video = Qwen2VLImageProcessor(**sides), Qwen2VLVideoProcessor(**sides)
    processor = Qwen2VLProcessor(pixels, words, video, chat_template=QWEN_TEMPLATE)
    marks = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    text = {**LAYERS, "vocab_size": len(words), "num_key_value_heads": 1, "max_position_embeddings": CONTEXT}
    config = Qwen2VLConfig(
        text_config={
            **text,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
        },
        vision_config={"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": PATCH},
        **{key: words.convert_tokens_to_ids(mark) for key, mark in zip(marks, QWEN_MARKS, strict=True)},
    )
    return Qwen2VLForConditionalGeneration(config), processor


def _blip2_t5(words: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """An encoder and a decoder, whose config names no length."""
    text = T5Config(
        vocab_size=len(words), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    config = Blip2Config(
        text_config=text,
        vision_config={**LAYERS, "image_size": PIXELS, "patch_size": PATCH},
        qformer_config={**LAYERS, "encoder_hidden_size": 16, "vocab_size": 30},
        num_query_tokens=4,
        image_token_index=words.convert_tokens_to_ids(IMAGE),
    )
    pixels = BlipImageProcessor(size={"height": PIXELS, "width": PIXELS})
    return Blip2ForConditionalGeneration(config), Blip2Processor(pixels, words, num_query_tokens=4)


def _pix2struct(words: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """The same, and no picture of pixels."""
    sides = {"d_kv": 8, "d_ff": 32, "hidden_size": 16}
    text = {**sides, "vocab_size": len(words), "num_layers": 2, "num_heads": 2}
    vision = {**sides, "patch_embed_hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    processor = Pix2StructProcessor(Pix2StructImageProcessor(), words)
    return Pix2StructForConditionalGeneration(Pix2StructConfig(text_config=text, vision_config=vision)), processor


def _llava_bloom(words: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """A LLaVA whose text model knows places by their distance, so that its config names no length."""
    _, processor = _llava(words)
    text = BloomConfig(vocab_size=len(words), hidden_size=16, n_layer=2, n_head=2, tie_word_embeddings=False)
    config = LlavaConfig(
        text_config=text,
        vision_config=CLIPVisionConfig(**LAYERS, image_size=PIXELS, patch_size=PATCH, projection_dim=16),
        image_token_index=words.convert_tokens_to_ids(IMAGE),
        tie_word_embeddings=False,
    )
    return LlavaForConditionalGeneration(config), processor


KINDS: dict[str, Callable[[PreTrainedTokenizerFast], tuple[Any, Any]]] = {
    "idefics3": _idefics3,
    "llava": _llava,
    "qwen2_vl": _qwen2_vl,
    "blip2_t5": _blip2_t5,
    "pix2struct": _pix2struct,
    "llava_bloom": _llava_bloom,
}
