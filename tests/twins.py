"""Tiny random twins of real models, saved by open_clip and diffusers in the very folder formats of the Hub.

They know nothing; they show whether the wiring fits. Each builder fills a folder and returns it. Weights come from a
seed, so that two calls give the same model.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from open_clip.tokenizer import default_bpe
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

WORDS = ("red", "blue", "star", "circle", "left", "right", "above", "and", "the")
PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<|startoftext|>", "<|endoftext|>"
VOCABULARY = {word: token for token, word in enumerate((PAD, UNKNOWN, START, *WORDS, END))}
CONTEXT = 8
"""Tokens of the word-level tokenizer, start and end included."""
NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def picture(seed: int = 0, size: tuple[int, int] = (48, 48)) -> Image.Image:
    """Smooth random colours."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.randint(0, 256, (4, 4, 3), generator=generator, dtype=torch.uint8).numpy()
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def clip_config(*, words: bool, **changes: Any) -> dict[str, Any]:
    """What open_clip writes beside a model. words: a word-level tokenizer of its own instead of CLIP's."""
    text: dict[str, Any] = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    if words:
        text |= {"context_length": CONTEXT, "vocab_size": len(VOCABULARY), "hf_tokenizer_name": "twin-words"}
    vision = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
    return {"embed_dim": 12, "vision_cfg": vision, "text_cfg": text, **changes}


def clip_module(config: dict[str, Any], seed: int = 0) -> open_clip.CLIP:
    """A CLIP of random weights."""
    torch.manual_seed(seed)
    text = {key: value for key, value in config["text_cfg"].items() if key != "hf_tokenizer_name"}
    return open_clip.CLIP(
        config["embed_dim"], config["vision_cfg"], text, quick_gelu=config.get("quick_gelu", False)
    ).eval()


def clip_folder(folder: Path, *, words: bool = True, seed: int = 0, **changes: Any) -> Path:
    """An open_clip folder as on the Hub: config, safetensors and, with `words`, tokenizer files."""
    folder.mkdir(parents=True, exist_ok=True)
    config = clip_config(words=words, **changes)
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}
    described = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    save_file(clip_module(config, seed).state_dict(), folder / "open_clip_model.safetensors")
    if words:
        save_words(folder)
    return folder


def bag_of_words_folder(folder: Path, *, vision: int = 64) -> Path:
    """A CLIP that sees no order of words: no places and no causal mask. Anagrams differ for it by rounding alone."""
    config = clip_config(words=False)
    config["text_cfg"] |= {"no_causal_mask": True, "pool_type": "last", "width": 64, "heads": 4, "layers": 2}
    config["vision_cfg"] |= {"width": vision, "layers": 2}
    config["embed_dim"] = 64
    config["custom_text"] = True
    module: Any = open_clip.CustomTextCLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.zeros_(module.text.positional_embedding)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def save_words(folder: Path, kind: str = "PreTrainedTokenizerFast", vocabulary: dict[str, int] = VOCABULARY) -> None:
    """Tokenizer files of one token a word; `kind` is the class that they claim."""
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [(token, vocabulary[token]) for token in (START, END)]
    backend.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=START,
        eos_token=END,
        model_max_length=CONTEXT,
    )
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": kind}))


def save_bpe(folder: Path, *, padding: str = END) -> None:
    """The tokenizer files of Stable Diffusion 1 (vocab.json, merges.txt), from the BPE file that open_clip ships.

    padding: of Stable Diffusion 2 it is "!".
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = _bpe()
    (folder / "vocab.json").write_text(vocabulary)
    (folder / "merges.txt").write_text(merges)
    special = {"bos_token": START, "eos_token": END, "pad_token": padding, "unk_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def transformers_folder(folder: Path, *, kind: str = "clip", seed: int = 0, **saving: Any) -> Path:
    """A CLIP or SigLIP as transformers saves it; CLIP with its own tokenizer, SigLIP with one token a word.

    saving: for `save_pretrained`, such as a variant, or a size of shards.
    """
    torch.manual_seed(seed)
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**layers, "image_size": 32, "patch_size": 8}
    made: Any
    if kind == "clip":
        text = clip_text_config(**layers).to_dict()
        made = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
        pixels: Any = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        save_bpe(folder)
    else:
        words = {"vocab_size": len(VOCABULARY), "max_position_embeddings": CONTEXT, "pad_token_id": 0}
        text = {**layers, **words, "bos_token_id": VOCABULARY[START], "eos_token_id": VOCABULARY[END]}
        made = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        pixels = SiglipImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
        folder.mkdir(parents=True, exist_ok=True)
        save_words(folder)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    made.eval().save_pretrained(folder, **saving)
    pixels.save_pretrained(folder)
    return folder


@cache
def _bpe() -> tuple[str, str]:
    """What vocab.json and merges.txt hold."""
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    renamed = {"<start_of_text>": START, "<end_of_text>": END}
    vocabulary = {renamed.get(k, k): v for k, v in open_clip.SimpleTokenizer().encoder.items()}
    return json.dumps(vocabulary), "#version: 0.2\n" + "\n".join(merges) + "\n"


def clip_text_config(*, hidden_size: int, **changes: Any) -> CLIPTextConfig:
    """Of a text encoder with CLIP's vocabulary and two small layers."""
    usual: dict[str, Any] = {
        "vocab_size": 49408,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 1,
    }
    return CLIPTextConfig(hidden_size=hidden_size, **usual | changes)


def sd_folder(folder: Path, *, prediction: str = "epsilon", seed: int = 0, **autoencoder: Any) -> Path:
    """A folder of the shape of Stable Diffusion 1: 32 px, latents of 4 x 4 x 4, PNDM for epsilon and DDIM for v."""
    torch.manual_seed(seed)
    save_bpe(folder / "tokenizer")
    scheduler = PNDMScheduler if prediction == "epsilon" else DDIMScheduler
    pipeline: Any = StableDiffusionPipeline(
        vae=vae(**autoencoder),
        text_encoder=CLIPTextModel(clip_text_config(hidden_size=16)).eval(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=_unet(16),
        scheduler=scheduler(prediction_type=prediction, **NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    save_bpe(folder / "tokenizer")
    return folder


def mini_folder(folder: Path, seed: int = 0) -> Path:
    """A folder of the shape of mini-diffusion: DistilBERT reads, words are tokens, v prediction, stored in half."""
    torch.manual_seed(seed)
    text = DistilBertConfig(
        vocab_size=len(VOCABULARY), max_position_embeddings=CONTEXT, n_layers=2, n_heads=2, dim=16, hidden_dim=32
    )
    parts = {"vae": vae(), "text_encoder": DistilBertModel(text).eval(), "unet": _unet(16)}
    for name, module in parts.items():
        module.half().save_pretrained(folder / name)
    scheduler: Any = DDIMScheduler(prediction_type="v_prediction", **NOISE)
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "tokenizer").mkdir()
    save_words(folder / "tokenizer")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.36.0",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "DistilBertModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def in_hub_cache(cache: Path, repo: str, folder: Path) -> None:
    """Puts a folder into a cache of the Hub as if it had been downloaded."""
    commit = "0" * 40
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    (root / "snapshots").mkdir()
    (root / "snapshots" / commit).symlink_to(folder, target_is_directory=True)


def _unet(width: int) -> Any:
    unet: Any = UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=width,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return unet.eval()


def vae(**changes: Any) -> Any:
    """An autoencoder of 32 px, with latents of 4 x 4 x 4."""
    usual: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (4, 4, 8, 8),
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 32,
    }
    made: Any = AutoencoderKL(**usual | changes)
    return made.eval()
