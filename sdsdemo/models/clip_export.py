"""An open_clip CLIP as a whole model folder that the plain libraries load. Knows no Hub and no model card.

    open_clip      open_clip_config.json, open_clip_model.safetensors and the tokenizer: open_clip's format on the Hub
    transformers   config.json, model.safetensors, preprocessor_config.json and the tokenizer: `CLIPModel`

`CLIPModel` is a ViT that reads its class token, and a causal text tower that reads the end of the text, each with a
linear projection. What has another shape is refused; what has this shape is compared before it is written.

Shape suffixes: I image, C caption, L token, D feature.
"""

from __future__ import annotations

import copy
import gzip
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, default_bpe
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer
from torch import Tensor, nn

from sdsdemo.errors import UserError
from sdsdemo.models.building import builds_alone
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.clip_hub import CONFIG
from sdsdemo.models.clip_text import PARTS
from sdsdemo.models.delta import save_tensors
from sdsdemo.models.precision import exactly
from sdsdemo.models.transformers_module import NEVER_REMOTE
from sdsdemo.runtime.files import from_json, write_json
from sdsdemo.runtime.shapes import shaped

WEIGHTS = "open_clip_model.safetensors"
START, END = "<|startoftext|>", "<|endoftext|>"
RESAMPLE = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers of what open_clip calls an interpolation."""
READ = ("A red Star, left of: the blue circle!", "two dogs & a cat (on a mat) don't run")
"""Captions that both tokenizers must read alike."""
SAME_FEATURES = 1e-4
"""How far normalised features may be off before a conversion counts as wrong; rounding alone makes some 1e-6."""
NO_CLIPMODEL = (
    "{model} cannot be written as transformers' CLIPModel, because {why}: export it with --format open_clip, which "
    "holds every open_clip CLIP."
)
MODULES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "token_embedding.": "text_model.embeddings.token_embedding.",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "transformer.resblocks.": "text_model.encoder.layers.",
    "ln_final.": "text_model.final_layer_norm.",
    "logit_scale": "logit_scale",
}
"""Beginnings of open_clip's names, and what transformers calls them."""
WITHIN = {
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
    ".attn.out_proj.": ".self_attn.out_proj.",
}
"""The same within a block."""


def write_open_clip(model: ClipModel, folder: Path, repo: str = "") -> None:
    """Fills a folder in open_clip's format.

    repo: where it will lie on the Hub, which is where open_clip then looks for a tokenizer of transformers'.
    """
    config = copy.deepcopy(model.facts["model"])
    if repo and config["text_cfg"].get("hf_tokenizer_name"):
        config["text_cfg"]["hf_tokenizer_name"] = repo
    described = {"model_cfg": config, "preprocess_cfg": model.facts["preprocess"]}
    write_json(folder / CONFIG, described, indent=2)
    save_tensors(_plain(model.module.state_dict()), folder / WEIGHTS, {"format": "pt"})
    _save_tokenizer(model, folder)


@builds_alone
def write_transformers(model: ClipModel, folder: Path) -> None:
    """Fills a folder in transformers' format. Raises `UserError` for a model that `CLIPModel` cannot express."""
    from transformers import CLIPModel

    why = _not_expressed(model)
    if why:
        raise UserError(NO_CLIPMODEL.format(model=model.called, why=why))
    pixels = _pixels(model)
    made: Any = CLIPModel(_config(model)).eval()
    made.load_state_dict(_renamed(_one_level(model.module.state_dict())))
    _save_tokenizer(model, folder)
    _check_tokens(model, folder)
    _check_features(model, made)
    made.save_pretrained(folder)
    pixels.save_pretrained(folder)


def _not_expressed(model: ClipModel) -> str:
    """Why `CLIPModel` cannot be this model; empty where it can."""
    visual, text = model.module.visual, _text(model)
    size = model.image_size
    standard = {
        "its picture tower is not a plain ViT": isinstance(visual, VisionTransformer),
        "its picture tower does not read the class token": getattr(visual, "pool_type", "") == "tok",
        "its picture tower has no projection": isinstance(getattr(visual, "proj", None), Tensor),
        "its picture tower has no norm before the blocks": isinstance(getattr(visual, "ln_pre", None), nn.LayerNorm),
        "its picture tower pools by attention": getattr(visual, "attn_pool", None) is None,
        "its norm comes after the pool": not getattr(visual, "final_ln_after_pool", False),
        "its pictures are not square": size[0] == size[1],
        "its text tower is not open_clip's own": isinstance(text, TextTransformer | open_clip.CLIP),
        "its text tower does not read the end of the text": _text_pool(text) in ("argmax", "eos"),
        "its text tower is not causal": isinstance(getattr(text, "attn_mask", None), Tensor)
        and getattr(text, "cls_emb", None) is None,
        "its text tower has no linear projection without a bias": isinstance(
            getattr(text, "text_projection", None), Tensor
        ),
        "it has a bias of the logits": getattr(model.module, "logit_bias", None) is None,
    }
    fault = next((why for why, holds in standard.items() if not holds), "")
    return fault or _other_blocks(visual) or _other_blocks(text)


def _other_blocks(tower: Any) -> str:
    """Why the blocks of a tower are not `CLIPModel`'s; empty where they are."""
    for block in tower.transformer.resblocks:
        plain = {name for name, _ in block.named_children()} == PARTS and isinstance(block.attn, nn.MultiheadAttention)
        if not plain or not (isinstance(block.ls_1, nn.Identity) and isinstance(block.ls_2, nn.Identity)):
            return "its blocks are not the usual ones"
        if _activation(tower) is None:
            return "its activation is neither GELU nor QuickGELU"
    return ""


def _activation(tower: Any) -> str | None:
    """transformers' name of an activation."""
    act = tower.transformer.resblocks[0].mlp.gelu
    if isinstance(act, QuickGELU):
        return "quick_gelu"
    exact = isinstance(act, nn.GELU) and act.approximate == "none"
    return "gelu" if exact else "gelu_pytorch_tanh" if isinstance(act, nn.GELU) else None


def _text(model: ClipModel) -> Any:
    """The module of the text tower, which in open_clip's usual CLIP is the model itself."""
    return getattr(model.module, "text", model.module)


def _text_pool(text: Any) -> str:
    return str(getattr(text, "text_pool_type", getattr(text, "pool_type", "")))


def _config(model: ClipModel) -> Any:
    """`CLIPConfig` of the same sizes."""
    from transformers import CLIPConfig

    visual, text = model.module.visual, _text(model)
    vision_config = _tower(visual) | {
        "image_size": model.image_size[0],
        "patch_size": visual.conv1.kernel_size[0],
    }
    words = model.tokenizer.tokenizer if isinstance(model.tokenizer, HFTokenizer) else model.tokenizer
    text_config = _tower(text) | {
        "vocab_size": text.token_embedding.num_embeddings,
        "max_position_embeddings": model.context_length,
        "eos_token_id": _id(words, "eos_token_id", END),
        "bos_token_id": _id(words, "bos_token_id", START),
        "pad_token_id": getattr(words, "pad_token_id", None),
    }
    width = visual.proj.shape[1]
    for tower in (vision_config, text_config):
        tower["projection_dim"] = width
    return CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=width)


def _tower(tower: Any) -> dict[str, Any]:
    block = tower.transformer.resblocks[0]
    return {
        "hidden_size": block.ln_1.normalized_shape[0],
        "intermediate_size": block.mlp.c_fc.out_features,
        "num_hidden_layers": len(tower.transformer.resblocks),
        "num_attention_heads": block.attn.num_heads,
        "hidden_act": _activation(tower),
        "layer_norm_eps": block.ln_1.eps,
    }


def _id(words: Any, name: str, mark: str) -> int | None:
    """The id of a mark: a tokenizer of transformers' names it, open_clip's own has it in its vocabulary."""
    if isinstance(words, SimpleTokenizer):
        return int(words.sot_token_id if mark == START else words.eot_token_id)
    found: int | None = getattr(words, name, None)
    return found


def _pixels(model: ClipModel) -> Any:
    """The image processor that prepares pictures as the model does. Raises `UserError`."""
    from transformers import CLIPImageProcessorPil

    facts, (side, _) = model.facts["preprocess"], model.image_size
    mode, resample = facts.get("resize_mode", "shortest"), RESAMPLE.get(facts.get("interpolation", "bicubic"))
    if mode not in ("shortest", "squash") or resample is None:
        why = f"its preprocessing ({mode}, {facts.get('interpolation')}) has no counterpart"
        raise UserError(NO_CLIPMODEL.format(model=model.called, why=why))
    square = {"height": side, "width": side}
    return CLIPImageProcessorPil(
        size=square if mode == "squash" else {"shortest_edge": side},
        crop_size=square,
        do_center_crop=mode == "shortest",
        image_mean=list(facts["mean"]),
        image_std=list(facts["std"]),
        resample=resample,
    )


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict by transformers' names."""
    made: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == "visual.proj":
            made["visual_projection.weight"] = tensor.T
        elif name == "text_projection":
            made["text_projection.weight"] = tensor.T
        else:
            made |= _in_block(_begun(name), tensor)
    return _plain(made)


def _begun(name: str) -> str:
    start = next(start for start in MODULES if name.startswith(start))
    return MODULES[start] + name.removeprefix(start)


def _in_block(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Query, key and value are one tensor in open_clip, three in transformers."""
    for old, new in WITHIN.items():
        name = name.replace(old, new)
    start, joined, kind = name.partition(".attn.in_proj_")
    if not joined:
        return {name: tensor}
    return {f"{start}.self_attn.{part}_proj.{kind}": third for part, third in zip("qkv", tensor.chunk(3), strict=True)}


def _one_level(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the `text.` of a CLIP whose text tower is a module of its own."""
    return {name.removeprefix("text."): tensor for name, tensor in state.items()}


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each in memory of its own."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def _save_tokenizer(model: ClipModel, folder: Path) -> None:
    """The tokenizer's files in transformers' format, without a trace of where they were read."""
    own = model.tokenizer.tokenizer if isinstance(model.tokenizer, HFTokenizer) else _clips_own(model.context_length)
    own.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    held: dict[str, Any] = shaped(from_json(path.read_bytes()), dict[str, Any])
    kept = {key: value for key, value in held.items() if key not in ("is_local", "local_files_only", "name_or_path")}
    if kept.get("tokenizer_class") == "TokenizersBackend":  # a name that older versions do not know
        kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_json(path, kept, indent=2)


def _clips_own(context_length: int) -> Any:
    """CLIP's tokenizer as transformers has it, from the vocabulary that open_clip ships."""
    from transformers import CLIPTokenizer

    ours = SimpleTokenizer()
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1 : len(ours.bpe_ranks) + 1]
    named = {"<start_of_text>": START, "<end_of_text>": END}
    vocabulary = {named.get(word, word): token for word, token in ours.encoder.items()}
    return CLIPTokenizer(vocabulary, [tuple(merge.split()) for merge in merges], model_max_length=context_length)


def _check_tokens(model: ClipModel, folder: Path) -> None:
    """Raises `UserError` where the written tokenizer alone reads captions otherwise than open_clip does."""
    from transformers import AutoTokenizer

    length = model.context_length
    rows = AutoTokenizer.from_pretrained(folder, **NEVER_REMOTE)(
        list(READ), truncation=True, max_length=length, add_special_tokens=True
    )["input_ids"]
    for ours, theirs in zip(model.tokenizer(list(READ)).tolist(), rows, strict=True):
        if ours[: len(theirs)] != theirs:
            why = "open_clip changes its captions before the tokenizer reads them"
            raise UserError(NO_CLIPMODEL.format(model=model.called, why=why))


def _check_features(model: ClipModel, made: Any) -> None:
    """Raises `UserError` where the converted model answers otherwise: its architecture differs in what is not seen."""
    token_CL = model.tokenizer(list(READ)).to(model.device)
    pixel_I = torch.linspace(-2, 2, 2 * 3 * model.image_size[0] ** 2, device=model.device)
    pixel_I = pixel_I.sin().reshape(2, 3, *model.image_size)
    made = made.to(model.device)
    with exactly(model.device):
        pairs = (
            (model._image_features(pixel_I), made.get_image_features(pixel_values=pixel_I).pooler_output),
            (model._text_features(token_CL), made.get_text_features(input_ids=token_CL).pooler_output),
        )
    off = max(float((ours - nn.functional.normalize(theirs, dim=-1)).abs().max()) for ours, theirs in pairs)
    if not off <= SAME_FEATURES:
        raise UserError(NO_CLIPMODEL.format(model=model.called, why=f"its features would be off by {off:.1g}"))
