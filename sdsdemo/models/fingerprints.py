"""What a model's scores depend on, as a digest by part: weights, architecture, preprocessing, tokenizer, and so on.

    weights         each file that is read, of whatever kind, the parts of a pipeline apart
    configs         what they hold, not how they are written: spaces and the order of keys change nothing
    open_clip       for a name and a tag, the library's own facts of them, which an update may change
    timestep range  the part of the schedule that a card's timesteps are spread over

A path, a time and a machine are in none of them. Reads no tensor, and loads a library only for a name of open_clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sdsdemo.core.wording import and_list
from sdsdemo.errors import UserError
from sdsdemo.models import sources, transformers_files, weights
from sdsdemo.models.delta_header import read_header
from sdsdemo.models.pipelines import INDEX, Layout, layout_of, read_index, sample_size
from sdsdemo.runtime.digests import SMALL, Digests, digest_of, digest_of_json
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped
from sdsdemo.settings import Settings
from sdsdemo.types import Card

KEPT = "digests.jsonl"
"""In the folder SDSDEMO_CACHE."""
CLIP_CONFIG, KNOWS = "open_clip_config.json", "knows.json"
TOKENIZER = ("*token*", "vocab*", "merges.txt", "*.model", "config.json")
"""Files beside the weights of a CLIP that its tokenizer is made from."""
TOLD = ("_name_or_path", "_diffusers_version", "transformers_version")
"""Keys of a config that say where it comes from and change no score."""
FACTS = ("mean", "std", "size", "interpolation", "resize_mode", "fill_color", "quick_gelu")
"""What open_clip knows of a tag that changes a score."""

Parts = dict[str, str]
"""Digest by part; a part that is short enough stands there itself."""


def parts_of(card: Card, resolve: Callable[[str], Card]) -> Parts:
    """What a card's scores depend on; empty where its files are not here.

    resolve: gives the card of the base that a fine-tuned file names. Raises `UserError` for a file
    that cannot be one.
    """
    if card.family == "sds-clip":
        return _parts_of_delta(card, resolve)
    if card.family in ("transformers", "vlm"):
        return _parts_of_transformers(card)
    return _parts_of_clip(card) if card.family == "clip" else _parts_of_pipeline(card)


def whole(parts: Mapping[str, str]) -> str:
    """One digest of all parts."""
    return digest_of_json(dict(parts))


def what_changed(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """In words, the parts that differ: "preprocessing and tokenizer"; empty where nothing does."""
    changed = [part for part in dict.fromkeys((*old, *new)) if old.get(part) != new.get(part)]
    return and_list(changed)


def digest_of_weights(files: Iterable[Path]) -> str:
    """SHA-256 over weight files, one after the other."""
    paths = list(files)
    return digests().of(paths[0]) if len(paths) == 1 else digest_of(paths)


def digests() -> Digests:
    """Digests of this user's files, kept between processes."""
    return _digests(Settings.from_environment().cache / KEPT)


@lru_cache(maxsize=8)
def _digests(kept: Path) -> Digests:
    return Digests(kept)


def _parts_of_delta(card: Card, resolve: Callable[[str], Card]) -> Parts:
    path = sources.local_path(sources.split_spec(card.spec)[1])
    if not path.is_file():
        return {}
    base = parts_of(resolve(read_header(path)["base"]), resolve)
    return {"fine-tuned weights": digests().of(path)} | {f"base's {k}": v for k, v in base.items()} if base else {}


def _parts_of_clip(card: Card) -> Parts:
    rest = sources.split_spec(card.spec)[1]
    if rest.startswith(sources.LOCAL_DIR):
        place = sources.local_path(rest.removeprefix(sources.LOCAL_DIR))
        folder, named = (place.parent, place) if place.is_file() else (place, None)
        return _parts_of_clip_folder(folder, named)
    if rest.startswith(sources.HF_HUB):
        from sdsdemo.models.clip_hub import weights_on_hub

        on_hub = weights_on_hub(card.spec)
        file = on_hub.cached if on_hub is not None else None
        return {} if file is None else _parts_of_clip_folder(file.parent, file) | _commit(file)
    return _parts_of_named_clip(card.spec, rest)


def _parts_of_clip_folder(folder: Path, named: Path | None) -> Parts:
    """named: the weights where they are not those of the folder."""
    file = named or weights.clip_weights(folder)
    if file is None or not (folder / CLIP_CONFIG).is_file():
        return {}
    described = _json(folder / CLIP_CONFIG)
    model = described.get("model_cfg") if isinstance(described, dict) else described
    preprocess = described.get("preprocess_cfg") if isinstance(described, dict) else None
    parts = {
        "weights": digests().of(file),
        "architecture": digest_of_json(model),
        "preprocessing": digest_of_json(preprocess),
        **_of_file("domain", folder / KNOWS),
    }
    text = model.get("text_cfg") if isinstance(model, dict) else None
    tokenizer = text.get("hf_tokenizer_name") if isinstance(text, dict) else None
    return parts | (_tokenizer(folder, str(tokenizer)) if tokenizer else {})


def _parts_of_named_clip(spec: str, rest: str) -> Parts:
    """NAME/TAG or NAME/FILE: what the library says of them is a part."""
    from sdsdemo.models import clip_files

    found = clip_files.named_here(spec)
    if found is None:
        return {}
    file, config, facts = found
    tokenizer = config.get("text_cfg", {}).get("hf_tokenizer_name")
    return {
        "weights": digests().of(file),
        "architecture": digest_of_json([rest.partition("/")[0], config]),
        "preprocessing": digest_of_json({key: facts.get(key) for key in FACTS}),
    } | (_tokenizer(None, str(tokenizer)) if tokenizer else {})


def _parts_of_transformers(card: Card) -> Parts:
    """A model in the folder of transformers'; its chat template counts among the tokenizer's files."""
    folder = transformers_files.cached_folder(card.spec, card.revision)
    if folder is None or not folder.is_dir():
        return {}
    name = folder.name
    try:
        files = [file for file in transformers_files.checked_weights(folder, name).files if not file.endswith(".json")]
        pixels = transformers_files.pixels_config(folder, name)
        config = transformers_files.read_any_config(folder, name)
    except UserError:
        return {}
    held = [digests().of(folder / file) for file in files]
    return {
        "weights": held[0] if len(held) == 1 else digest_of_json(held),
        "architecture": digest_of_json({k: v for k, v in config.items() if k not in TOLD}),
        "preprocessing": digest_of_json(pixels),
        "tokenizer": digest_of_json({path.name: _digest(path) for path in transformers_files.tokenizer_files(folder)}),
        **(_of_processor(folder) if card.family == "vlm" else {}),
        **_of_file("domain", folder / KNOWS),
        **_commit(folder / transformers_files.CONFIG),
    }


def _of_processor(folder: Path) -> Parts:
    """What a processor's config holds beside the preprocessing of pictures, as the tokens that a picture takes."""
    told = _json(folder / transformers_files.PROCESSOR)
    held = told if isinstance(told, dict) else {}
    rest = {k: v for k, v in held.items() if k not in (*TOLD, "image_processor")}
    return {"processor": digest_of_json(rest)} if rest else {}


def _parts_of_pipeline(card: Card) -> Parts:
    name = sources.split_revision(sources.split_spec(card.spec)[1])[0]
    index = sources.pipeline_file(card.spec, INDEX, card.revision)
    if index is None:
        return {}
    folder, parts = index.parent, {}
    try:
        layout = layout_of(read_index(folder, name))
    except UserError:
        return {}
    for part in layout.with_weights:
        found = weights.part_weights(folder, part)
        if found is None:
            return {}
        files = [digests().of(folder / part / file) for file in found.files if not file.endswith(".json")]
        parts[f"{_words(part)} weights"] = files[0] if len(files) == 1 else digest_of_json(files)
    for part in layout.with_weights:
        parts |= _of_file(f"{_words(part)} config", folder / part / "config.json")
    parts |= _corrected_size(layout, folder / layout.denoiser / "config.json")
    parts |= _of_file("pipeline", folder / INDEX) | _of_file("domain", folder / KNOWS)
    for part in ("scheduler", *layout.tokenizers):
        parts |= _of_files(_words(part), folder / part)
    low, high = card.timestep_range
    return parts | {"timestep range": f"{low:g} to {high:g}"} | (_commit(index) if sources.is_repo(name) else {})


def _corrected_size(layout: Layout, path: Path) -> Parts:
    """The size of latents where it is another than the denoiser's config says: it depends on who wrote the config."""
    told = _json(path)
    config = told if isinstance(told, dict) else {}
    side = sample_size(layout, config)
    return {} if side == config.get("sample_size") else {"native size": str(side)}


def _words(part: str) -> str:
    return part.replace("_", " ")


def _tokenizer(folder: Path | None, name: str) -> Parts:
    """Files of a tokenizer beside a CLIP, or of the repository of that name in the Hub's cache."""
    own = [] if folder is None else sorted({path for glob in TOKENIZER for path in folder.glob(glob)})
    if not own:
        cached = sources.cached_file(name, ["tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt"])
        own = [] if cached is None else sorted({path for glob in TOKENIZER for path in cached.parent.glob(glob)})
    files = [path for path in own if path.suffix not in sources.WEIGHT_SUFFIXES and path.name != CLIP_CONFIG]
    held = {path.name: _digest(path) for path in files}
    return {"tokenizer": digest_of_json([name, held])}


def _of_files(called: str, folder: Path) -> Parts:
    """Every file of a folder as one part."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    return {called: digest_of_json({path.name: _digest(path) for path in files})}


def _of_file(called: str, path: Path) -> Parts:
    return {called: _digest(path)} if path.is_file() else {}


def _commit(path: Path) -> Parts:
    """The commit of a repository that a file in the Hub's cache belongs to."""
    parts = path.parts
    return {"revision": parts[parts.index("snapshots") + 1]} if "snapshots" in parts else {}


def _digest(path: Path) -> str:
    """Of what JSON holds, of the bytes of anything else."""
    if path.suffix != ".json" or path.stat().st_size > SMALL:
        return digests().of(path)
    value = _json(path)
    kept = {k: v for k, v in value.items() if k not in TOLD} if isinstance(value, dict) else value
    return digests().of(path) if kept is None else digest_of_json(kept)


def _json(path: Path) -> Any:
    """The object or list in the file; None where it is neither: its bytes count then."""
    try:
        return shaped(from_json(path.read_bytes(), allow_nan=True), dict[str, Any] | list[Any])
    except (OSError, ValueError):
        return None
