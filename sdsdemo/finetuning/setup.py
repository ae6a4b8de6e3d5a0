"""From a recipe to a loaded run: finds and checks the models and the device, then loads the base and the data.

    plan -> Plan -> load -> Loaded          then: prepare -> Prepared (`prepare`), train -> Ended (`training`)

Each record is frozen and holds the one before it; only the base's weights and the caches of its batches change. Writes
no file and evaluates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sdsdemo.captions.cleaning import plain_notes
from sdsdemo.errors import UserError
from sdsdemo.finetuning.cache import MiniCache
from sdsdemo.finetuning.events import Event, Notice, Working
from sdsdemo.finetuning.loop import never
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.training_pairs import Source, read_source
from sdsdemo.models import cards, pick_device, sources
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.delta import base_header
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.domain import Domain
from sdsdemo.models.public_names import path_of_source
from sdsdemo.models.tokenizer_checks import reading_notes
from sdsdemo.runtime.distributed import ALONE, Processes
from sdsdemo.settings import Settings, expanded
from sdsdemo.types import Availability, Card

TOO_FEW = (
    "The data have {count} images to train on, fewer than a batch of {batch}: an image would be its own "
    "negative. Lower --batch to {count} or less, or add images."
)
SMALL_POOL = (
    "--pool is {pool}, fewer than a batch of {batch}: an image would be its own negative. Lower --batch to {pool} or "
    "less, or raise --pool."
)
OF_TRANSFORMERS = (
    "of those in transformers' format, OpenAI's have a card (openai/clip-vit-base-patch32 is clip-vit-b-32), and a "
    "repository with open_clip_config.json is open_clip:hf-hub:ORG/NAME. Convert any other to open_clip first."
)
"""What to do about a CLIP that is scored here, but not trained."""
CHECKED = 5_000
"""Images whose captions are checked with the models' tokenizers before training."""


class Models(Protocol):
    """The part of the workbench that a run needs: cards, and which of them can run."""

    settings: Settings

    def card(self, name_or_spec: str) -> Card: ...

    def availability(self, card: Card) -> Availability: ...


class StopAsked(Exception):  # noqa: N818 a wish, no error
    """The user stopped the run during preparation or evaluation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A recipe with its models and device. Nothing is loaded yet."""

    recipe: Recipe
    base_card: Card
    teacher_card: Card | None
    """None if the objective needs no teacher."""
    device: torch.device
    settings: Settings
    processes: Processes
    cache: MiniCache | None
    """Shared by the Mini runs of a process."""
    asked_to_stop: Callable[[], bool] = never
    """Whether this process was asked to stop."""

    @property
    def parts(self) -> int:
        """Micro-batches per step in each process."""
        recipe = self.recipe
        return 1 if not recipe.micro_batch else -(-recipe.batch // self.processes.count // recipe.micro_batch)

    def stop_if_asked(self) -> None:
        """Raises `StopAsked` if the user stopped the run or its time is up: in all processes or in none."""
        if any(self.processes.gather([self.asked_to_stop()])):
            raise StopAsked


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A plan with its base and data in memory."""

    plan: Plan
    base: ClipModel
    """Training changes it in place."""
    header: Mapping[str, Any]
    """Identifies the base in the file of the weights."""
    before_weights: Mapping[str, Tensor]
    """The base's state before training."""
    source: Source
    data: Mapping[str, object]
    """The source's description, for the record."""


def plan(recipe: Recipe, workbench: Models, processes: Processes = ALONE, cache: MiniCache | None = None) -> Plan:
    """Find the recipe's models. Raises `UserError` for models that cannot run here or do not fit together."""
    base_card = _runnable(workbench, recipe.base, ("clip",), "base")
    families = ("diffusion",) if recipe.teacher_in_loop else ("diffusion", "clip")
    teacher_card = _runnable(workbench, recipe.teacher, families, "teacher") if recipe.uses_teacher else None
    _check_words(recipe, base_card, teacher_card)
    return Plan(
        recipe=recipe,
        base_card=base_card,
        teacher_card=teacher_card,
        device=torch.device("cpu") if base_card.mini else pick_device(workbench.settings.device),
        settings=workbench.settings,
        processes=processes,
        cache=cache,
    )


def load(plan: Plan) -> Generator[Event, None, Loaded]:
    """Load the base and the data. Raises `UserError` if either cannot be used."""
    yield Working(text=f"loading {plan.base_card.title}")
    base = ClipModel.load(plan.base_card.spec, device=plan.device, allow_download=plan.settings.allow_download)
    header = base_header(base)
    before_weights = {key: tensor.clone() for key, tensor in base.module.state_dict().items()}
    yield Working(text="reading the data")
    source = read_source(plan.recipe) if plan.cache is None else plan.cache.source(plan.recipe)
    data = source.describe()
    check_size(plan.recipe, data)
    loaded = Loaded(plan=plan, base=base, header=header, before_weights=before_weights, source=source, data=data)
    plain = [] if plan.recipe.is_mini else plain_notes(source.texts(CHECKED))
    for note in [*source.notes, *plain, *caption_notes(loaded, base, plan.base_card)]:
        yield Notice(text=note)
    return loaded


def caption_notes(loaded: Loaded, model: ClipModel | LatentDiffusion, card: Card) -> list[str]:
    """Notes on captions that a model misreads. Raises `UserError` if it must not train on them."""
    if loaded.plan.recipe.is_mini:
        return []
    return reading_notes(model, card.title, loaded.source.texts(CHECKED))


def check_size(recipe: Recipe, data: Mapping[str, object]) -> None:
    """Raises `UserError` if a batch exceeds the images: one would be its own negative.

    data: of `Source.describe`; the items of a stream are None until its end was met, and nothing is refused.
    """
    if 0 < recipe.pool < recipe.batch:
        raise UserError(SMALL_POOL.format(pool=recipe.pool, batch=recipe.batch))
    items = data.get("items")
    if items is None:
        return
    count = int(str(items)) - int(str(data.get("held_out", 0)))
    if count and count < recipe.batch:
        raise UserError(TOO_FEW.format(count=count, batch=recipe.batch))


def _check_words(recipe: Recipe, base: Card, teacher: Card | None) -> None:
    """Raises `UserError` for a missing folder, and for a Mini model on other data than Mini."""
    kind, path, _ = path_of_source(recipe.data)
    if path and not expanded(path).is_dir():
        raise UserError(f"There is no folder '{path}': check the path after '{kind}'.")
    if recipe.is_mini:
        return
    named = {"base": base} | ({} if teacher is None else {"teacher": teacher})
    if flags := {f"--{what}": card.title for what, card in named.items() if _is_of_mini(card)}:
        knows, use = ("knows", "it") if len(flags) == 1 else ("know", "them")
        raise UserError(
            f"{' and '.join(flags.values())} {knows} only the words of the Mini world: use {use} with --data mini, or "
            f"name another {' and another '.join(flags)}."
        )


def _is_of_mini(card: Card) -> bool:
    folder = sources.folder_named_by(card.spec)
    return folder is not None and Domain.read(folder) is not None


def _runnable(workbench: Models, name: str, families: tuple[str, ...], what: str) -> Card:
    """The card of a model that can run here. Raises `UserError` with the next step if it cannot."""
    card = workbench.card(name)
    if card.family not in families:
        called = {"clip": "an open_clip CLIP", "diffusion": "a diffusion model"}
        wanted = " or ".join(called[family] for family in families)
        cure = OF_TRANSFORMERS if card.family == "transformers" and "clip" in families else "choose another one."
        raise UserError(f"The {what} must be {wanted}; {card.title} is not: {cure}")
    state = workbench.availability(card)
    if not state.can_run:
        hours = f" Fine-tuning takes {cards.train_words()}." if card.needs == "gpu" else ""
        raise UserError(state.words + hours)
    return card
