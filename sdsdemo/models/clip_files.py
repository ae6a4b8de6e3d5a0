"""Where a CLIP's config, weights and tokenizer come from, and the model that open_clip makes of them. Scores nothing.

What the library only warns about is an error here: it would change every score.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.transform import PreprocessCfg

from sdsdemo.errors import UserError
from sdsdemo.models import sources
from sdsdemo.models.building import builds_alone
from sdsdemo.models.checkpoints import put, read_state
from sdsdemo.models.clip_hub import CONFIG, TOKENIZERS, text_config, text_settings, weights_of_tag
from sdsdemo.models.clip_hub import WEIGHTS as HUB_WEIGHTS
from sdsdemo.models.configs import OpenClip, read_config
from sdsdemo.models.finite import check_finite
from sdsdemo.models.transformers_files import TOKENIZER_FILES
from sdsdemo.models.weights import CLIP_WEIGHTS as WEIGHTS
from sdsdemo.models.weights import clip_weights

PIXELS = ("mean", "std", "interpolation", "resize_mode", "fill_color")
"""What open_clip knows of how a tag's pictures are prepared, beside their size."""
GELU = (
    "{name}/{tag} was trained {how} QuickGELU, but the architecture {name} is built {other} it, and every score would "
    "be off: use {better}/{tag}."
)
BROKEN = "The config of {model} describes no model that open_clip can build: fetch or save the model again."
ELSEWHERE = (
    "The picture encoder of {name!r} is one of another repository ({timm}), which is not looked up: save the model "
    "with the name of its architecture in timm."
)
TOO_LARGE = "The config of {model} describes a larger model than its weights hold: fetch or save the model again."
NO_ARCHITECTURE = (
    "{file} holds weights without their architecture: write open_clip:NAME/{file} with its path, NAME being the "
    "architecture that it was trained with (such as ViT-B-32), or put its {config} beside it."
)
NO_FILE = "There is no file of weights called {file!r}: check its name and path."
NO_TAG_NAMED = "open_clip:{name} names an architecture without its weights: write open_clip:{name}/TAG. {known}"
NO_TAG = "{name} has no weights called {tag!r} in open_clip. {known}"
NO_NAME = "open_clip knows no architecture called {name!r}. {known}"


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
    text_folder: Path | None
    """Where the config of a text encoder of transformers lies; None for open_clip's own."""


def find_clip(spec: str, allow_download: bool) -> ClipFiles:
    """Finds config, weights and tokenizer of a spec. Raises `UserError`."""
    family, rest = sources.split_spec(spec)
    if family != "clip":
        raise UserError(
            f"{spec!r} is not a CLIP: write open_clip:NAME/TAG, open_clip:hf-hub:... or open_clip:local-dir:..."
        )
    if rest.startswith(sources.LOCAL_DIR):
        return _in_folder(sources.local_path(rest.removeprefix(sources.LOCAL_DIR)), None, allow_download)
    if rest.startswith(sources.HF_HUB):
        return _in_repo(*sources.split_hub(rest), allow_download)
    return _by_name(rest, allow_download)


def _in_repo(repo: str, revision: str | None, allow_download: bool) -> ClipFiles:
    """All of one commit, that of the weights: a newer one may have come since they were downloaded."""
    weights = sources.repo_file(repo, HUB_WEIGHTS, allow_download=allow_download, revision=revision)
    commit = weights.parent.name
    config = sources.repo_file(repo, [CONFIG], allow_download=allow_download, revision=commit)
    has_tokenizer = any((config.parent / file).is_file() for file in TOKENIZERS)
    if allow_download and not has_tokenizer and text_settings(config).get("hf_tokenizer_name"):
        sources.repo_folder(repo, TOKENIZER_FILES, allow_download=True, revision=commit)
    return _in_folder(weights, repo, allow_download)


def _in_folder(place: Path, repo: str | None, allow_download: bool) -> ClipFiles:
    """place: a folder, or a file of weights in it. repo: where it was downloaded from; its config may then name a
    tokenizer of another repository."""
    folder = place.parent if place.is_file() else place
    name = repo or place.name
    if place.suffix in sources.WEIGHT_SUFFIXES and not place.is_dir():
        if not place.is_file():
            raise UserError(NO_FILE.format(file=place.name))
        if not (folder / CONFIG).is_file():
            raise UserError(NO_ARCHITECTURE.format(file=place.name, config=CONFIG))
    if not (folder / CONFIG).is_file():
        raise UserError(f"There is no CLIP called {name!r}: its folder must hold {CONFIG} and the weights.")
    described = read_config(folder / CONFIG, OpenClip, name)
    config, preprocess = described["model_cfg"], described.get("preprocess_cfg", {})
    wanted = config["text_cfg"].get("hf_tokenizer_name")
    weights = place if place.is_file() else clip_weights(folder)
    if weights is None:
        raise UserError(f"The weights of {name!r} are missing: its folder must hold {WEIGHTS[0]}.")
    own = repo in (None, wanted) or (folder / "tokenizer.json").is_file()
    tokenizer = (folder if own else wanted) if wanted else None
    timm = config["vision_cfg"].get("timm_model_name")
    if isinstance(timm, str) and ":" in timm:
        raise UserError(ELSEWHERE.format(name=name, timm=ascii(timm[:80])))
    return ClipFiles(
        name=f"{sources.LOCAL_DIR}{folder}",
        weights=weights,
        preprocess=preprocess,
        config=config,
        tokenizer=tokenizer,
        text_folder=_text_folder(config, repr(name), allow_download),
    )


def _by_name(rest: str, allow_download: bool) -> ClipFiles:
    """NAME/TAG: config from open_clip, weights and preprocessing from the tag."""
    check_name(rest)
    name, _, tag = rest.partition("/")
    config, file = open_clip.get_model_config(name), sources.checkpoint_named_by(f"open_clip:{rest}")
    facts = get_pretrained_cfg(name, tag) if file is None else usual_pixels(name)
    return ClipFiles(
        name=name,
        weights=file or _tagged_weights(rest, facts, allow_download),
        preprocess=facts,
        config=config,
        tokenizer=config["text_cfg"].get("hf_tokenizer_name"),
        text_folder=_text_folder(config, rest, allow_download),
    )


def usual_pixels(name: str) -> dict[str, Any]:
    """How all released weights of an architecture prepare a picture, for a file that does not say it.

    Empty where that is open_clip's default, and where they differ or there are none, so that the default is taken.
    """
    of_tags = [get_pretrained_cfg(name, tag) for tag in list_pretrained_tags_by_model(name)]
    found = [{key: facts[key] for key in PIXELS if facts.get(key) is not None} for facts in of_tags]
    usual = found[0] if found and all(one == found[0] for one in found) else {}
    default = asdict(PreprocessCfg())
    return usual if any(value != default[key] for key, value in usual.items()) else {}


def pixels_taken(name: str) -> dict[str, str]:
    """What is taken for a file of an architecture, to be read: its mean as ".5 .5 .5", and so on."""
    taken = asdict(PreprocessCfg()) | usual_pixels(name)
    return {k: str(v) if isinstance(v, str | int) else " ".join(f"{x:.3g}" for x in v) for k, v in taken.items()}


def _text_folder(config: dict[str, Any], model: str, allow_download: bool) -> Path | None:
    repo = config["text_cfg"].get("hf_model_name")
    return text_config(repo, model, allow_download) if repo else None


def check_name(rest: str) -> None:
    """Raises `UserError` for NAME/TAG or NAME/FILE that means nothing: an unknown name or tag, another activation."""
    name, _, tag = rest.partition("/")
    config = open_clip.get_model_config(name)
    if config is None:
        raise UserError(NO_NAME.format(name=name, known=_close_names(name, tag)))
    file = sources.checkpoint_named_by(f"open_clip:{rest}")
    if file is not None:
        if not file.is_file():
            raise UserError(NO_FILE.format(file=file.name))
        return
    _check_tag(name, tag, config)


def _check_tag(name: str, tag: str, config: dict[str, Any]) -> None:
    """Raises `UserError` for a tag that is missing or unknown, or whose weights want another activation."""
    if not tag:
        raise UserError(NO_TAG_NAMED.format(name=name, known=_tags(name)))
    facts = get_pretrained_cfg(name, tag)
    if not facts:
        raise UserError(NO_TAG.format(name=name, tag=tag, known=_tags(name)))
    quick = bool(facts.get("quick_gelu", False))
    if bool(config.get("quick_gelu", False)) != quick:
        raise UserError(_gelu_words(name, tag, quick=quick))


def architectures() -> list[str]:
    """Names that open_clip has a config of."""
    names: list[str] = open_clip.list_models()
    return names


def is_quick(name: str) -> bool:
    """Whether an architecture is built with QuickGELU."""
    return bool((open_clip.get_model_config(name) or {}).get("quick_gelu", False))


def named_here(spec: str) -> tuple[Path, dict[str, Any], dict[str, Any]] | None:
    """Weights, architecture and facts of NAME/TAG where the weights are on this machine. Reaches no network."""
    name, _, tag = sources.split_spec(spec)[1].partition("/")
    config, file = open_clip.get_model_config(name), sources.checkpoint_named_by(spec)
    facts = get_pretrained_cfg(name, tag) if file is None else usual_pixels(name)
    on_hub = weights_of_tag(facts)
    if file is None and on_hub is not None:
        file = on_hub.cached
    return None if config is None or file is None or not file.is_file() else (file, config, facts)


def _tagged_weights(rest: str, facts: dict[str, Any], allow_download: bool) -> Path:
    on_hub = weights_of_tag(facts)
    if on_hub is None:
        raise UserError(f"The weights of {rest} are not on the Hugging Face Hub: choose another tag.")
    return sources.repo_file(on_hub.repo, on_hub.names, allow_download=allow_download)


@builds_alone
def build(files: ClipFiles, spec: str, device: torch.device | str) -> Any:
    """open_clip's module, float32. All that could be looked up is given, so that nothing reaches the network.

    spec: for the words of the `UserError` that is raised where the weights do not fit the config, or are not finite.
    """
    name = called(spec)
    state = read_state(files.weights, name)
    options: dict[str, Any] = {}
    if files.text_folder is not None:
        there = {"hf_model_name": str(files.text_folder), "hf_model_pretrained": False}
        options = {"text_cfg": files.config["text_cfg"] | there}
    if _is_too_large(files):
        raise UserError(TOO_LARGE.format(model=name))
    try:
        with _quiet():
            module: Any = open_clip.create_model(
                files.name,
                load_weights=False,
                pretrained_text=False,
                precision="fp32",
                device=device,
                force_preprocess_cfg={key: value for key, value in files.preprocess.items() if key != "size"},
                **options,
            )
    except Exception as error:  # what a strange config makes of the library's constructors is an open set
        raise UserError(BROKEN.format(model=name)) from error
    put(state, module, name)
    check_finite(module.state_dict(), name)
    return module


def _is_too_large(files: ClipFiles) -> bool:
    """Whether a folder's config asks for more numbers than its weights have bytes: it would only fill the memory."""
    text, vision = files.config["text_cfg"], files.config["vision_cfg"]
    if not files.name.startswith(sources.LOCAL_DIR) or "hf_model_name" in text:
        return False
    width, layers = text.get("width", 512), text.get("layers", 12)
    numbers = 12 * layers * width**2 + (text.get("vocab_size", 0) + text.get("context_length", 0)) * width
    width, layers, patch, size = (vision.get(key, 0) for key in ("width", "layers", "patch_size", "image_size"))
    if all(isinstance(number, int) for number in (width, layers, patch, size)):
        places = (size // (patch or 1)) ** 2 if vision.get("pos_embed_type", "learnable") == "learnable" else 0
        numbers += 12 * layers * width**2 + (3 * patch**2 + places) * width
    return bool(numbers > files.weights.stat().st_size)


@contextmanager
def _quiet() -> Iterator[None]:
    """The library warns of random weights, which are filled right after."""
    root = logging.getLogger()
    root.addFilter(_nothing)
    try:
        yield
    finally:
        root.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def facts_of(spec: str, config: dict[str, Any], preprocess: dict[str, Any]) -> dict[str, Any]:
    """The exact architecture and preprocessing, as JSON can hold it."""
    facts = {
        "spec": spec,
        "activation": "quick_gelu" if config.get("quick_gelu", False) else "gelu",
        "preprocess": preprocess,
        "model": config,
    }
    as_stored: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return as_stored


def _gelu_words(name: str, tag: str, *, quick: bool) -> str:
    better = f"{name}-quickgelu" if quick else name.removesuffix("-quickgelu")
    how, other = ("with", "without") if quick else ("without", "with")
    return GELU.format(name=name, tag=tag, how=how, other=other, better=better)


def _tags(name: str) -> str:
    tags = list_pretrained_tags_by_model(name)
    known = f"It has {', '.join(tags)}" if tags else "It has none"
    return f"{known}; or name a file of your own, open_clip:{name}/PATH/epoch_5.pt."


def _close_names(name: str, tag: str) -> str:
    """What may be meant by a name that is no architecture."""
    known = open_clip.list_models()
    by_letters = {re.sub(r"[^a-z0-9]", "", one.lower()): one for one in known}
    close = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", name.lower()), list(by_letters), n=4, cutoff=0.6)
    meant = f"Did you mean {' or '.join(by_letters[one] for one in close)}?" if close else ""
    repo = f"A repository of the Hub is written open_clip:hf-hub:{name}/{tag}." if tag and not close else ""
    return f"{meant} {repo}".strip() or "`python -c 'import open_clip; print(open_clip.list_models())'` lists them."


def called(spec: str) -> str:
    """A spec without the path of its folder, for people to read."""
    file = sources.checkpoint_named_by(spec)
    if sources.LOCAL_DIR in spec:
        return spec.rpartition("/")[2]
    return spec if file is None else f"{sources.split_spec(spec)[1].partition('/')[0]}/{file.name}"
