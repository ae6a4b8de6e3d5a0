"""Where a CLIP's config, weights and tokenizer come from, and what open_clip makes of them. Scores nothing.

What the library only warns about is an error here: it would change every score.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.tokenizer import HFTokenizer
from safetensors import SafetensorError
from torch import Tensor

from sdsdemo.errors import UserError
from sdsdemo.models import sources
from sdsdemo.models.tokens import check_ids, check_tokenizer

WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""Names of the weights in a repository, best first."""
CONFIG = "open_clip_config.json"
GELU = (
    "{name}/{tag} was trained {how} QuickGELU, but the architecture {name} is built {other} it, and every score would "
    "be off: use {better}/{tag}."
)
NO_TEXT_CONFIG = (
    "The text encoder of {model} needs a config of another repository, and downloads are off: allow them "
    "(SDSDEMO_ALLOW_DOWNLOAD=on)."
)
BROKEN = "The weights of {model} do not fit its config, or the file is broken: fetch or save the model again."
NO_END = (
    "The text encoder of {model} looks for the end of a caption at its highest token, and its tokenizer gives the end "
    "a lower one: save the model again with the end of text as the last word of the vocabulary."
)
PROBE = "a red star left of a blue circle"


@dataclass(frozen=True, kw_only=True)
class ClipFiles:
    """What open_clip needs to build a model without looking anything up."""

    name: str
    """open_clip's name, or `local-dir:FOLDER`."""
    weights: Path
    preprocess: dict[str, Any]
    config: dict[str, Any]
    tokenizer: str | Path | None
    """Source of a transformers tokenizer; None for open_clip's own."""


def find_clip(spec: str, allow_download: bool) -> ClipFiles:
    """Finds config, weights and tokenizer of a spec. Raises `UserError`."""
    family, rest = sources.split_spec(spec)
    if family != "clip":
        raise UserError(
            f"{spec!r} is no CLIP: write open_clip:NAME/TAG, open_clip:hf-hub:... or open_clip:local-dir:..."
        )
    if rest.startswith(sources.LOCAL_DIR):
        return _in_folder(sources.local_path(rest.removeprefix(sources.LOCAL_DIR)), None)
    if rest.startswith(sources.HF_HUB):
        repo = rest.removeprefix(sources.HF_HUB)
        sources.repo_file(repo, WEIGHTS, allow_download=allow_download)
        patterns = [CONFIG, "*token*", "vocab*", "merges.txt", "spiece.model"]
        config = sources.repo_file(repo, [CONFIG], allow_download=allow_download)
        if allow_download:
            sources.repo_folder(repo, patterns, allow_download=True)
        return _in_folder(config.parent, repo)
    return _by_name(rest, allow_download)


def _in_folder(folder: Path, repo: str | None) -> ClipFiles:
    """repo: where the folder was downloaded from; its config may then name a tokenizer of another repository."""
    name = repo or folder.name
    if not (folder / CONFIG).is_file():
        raise UserError(f"There is no CLIP called {name!r}: its folder must hold {CONFIG} and the weights.")
    try:
        described = json.loads((folder / CONFIG).read_text())
        config, preprocess = described["model_cfg"], described.get("preprocess_cfg", {})
        wanted = config["text_cfg"].get("hf_tokenizer_name")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"The {CONFIG} of {name!r} is not a config of open_clip: save the model again.") from error
    weights = next((folder / file for file in WEIGHTS if (folder / file).is_file()), None)
    if weights is None:
        raise UserError(f"The weights of {name!r} are missing: its folder must hold {WEIGHTS[0]}.")
    own = repo in (None, wanted) or (folder / "tokenizer.json").is_file()
    tokenizer = (folder if own else wanted) if wanted else None
    return ClipFiles(
        name=f"{sources.LOCAL_DIR}{folder}", weights=weights, preprocess=preprocess, config=config, tokenizer=tokenizer
    )


def _by_name(rest: str, allow_download: bool) -> ClipFiles:
    """NAME/TAG: config from open_clip, weights and preprocessing from the tag."""
    name, _, tag = rest.partition("/")
    config, facts = open_clip.get_model_config(name), get_pretrained_cfg(name, tag)
    if config is None or not facts:
        raise UserError(f"open_clip knows no {rest!r}. {_known(name)}")
    if bool(config.get("quick_gelu", False)) != bool(facts.get("quick_gelu", False)):
        raise UserError(_gelu_words(name, tag, quick=bool(facts.get("quick_gelu", False))))
    if "hf_model_name" in config["text_cfg"] and not allow_download:
        raise UserError(NO_TEXT_CONFIG.format(model=rest))
    return ClipFiles(
        name=name,
        weights=_tagged_weights(rest, facts, allow_download),
        preprocess=facts,
        config=config,
        tokenizer=config["text_cfg"].get("hf_tokenizer_name"),
    )


def fetch_clip(spec: str) -> None:
    """Downloads config, weights and tokenizer of a spec, without building the model. Raises `UserError`."""
    files = find_clip(spec, allow_download=True)
    tokenizer_of(files, context_length_of(files), allow_download=True)


def hub_file(spec: str) -> tuple[str, tuple[str, ...]] | None:
    """Repository and possible names of the weights of a spec that are on the Hub; None for any other spec."""
    _, rest = sources.split_spec(spec)
    if rest.startswith(sources.HF_HUB):
        return rest.removeprefix(sources.HF_HUB), WEIGHTS
    name, _, tag = rest.partition("/")
    return _hub_file(get_pretrained_cfg(name, tag))


def _hub_file(facts: dict[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """open_clip writes ORG/REPO/FILE, or ORG/REPO/ for its usual file names."""
    repo, _, file = facts.get("hf_hub", "").rpartition("/")
    if not repo:
        return None
    return repo, (str(Path(file).with_suffix(".safetensors")), file) if file else WEIGHTS


def named_here(spec: str) -> tuple[Path, dict[str, Any], dict[str, Any]] | None:
    """Weights, architecture and facts of NAME/TAG where the weights are on this machine. Reaches no network."""
    name, _, tag = sources.split_spec(spec)[1].partition("/")
    config, facts = open_clip.get_model_config(name), get_pretrained_cfg(name, tag)
    on_hub = _hub_file(facts)
    file = None if on_hub is None else sources.cached_file(*on_hub)
    return None if config is None or file is None else (file, config, facts)


def _tagged_weights(rest: str, facts: dict[str, Any], allow_download: bool) -> Path:
    on_hub = _hub_file(facts)
    if on_hub is None:
        raise UserError(f"The weights of {rest} are not on the Hugging Face Hub: choose another tag.")
    return sources.repo_file(*on_hub, allow_download=allow_download)


def build(files: ClipFiles, spec: str, device: torch.device | str) -> Any:
    """open_clip's module, float32. All that could be looked up is given, so that nothing reaches the network.

    spec: for the words of the `UserError` that is raised where the weights do not fit the config.
    """
    local = files.name.startswith(sources.LOCAL_DIR)
    try:
        return open_clip.create_model(
            files.name,
            pretrained=None if local else str(files.weights),
            precision="fp32",
            device=device,
            force_preprocess_cfg={key: value for key, value in files.preprocess.items() if key != "size"},
            require_pretrained=True,
        )
    except (SafetensorError, RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(BROKEN.format(model=called(spec))) from error


def context_length_of(files: ClipFiles) -> int:
    """Tokens of a caption, start and end included."""
    return int(files.config["text_cfg"].get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH))


def tokenizer_of(files: ClipFiles, context_length: int, allow_download: bool) -> Callable[..., Tensor]:
    """open_clip's tokenizer, as its `get_tokenizer` chooses it, but never from the network unless allowed.

    Raises `UserError` where it is missing, broken or of another model.
    """
    if files.tokenizer is None:
        return open_clip.get_tokenizer(files.name, context_length=context_length)
    text, name = files.config["text_cfg"], files.name.rpartition("/")[2]
    try:
        tokenizer = HFTokenizer(
            files.tokenizer,
            context_length=context_length,
            tokenizer_mode=text.get("tokenizer_mode"),
            local_files_only=isinstance(files.tokenizer, Path) or not allow_download,
            **text.get("tokenizer_kwargs", {}),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"The tokenizer of {name!r} is missing or broken: fetch or save the model again.") from error
    check_tokenizer(tokenizer.tokenizer, name)
    return tokenizer


def check_tokens(tokenizer: Callable[..., Tensor], module: Any, size: int, name: str) -> None:
    """Raises `UserError` for ids beyond the table, or an end that a tower that looks for the highest id would miss."""
    highest = int(tokenizer([PROBE]).max())
    check_ids(highest, size, name)
    pool = getattr(module, "text_pool_type", None) or getattr(getattr(module, "text", None), "pool_type", None)
    end = getattr(getattr(tokenizer, "tokenizer", None), "eos_token_id", None)
    if pool == "argmax" and end is not None and highest != end:
        raise UserError(NO_END.format(model=name))


def facts_of(spec: str, config: dict[str, Any], preprocess: dict[str, Any]) -> dict[str, Any]:
    """The exact architecture and preprocessing, as JSON can hold it."""
    facts = {
        "spec": spec,
        "activation": "quick_gelu" if config.get("quick_gelu", False) else "gelu",
        "preprocess": preprocess,
        "model": config,
    }
    return json.loads(json.dumps(facts, default=str))


def _gelu_words(name: str, tag: str, *, quick: bool) -> str:
    better = f"{name}-quickgelu" if quick else name.removesuffix("-quickgelu")
    how, other = ("with", "without") if quick else ("without", "with")
    return GELU.format(name=name, tag=tag, how=how, other=other, better=better)


def _known(name: str) -> str:
    tags = list_pretrained_tags_by_model(name)
    return f"Tags of {name}: {', '.join(tags)}." if tags else "`open_clip.list_pretrained()` names what it knows."


def called(spec: str) -> str:
    """A spec without the path of its folder, for people to read."""
    return spec.rpartition("/")[2] if sources.LOCAL_DIR in spec else spec
