"""What a diffusion pipeline's folder must hold, and what is wrong with one that lacks it. Loads no library of models.

model_index.json                      the class of the pipeline, and [library, class] of each part
unet/ or transformer/, vae/           a config and weights as safetensors, whole or in shards
text_encoder/, text_encoder_2/, ...   the same
scheduler/, tokenizer/, ...           their configs
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from sdsdemo.errors import UserError
from sdsdemo.models import t5gemma
from sdsdemo.models.configs import CONFIG_OF, PipelineIndex, Scheduler, kind_of, read_config
from sdsdemo.models.single_files import single_file, single_file_words
from sdsdemo.models.weights import (
    PartWeights,
    begun_file,
    check_file,
    check_shards,
    first_of,
    part_weights,
    stem_of,
)

INDEX = "model_index.json"
SCHEDULER_CONFIG = f"scheduler/{CONFIG_OF['scheduler'][0]}"
LIBRARIES = ("diffusers", "transformers")
"""Where a part's class may come from: no code of a repository is ever run."""
LIBRARY_OF = {("prx", t5gemma.KIND): "transformers", ("photon", t5gemma.KIND): "transformers"}
"""Where a class is that an index says to be in a pipeline's own module, as PRX's does."""
NO_FOLDER = "There is no folder {name!r} to load a diffusion pipeline from: check its path."
NO_INDEX = "The folder {name!r} holds no {file}, so it is not a pipeline: name the folder that save_pretrained wrote."
ONLY_PICKLED = (
    "The {part} of {name!r} has its weights only as {file}, which may hold code, and sdsdemo never runs code from a "
    "file: save the pipeline again with safe_serialization=True, or name a revision that has safetensors."
)
NO_SAFETENSORS = (
    "{name!r} has no weights of the {part} as safetensors: name a revision that has them, or choose another model."
)
NO_WEIGHTS = (
    "The {part} of {name!r} is missing or broken: its folder holds no {stem}.safetensors: fetch the model again."
)
UNFINISHED = (
    "The {part} of {name!r} was not downloaded to its end ({file} is left of it): fetch the model again, which goes on "
    "where it stopped."
)
NO_PART = (
    "{name!r} has no {part}, which scoring needs: its {file} names none. Fetch or save the whole pipeline again, or "
    "choose another model."
)
OTHER_SCHEDULER = (
    "The scheduler of {name!r} is a {kind}, which is none of its family: restore "
    "scheduler/scheduler_config.json, or fetch the model again."
)
OTHER_NOISE = (
    "{name!r} was made with {kind}, whose noise levels are not those of its family's other models, so that it cannot "
    "score here: choose another model."
)
NO_ALPHAS = ("EDM", "Karras", "CosineDPM", "ScoreSde", "IPNDM", "CMStochastic", "SCM", "DDPMWuerstchen", "VQDiffusion")
"""How the names of the schedulers begin that have no alphas_cumprod, which epsilon and v models are scored by."""
FLOW_SCHEDULERS = "FlowMatch"
"""How the names of the schedulers of flow models begin."""
NO_CONFIG = "The {part} of {name!r} is missing or broken (no {part}/{file}): fetch or save the model again."


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The parts of a family's pipelines, each in a folder of its own name."""

    denoiser: str = "unet"
    flow: bool = False
    """Whether its models predict a flow; others predict epsilon or v."""
    text_encoders: tuple[str, ...] = ("text_encoder",)
    optional: tuple[str, ...] = ()
    """Text encoders that an index may leave out, as Stable Diffusion 3 does where memory is short."""
    pixels: int = 0
    """Native pixels a side of a family whose denoiser's config has no `sample_size`: used where its VAE's has none."""
    pixels_key: str = ""
    """What the index calls them in a family whose index has them, and no config."""
    zeros_key: str = ""
    """Where the index may say whether the empty prompt is zeros; it is where it says nothing."""
    side_before_0_9: int = 0
    """The least `sample_size` of a denoiser that diffusers before 0.9 wrote: scripts of that time said 32 for 64."""

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """One for each text encoder, in their order."""
        return tuple(part.replace("text_encoder", "tokenizer") for part in self.text_encoders)

    @property
    def with_weights(self) -> tuple[str, ...]:
        return (self.denoiser, "vae", *self.text_encoders)

    @property
    def parts(self) -> tuple[str, ...]:
        """Every part that scoring reads."""
        return (*self.with_weights, "scheduler", *self.tokenizers)

    def present(self, index: dict[str, Any]) -> Layout:
        """Without the optional text encoders that an index leaves out."""
        left_out = {part for part in self.optional if index.get(part) in (None, [None, None])}
        return replace(self, text_encoders=tuple(part for part in self.text_encoders if part not in left_out))


LAYOUTS = {
    "StableDiffusionPipeline": Layout(side_before_0_9=64),
    "StableDiffusionXLPipeline": Layout(
        text_encoders=("text_encoder", "text_encoder_2"), zeros_key="force_zeros_for_empty_prompt"
    ),
    "Flux2KleinPipeline": Layout(denoiser="transformer", flow=True, pixels=1024),
    "ZImagePipeline": Layout(denoiser="transformer", flow=True, pixels=1024),
    "StableDiffusion3Pipeline": Layout(
        denoiser="transformer",
        flow=True,
        text_encoders=("text_encoder", "text_encoder_2", "text_encoder_3"),
        optional=("text_encoder_3",),
    ),
    "PixArtAlphaPipeline": Layout(denoiser="transformer"),
    "PixArtSigmaPipeline": Layout(denoiser="transformer"),
    "PRXPipeline": Layout(denoiser="transformer", flow=True, pixels=512, pixels_key="default_sample_size"),
    "Lumina2Pipeline": Layout(denoiser="transformer", flow=True),
}
"""Pipelines that can be scored with, by the class that the index names."""


def check_pipeline(folder: Path, name: str) -> None:
    """Raises `UserError` naming the first thing that is missing from a pipeline's folder, or broken in it.

    name: what the model is called. Reads configs and the headers of weights.
    """
    index = read_index(folder, name)
    layout = layout_of(index)
    for part in layout.parts:
        class_named(index.get(part), part, name)
        check_configs(folder, part, name)
        if part in layout.with_weights:
            checked_weights(folder, part, name)
    check_scheduler(folder, index, name)


def check_index(folder: Path, name: str) -> dict[str, Any]:
    """`read_index`, with the classes of all parts and the scheduler's config checked as far as they are here.

    What a download of all weights could not mend. Raises `UserError`.
    """
    index = read_index(folder, name)
    for part in layout_of(index).parts:
        class_named(index.get(part), part, name)
    if (folder / SCHEDULER_CONFIG).is_file():
        check_scheduler(folder, index, name)
    return index


def check_scheduler(folder: Path, index: dict[str, Any], name: str) -> None:
    """Raises `UserError` for a scheduler of another family, or of other noise levels, by the index or its own config.

    diffusers reads any config with any class, and takes its defaults for what the config lacks.
    """
    config = read_config(folder / SCHEDULER_CONFIG, Scheduler, name)
    for kind in (class_named(index.get("scheduler"), "scheduler", name)[1], config.get("_class_name")):
        if kind is None:
            continue
        if kind.startswith(FLOW_SCHEDULERS) != layout_of(index).flow:
            raise UserError(OTHER_SCHEDULER.format(name=name, kind=ascii(kind[:60])[1:-1]))
        if kind.startswith(NO_ALPHAS):
            raise UserError(OTHER_NOISE.format(name=name, kind=ascii(kind[:60])[1:-1]))


def native_pixels(layout: Layout, vae: Mapping[str, Any], index: Mapping[str, Any] | None = None) -> int:
    """Pixels a side of a family whose denoiser names no size: as its index or its VAE says, or as usual; or 0."""
    defaults = vae.get("_use_default_values", ())  # what diffusers filled in and no file says
    size = vae.get("sample_size") if "sample_size" not in defaults else None
    if layout.pixels_key:
        size = (index or {}).get(layout.pixels_key)
    return size if layout.pixels and isinstance(size, int) else layout.pixels


def empty_is_zeros(layout: Layout, index: Mapping[str, Any]) -> bool:
    """Whether a pipeline takes zeros for the empty prompt, by its index."""
    return bool(layout.zeros_key) and bool(index.get(layout.zeros_key, True))


def pixels_of(layout: Layout, index: Mapping[str, Any], denoiser: Mapping[str, Any], vae: Mapping[str, Any]) -> int:
    """Native pixels a side by the configs of a pipeline; 0 where they do not tell."""
    size, blocks = sample_size(layout, denoiser), vae.get("block_out_channels", ())
    known = isinstance(size, int) and isinstance(blocks, list) and 0 < len(blocks) < 10
    return size * 2 ** (len(blocks) - 1) if known else native_pixels(layout, vae, index)


def sample_size(layout: Layout, denoiser: Mapping[str, Any]) -> Any:
    """Elements a side of a latent, as the denoiser's config has them, or its pipeline corrects them; None for none."""
    size = one_side(denoiser.get("sample_size"))
    is_small = isinstance(size, int) and size < layout.side_before_0_9
    return layout.side_before_0_9 if is_small and _is_before_0_9(denoiser.get("_diffusers_version")) else size


def one_side(size: Any) -> Any:
    """The side of a square that a config names by height and width; anything else as it stands."""
    is_square = isinstance(size, list | tuple) and len(size) == 2 and size[0] == size[1]
    return size[0] if is_square else size


def _is_before_0_9(version: Any) -> bool:
    """Whether a config names a version of diffusers before 0.9."""
    try:
        return Version(str(version)).release < (0, 9)
    except InvalidVersion:
        return False


def layout_of(index: dict[str, Any]) -> Layout:
    """The parts that a pipeline has, from an index that `read_index` gave."""
    return LAYOUTS[index["_class_name"]].present(index)


def is_whole_pipeline(folder: Path) -> bool:
    """Whether the weights of every part lie in a pipeline's folder, with every shard that is listed."""
    try:
        for part in layout_of(read_index(folder, folder.name)).with_weights:
            found = part_weights(folder, part)
            if found is None:
                return False
            check_shards(folder / part, found, folder.name)
    except UserError:
        return False
    return True


def read_index(folder: Path, name: str) -> dict[str, Any]:
    """`model_index.json` of a pipeline that is supported. Raises `UserError`."""
    single = single_file(folder)
    if single is not None and not (folder / INDEX).is_file():
        raise UserError(single_file_words(single, name))
    if not folder.is_dir():
        raise UserError(NO_FOLDER.format(name=name))
    if not (folder / INDEX).is_file():
        raise UserError(NO_INDEX.format(name=name, file=INDEX))
    index = read_config(folder / INDEX, PipelineIndex, name)
    kind = index["_class_name"]
    if kind not in LAYOUTS:
        raise UserError(f"{name!r} is a {kind}, which cannot score here yet: choose a {' or '.join(LAYOUTS)}.")
    return index


def class_named(entry: Any, part: str, name: str) -> tuple[str, str]:
    """Library and class of a part, from its entry in the index. Raises `UserError` for any other library."""
    if entry in (None, [None, None]):
        raise UserError(NO_PART.format(part=part, name=name, file=INDEX))
    library, kind = [str(word) for word in entry] if isinstance(entry, list) and len(entry) == 2 else ("", str(entry))
    library = LIBRARY_OF.get((library, kind), library)
    if library not in LIBRARIES:
        raise UserError(not_provided(kind, part, name))
    return library, kind


def not_provided(kind: str, part: str, name: str) -> str:
    """The sentence for a part of a class that is not loaded here."""
    libraries = " or ".join(LIBRARIES)
    return f"The {part} of {name!r} has the class {kind}, which is not part of a pipeline that {libraries} provides."


def check_configs(folder: Path, part: str, name: str) -> None:
    """Raises `UserError` for a config that is missing or broken, and for a tokenizer's file that is none."""
    kind = kind_of(part)
    file, shape = CONFIG_OF[kind]
    inside = sorted((folder / part).glob("*")) if kind == "tokenizer" else []
    others = [path for path in inside if not path.is_dir()]  # an editor leaves folders such as .ipynb_checkpoints
    if (folder / part / file).is_file():
        read_config(folder / part / file, shape, name)
    elif not others:  # a tokenizer may do without
        raise UserError(NO_CONFIG.format(part=part, name=name, file=file))
    for path in others:
        check_file(path, name)


def checked_weights(folder: Path, part: str, name: str) -> PartWeights:
    """The files that a part is read from, each of them whole. Raises `UserError`."""
    weights = part_weights(folder, part)
    if weights is None:
        words, file = _why_no_weights(folder, part)
        raise UserError(words.format(part=part, name=name, stem=stem_of(part), file=file))
    check_shards(folder / part, weights, name)
    for file in weights.files:
        check_file(folder / part / file, name)
    return weights


def _why_no_weights(folder: Path, part: str) -> tuple[str, str | None]:
    """What to say of a part without weights that can be read, and the file that it is about."""
    begun, pickled = begun_file(folder, part), first_of(folder / part, "*.bin")
    if begun is not None:
        return UNFINISHED, begun
    return (NO_WEIGHTS, None) if pickled is None else (ONLY_PICKLED, pickled)
