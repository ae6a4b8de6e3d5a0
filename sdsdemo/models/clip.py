"""CLIP through open_clip: any NAME/TAG pair, repository or folder that it knows. Knows no diffusion and no cards file.

    s(i, c) = 100 * cos( f(i), g(c) )                                  Radford et al. 2021 (arXiv 2103.00020)

Activation, mean, std, size, interpolation, crop or squash, context length and tokenizer come from the model's own
config. What the library only warns about is an error here: it would change every score.

Shape suffixes: I image, C caption, L token, D feature.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL.Image import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from sdsdemo.errors import UserError
from sdsdemo.models import sources
from sdsdemo.models.domain import Domain
from sdsdemo.models.parts import parts_of
from sdsdemo.models.tokens import TokenRow, caption_concerns, check_ids, check_tokenizer
from sdsdemo.types import Budget, Card, Concern, Example, Picture, Scores

WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""Names of the weights in a repository, best first."""
CONFIG = "open_clip_config.json"
LONG = 2048
"""Tokens that no caption reaches: how a caption looks uncut."""
BATCH = 64
"""Images or captions that are encoded at once."""
EXAMPLES_AT_ONCE = 32
REMEMBERED = 20_000
"""Images, and captions, whose features are kept while a benchmark is scored: 40 MB each at 512 numbers."""
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
Key = TypeVar("Key")


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """What open_clip needs to build a model without looking anything up."""

    name: str
    """open_clip's name, or `local-dir:FOLDER`."""
    weights: Path
    preprocess: dict[str, Any]
    config: dict[str, Any]
    tokenizer: str | Path | None
    """Source of a transformers tokenizer; None for open_clip's own."""


class ClipModel:
    """A CLIP with its own tokenizer and preprocessing, in float32, frozen until a trainer thaws parameters.

    `module` is open_clip's; `preprocess` turns a picture into its input; `facts` is what a fine-tuned file must store
    to be put onto the same model again.
    """

    def __init__(
        self,
        module: nn.Module,
        tokenizer: Callable[..., Tensor],
        preprocess: Callable[[Image], Tensor],
        *,
        spec: str,
        facts: dict[str, Any],
        context_length: int,
    ) -> None:
        self.module: Any = module.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.spec = spec
        self.facts = facts
        self.context_length = context_length

    @classmethod
    def load(cls, spec: str, *, device: torch.device | str = "cpu", allow_download: bool = False) -> ClipModel:
        """The model of an `open_clip:` spec.

        Raises `UserError` for an unknown name or tag, weights that are not here, an activation that does not fit the
        weights, and a tokenizer that does not fit the model.
        """
        recipe = _recipe(spec, allow_download)
        module = _build(recipe, spec, device)
        settings = PreprocessCfg(**module.visual.preprocess_cfg)
        context_length = _context_length(recipe)
        tokenizer = _tokenizer(recipe, context_length, allow_download)
        _check_tokens(tokenizer, module, int(recipe.config["text_cfg"].get("vocab_size", 49408)), _called(spec))
        return cls(
            module,
            tokenizer,
            image_transform_v2(settings, is_train=False),
            spec=spec,
            facts=_facts(spec, recipe.config, module.visual.preprocess_cfg),
            context_length=context_length,
        )

    @property
    def called(self) -> str:
        """The spec without the path of its folder, for people to read."""
        return _called(self.spec)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def tokenize(self, captions: Sequence[str]) -> Tensor:
        """id_CL, int64, padded and cut to `context_length`."""
        return self.tokenizer(list(captions))

    def token_ids(self, caption: str) -> TokenRow:
        """A caption as the text tower meets it, and whether its end was cut."""
        row_L, whole_L = self.tokenize([caption])[0], self.tokenizer([caption], context_length=LONG)[0]
        rest_L = whole_L[len(row_L) :]
        cut = not torch.equal(row_L, whole_L[: len(row_L)]) or bool((rest_L != whole_L[-1]).any())
        return TokenRow(ids=tuple(row_L.tolist()), cut=cut)

    def encode_images(self, images: Sequence[Image]) -> Tensor:
        """features_ID, float32, L2-normalised. A gradient flows where the caller lets it."""
        batches = [torch.stack([self.preprocess(image) for image in part]) for part in _parts(images)]
        return torch.cat([self._encode(batch) for batch in batches])

    def encode_pictures(self, pictures: Sequence[Picture]) -> Tensor:
        """As `encode_images`; a picture is opened when it is its turn and let go at once."""
        parts = _parts(pictures)
        return torch.cat([self._encode(torch.stack([self.preprocess(p.open()) for p in part])) for part in parts])

    def encode_texts(self, captions: Sequence[str]) -> Tensor:
        """features_CD, float32, L2-normalised. A gradient flows where the caller lets it."""
        batches = [self.tokenize(part) for part in _parts(captions)]
        return torch.cat([self.module.encode_text(b.to(self.device), normalize=True).float() for b in batches])

    def _encode(self, input_I: Tensor) -> Tensor:
        return self.module.encode_image(input_I.to(self.device), normalize=True).float()


class ClipScorer:
    """A `types.Scorer`: 100 times the cosine. Captions run in the order of their tokens and equal ones once, so that
    swapping two captions swaps their scores bit for bit."""

    def __init__(self, card: Card, model: ClipModel, domain: Domain | None = None) -> None:
        """domain: what a small model knows; None for a model that is taken to know everything."""
        self.card = card
        self.model = model
        self.domain = domain

    def concerns(self, images: Sequence[Image], captions: Sequence[str]) -> list[Concern]:
        """Unknown words and foreign pictures where the model's domain is known; cut and equal captions always."""
        known = self.domain.concerns(images, captions) if self.domain is not None else []
        return known + caption_concerns([self.model.token_ids(c) for c in captions], self.model.context_length)

    def score(self, images: Sequence[Image], captions: Sequence[str], budget: Budget) -> Scores:
        """Scores of every image against every caption; the budget does not matter. Raises `ValueError` for none."""
        if not images or not captions:
            raise ValueError(f"images and captions must not be empty; there were {len(images)} and {len(captions)}")
        start = time.perf_counter()
        row_C = [tuple(ids) for ids in self.model.tokenize(captions).tolist()]
        caption_of = dict(sorted(zip(row_C, captions, strict=True)))
        position = {row: u for u, row in enumerate(caption_of)}
        with torch.inference_mode():
            image_ID = self.model.encode_images(images).cpu().numpy().astype(np.float64)
            text_UD = self.model.encode_texts(list(caption_of.values())).cpu().numpy().astype(np.float64)
        score_IC = 100 * (image_ID @ text_UD.T)[:, [position[row] for row in row_C]]
        return Scores(kind="similarity", score_IC=score_IC, seconds=time.perf_counter() - start)

    def score_examples(self, examples: Iterable[Example], budget: Budget) -> Iterator[Scores]:
        """Scores example by example; every picture and caption is encoded once, whichever examples share it."""
        pictures: _Memory[str] = _Memory()
        texts: _Memory[tuple[int, ...]] = _Memory()
        for part in parts_of(examples, EXAMPLES_AT_ONCE):
            start = time.perf_counter()
            scores = [100 * image_ID @ text_CD.T for image_ID, text_CD in self._features(part, pictures, texts)]
            each = (time.perf_counter() - start) / len(part)
            yield from (Scores(kind="similarity", score_IC=score_IC, seconds=each) for score_IC in scores)

    def _features(
        self, part: Sequence[Example], pictures: _Memory[str], texts: _Memory[tuple[int, ...]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """(image_ID, text_CD) of each example, float64; what is remembered is not encoded again."""
        captions = list(dict.fromkeys(caption for example in part for caption in example.captions))
        row_of = dict(zip(captions, (tuple(ids) for ids in self.model.tokenize(captions).tolist()), strict=True))
        caption_of = dict(sorted((row, caption) for caption, row in row_of.items()))
        shown = {p.key or f"{example.id}/{i}": p for example in part for i, p in enumerate(example.images)}
        with torch.inference_mode():
            texts.fill(caption_of, lambda found: self.model.encode_texts(found))
            pictures.fill(shown, lambda found: self.model.encode_pictures(found))
        return [
            (
                pictures.rows([p.key or f"{example.id}/{i}" for i, p in enumerate(example.images)]),
                texts.rows([row_of[caption] for caption in example.captions]),
            )
            for example in part
        ]


class _Memory(Generic[Key]):
    """Features by key; those used longest ago are forgotten."""

    def __init__(self) -> None:
        self._features: OrderedDict[Key, np.ndarray] = OrderedDict()

    def fill(self, items: Mapping[Key, Any], encode: Callable[[list[Any]], Tensor]) -> None:
        """Encode what is not remembered, all at once."""
        for key in items.keys() & self._features.keys():
            self._features.move_to_end(key)
        missing = [key for key in items if key not in self._features]
        if missing:
            features_KD = encode([items[key] for key in missing]).cpu().numpy()
            self._features.update(zip(missing, features_KD, strict=True))
        while len(self._features) > max(REMEMBERED, len(items)):
            self._features.popitem(last=False)

    def rows(self, keys: Sequence[Key]) -> np.ndarray:
        """features_KD, float64."""
        return np.stack([self._features[key] for key in keys]).astype(np.float64)


def _recipe(spec: str, allow_download: bool) -> _Recipe:
    """Finds config, weights and tokenizer of a spec. Raises `UserError`."""
    family, rest = sources.split_spec(spec)
    if family != "clip":
        raise UserError(
            f"{spec!r} is no CLIP: write open_clip:NAME/TAG, open_clip:hf-hub:... or open_clip:local-dir:..."
        )
    if rest.startswith(sources.LOCAL_DIR):
        return _folder_recipe(sources.local_path(rest.removeprefix(sources.LOCAL_DIR)), None)
    if rest.startswith(sources.HF_HUB):
        repo = rest.removeprefix(sources.HF_HUB)
        sources.repo_file(repo, WEIGHTS, allow_download=allow_download)
        patterns = [CONFIG, "*token*", "vocab*", "merges.txt", "spiece.model"]
        config = sources.repo_file(repo, [CONFIG], allow_download=allow_download)
        if allow_download:
            sources.repo_folder(repo, patterns, allow_download=True)
        return _folder_recipe(config.parent, repo)
    return _named_recipe(rest, allow_download)


def _folder_recipe(folder: Path, repo: str | None) -> _Recipe:
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
    return _Recipe(
        name=f"{sources.LOCAL_DIR}{folder}", weights=weights, preprocess=preprocess, config=config, tokenizer=tokenizer
    )


def _named_recipe(rest: str, allow_download: bool) -> _Recipe:
    """NAME/TAG: config from open_clip, weights and preprocessing from the tag."""
    name, _, tag = rest.partition("/")
    config, facts = open_clip.get_model_config(name), get_pretrained_cfg(name, tag)
    if config is None or not facts:
        raise UserError(f"open_clip knows no {rest!r}. {_known(name)}")
    if bool(config.get("quick_gelu", False)) != bool(facts.get("quick_gelu", False)):
        raise UserError(_gelu_words(name, tag, quick=bool(facts.get("quick_gelu", False))))
    if "hf_model_name" in config["text_cfg"] and not allow_download:
        raise UserError(NO_TEXT_CONFIG.format(model=rest))
    return _Recipe(
        name=name,
        weights=_tagged_weights(rest, facts, allow_download),
        preprocess=facts,
        config=config,
        tokenizer=config["text_cfg"].get("hf_tokenizer_name"),
    )


def fetch_clip(spec: str) -> None:
    """Downloads config, weights and tokenizer of a spec, without building the model. Raises `UserError`."""
    recipe = _recipe(spec, allow_download=True)
    _tokenizer(recipe, _context_length(recipe), allow_download=True)


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


def _tagged_weights(rest: str, facts: dict[str, Any], allow_download: bool) -> Path:
    on_hub = _hub_file(facts)
    if on_hub is None:
        raise UserError(f"The weights of {rest} are not on the Hugging Face Hub: choose another tag.")
    return sources.repo_file(*on_hub, allow_download=allow_download)


def _build(recipe: _Recipe, spec: str, device: torch.device | str) -> Any:
    """open_clip's module, float32. All that could be looked up is given, so that nothing reaches the network."""
    local = recipe.name.startswith(sources.LOCAL_DIR)
    try:
        return open_clip.create_model(
            recipe.name,
            pretrained=None if local else str(recipe.weights),
            precision="fp32",
            device=device,
            force_preprocess_cfg={key: value for key, value in recipe.preprocess.items() if key != "size"},
            require_pretrained=True,
        )
    except (SafetensorError, RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(BROKEN.format(model=_called(spec))) from error


def _context_length(recipe: _Recipe) -> int:
    """Tokens of a caption, start and end included."""
    return int(recipe.config["text_cfg"].get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH))


def _tokenizer(recipe: _Recipe, context_length: int, allow_download: bool) -> Callable[..., Tensor]:
    """open_clip's tokenizer, as its `get_tokenizer` chooses it, but never from the network unless allowed."""
    if recipe.tokenizer is None:
        return open_clip.get_tokenizer(recipe.name, context_length=context_length)
    text, name = recipe.config["text_cfg"], recipe.name.rpartition("/")[2]
    try:
        tokenizer = HFTokenizer(
            recipe.tokenizer,
            context_length=context_length,
            tokenizer_mode=text.get("tokenizer_mode"),
            local_files_only=isinstance(recipe.tokenizer, Path) or not allow_download,
            **text.get("tokenizer_kwargs", {}),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"The tokenizer of {name!r} is missing or broken: fetch or save the model again.") from error
    check_tokenizer(tokenizer.tokenizer, name)
    return tokenizer


def _check_tokens(tokenizer: Callable[..., Tensor], module: Any, size: int, name: str) -> None:
    """Raises `UserError` for ids beyond the table, or an end that a tower that looks for the highest id would miss."""
    highest = int(tokenizer([PROBE]).max())
    check_ids(highest, size, name)
    pool = getattr(module, "text_pool_type", None) or getattr(getattr(module, "text", None), "pool_type", None)
    end = getattr(getattr(tokenizer, "tokenizer", None), "eos_token_id", None)
    if pool == "argmax" and end is not None and highest != end:
        raise UserError(NO_END.format(model=name))


def _facts(spec: str, config: dict[str, Any], preprocess: dict[str, Any]) -> dict[str, Any]:
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


def _called(spec: str) -> str:
    """A spec without the path of its folder."""
    return spec.rpartition("/")[2] if sources.LOCAL_DIR in spec else spec


def _parts(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
