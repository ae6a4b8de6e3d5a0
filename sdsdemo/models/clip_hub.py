"""What an open_clip CLIP takes from the Hub: weights, config, tokenizer, and the config of its text encoder.

Whoever fetches, looks whether all is here, or names files for a Space asks here. Loads no weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.hf_configs import arch_dict
from open_clip.pretrained import get_pretrained_cfg
from typing_extensions import TypedDict

from sdsdemo.errors import UserError
from sdsdemo.models import sources
from sdsdemo.models.configs import read_config
from sdsdemo.models.transformers_files import CONFIG as TEXT_CONFIG
from sdsdemo.models.transformers_files import TOKENIZER_FILES
from sdsdemo.models.weights import CLIP_WEIGHTS
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped

CONFIG = "open_clip_config.json"
WEIGHTS = tuple(name for name in CLIP_WEIGHTS if name.startswith("open_clip_"))
"""In a repository, where `model.safetensors` is transformers' copy of the model, with other names for its tensors."""
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
"""A tokenizer has one of these."""
NO_TEXT_CONFIG = (
    "The text encoder of {model} needs the config of {repo}, which is not on this machine, and downloads are off: "
    "allow them (SDSDEMO_ALLOW_DOWNLOAD=on)."
)
OTHER_TEXT = "The text encoder of {model} is a model of type {kind!r}, which open_clip does not build: choose another."


class TextModel(TypedDict):
    """config.json of a text encoder, as far as it is read before it is built."""

    model_type: str


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """Files of one repository. One of `names` must be there, best first."""

    repo: str
    revision: str | None = None
    names: tuple[str, ...]
    beside: tuple[str, ...] = ()
    """Patterns of what else is fetched."""

    @property
    def cached(self) -> Path | None:
        """The best of them in the Hub's cache. Reaches no network."""
        return sources.cached_file(self.repo, self.names, self.revision)


def weights_on_hub(spec: str) -> HubFiles | None:
    """The weights of a spec; None where it names a folder, a file, or a tag whose weights lie elsewhere."""
    _, rest = sources.split_spec(spec)
    if rest.startswith(sources.HF_HUB):
        repo, revision = sources.split_hub(rest)
        return HubFiles(repo=repo, revision=revision, names=WEIGHTS)
    name, _, tag = rest.partition("/")
    return weights_of_tag(get_pretrained_cfg(name, tag))


def weights_of_tag(facts: Mapping[str, Any]) -> HubFiles | None:
    """open_clip writes ORG/REPO/FILE, or ORG/REPO/ for its usual file names."""
    repo, _, file = facts.get("hf_hub", "").rpartition("/")
    if not repo:
        return None
    return HubFiles(repo=repo, names=(str(Path(file).with_suffix(".safetensors")), file) if file else WEIGHTS)


def parts_on_hub(spec: str, allow_download: bool = False) -> tuple[HubFiles, ...]:
    """All that loading a spec takes from the Hub, weights first; empty where its weights come from elsewhere.

    allow_download: whether its config may be fetched, and its repository listed, to see what else it needs. Raises
    `UserError` where that fails.
    """
    weights = weights_on_hub(spec)
    rest = sources.split_spec(spec)[1]
    if weights is None:
        return ()
    if not rest.startswith(sources.HF_HUB):
        config = open_clip.get_model_config(rest.partition("/")[0]) or {}
        return (weights, *_of_text(config.get("text_cfg", {}), None))
    described = HubFiles(repo=weights.repo, revision=weights.revision, names=(CONFIG,))
    file = described.cached
    if file is None and allow_download:
        file = sources.repo_file(described.repo, described.names, allow_download=True, revision=described.revision)
    own = HubFiles(repo=weights.repo, revision=weights.revision, names=("tokenizer.json",))
    has_own = own.cached is not None or (
        allow_download and "tokenizer.json" in sources.repo_listing(own.repo, own.revision)
    )
    text = text_settings(file) if file is not None else {}
    return (weights, described, *_of_text(text, own if has_own or text.get("hf_tokenizer_name") == own.repo else None))


def _of_text(text: Mapping[str, Any], own: HubFiles | None) -> list[HubFiles]:
    """Tokenizer and config of a text encoder. own: the repository of the CLIP where it holds the tokenizer."""
    tokenizer, model = text.get("hf_tokenizer_name"), text.get("hf_model_name")
    found = []
    if tokenizer:
        repo, revision = (own.repo, own.revision) if own is not None else (str(tokenizer), None)
        found.append(HubFiles(repo=repo, revision=revision, names=TOKENIZERS, beside=(*TOKENIZER_FILES, TEXT_CONFIG)))
    if model and not sources.local_path(str(model)).is_dir():
        found.append(HubFiles(repo=str(model), names=(TEXT_CONFIG,)))
    return found


def text_settings(file: Path) -> Mapping[str, Any]:
    """`text_cfg` of a config; empty where it is malformed, which is said when the model is loaded."""
    try:
        described: dict[str, dict[str, Any]] = shaped(from_json(file.read_bytes()), dict[str, dict[str, Any]])
        text: dict[str, Any] = shaped(described.get("model_cfg", {}).get("text_cfg", {}), dict[str, Any])
    except (OSError, ValueError):
        return {}
    return text


def text_config(repo: str, model: str, allow_download: bool) -> Path:
    """The folder with the config of a text encoder of transformers, a repository or a folder here.

    Raises `UserError` where it is not here and may not be fetched, or names a model that open_clip does not build.
    """
    folder = sources.local_path(repo)
    if not folder.is_dir():
        wanted = HubFiles(repo=repo, names=(TEXT_CONFIG,))
        file = wanted.cached
        if file is None and not allow_download:
            raise UserError(NO_TEXT_CONFIG.format(model=model, repo=repo))
        folder = (file or sources.repo_file(repo, wanted.names, allow_download=True)).parent
    kind = read_config(folder / TEXT_CONFIG, TextModel, repo)["model_type"]
    if kind not in arch_dict:
        raise UserError(OTHER_TEXT.format(model=model, kind=ascii(kind[:60])[1:-1]))
    return folder
