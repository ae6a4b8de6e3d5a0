"""The form of the Compare tab, as a visitor or a URL fills it in. `ui/compare_logic.py` checks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError, quoted
from sdsdemo.settings import LIMITS, NOISES, SEED, TIMESTEPS, Knob, budget, typed_range, usual_noises
from sdsdemo.types import Budget
from sdsdemo.ui import address
from sdsdemo.ui.address import Query
from sdsdemo.ui.examples import ShownExample

KNOBS: Mapping[str, Knob] = {"timesteps": TIMESTEPS, "noises": NOISES, "seed": SEED}
CALLED = {"timesteps": "Timesteps", "noises": "Noise draws", "seed": "Seed"}
USUAL: Mapping[str, Any] = {name: knob.default for name, knob in KNOBS.items()} | {"adaptive": False, "region": "crop"}
NO_PICTURE = (
    "This link has captions and no picture, since a visitor's own picture is never in a link: add one and press Score."
)
OTHER_PICTURE = "There is no picture yet: add one and press Score."
SPEC = "The model “{}” has no card here, so this link loads it only when you press Score."


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a visitor filled in, unchecked."""

    image: str | None
    """Path of a file in Gradio's cache."""
    captions: Sequence[object]
    models: Sequence[object]
    timesteps: Any
    noises: Any
    seed: Any
    region: Any = "crop"
    timestep_range: Any = None
    """Two numbers, or a text with them; empty for the range on each model's card."""
    adaptive: Any = False
    """Whether to stop as soon as the captions are told apart; `noises` is then the maximum."""
    remarks: tuple[str, ...] = ()
    """Sentences about what of a URL was left out, or needs the visitor."""
    asks: bool = True
    """Whether a URL asks for an answer at once."""

    @property
    def texts(self) -> list[str]:
        """The captions as texts."""
        return ["" if text is None else str(text) for text in self.captions]

    def asks_about(self, example: ShownExample | None) -> bool:
        """Whether the captions are those of this example."""
        return example is not None and tuple(self.texts) == tuple(example.captions)

    def budget(self) -> Budget:
        """The settings, checked. Raises `UserError`."""
        if not isinstance(self.adaptive, bool):
            raise UserError(f"Adaptive must be true or false; it was {quoted(self.adaptive)}.")
        return budget(
            self.timesteps,
            self.noises,
            self.seed,
            region=self.region,
            timestep_range=self.timestep_range,
            adaptive=self.adaptive,
        )


def query_of(form: Form, example: ShownExample | None, usual_models: Sequence[str] = ()) -> str:
    """The form as the query of a URL.

    It names a picture only if that is one of our examples; a visitor's own picture is never part of a URL. An example's
    own captions are left out too.
    """
    captions = form.texts
    models = [str(name) for name in form.models if name]
    values = {
        **(example.query if example else {}),
        **({} if form.asks_about(example) else dict(zip("ab", captions, strict=True))),
        "models": "" if models == list(usual_models) else ",".join(models),
        **{name: getattr(form, name) for name in (*USUAL, "timestep_range")},
    }
    return address.write("compare", values, _usual(bool(form.adaptive)))


def form_of_address(
    workbench: Workbench,
    examples: Sequence[ShownExample],
    given: Mapping[str, str] | Query,
    of_run: Callable[..., ShownExample] | None = None,
    of_scene: Callable[[str], ShownExample] | None = None,
) -> tuple[Form, ShownExample | None] | None:
    """The form that a URL describes; for one that asks for nothing, the question that the page opens with, if any.

    of_run, of_scene: find the picture of a stored run, and draw that of a scene.
    """
    query = given if isinstance(given, Query) else Query("compare", given)
    if not query and not examples:
        return None
    is_upload = "example" not in query and "scene" not in query
    example = _example(query, examples, of_run, of_scene)
    captions = [query.text(name) for name in "ab"]
    if example and not any(captions):
        captions = list(example.captions)
    models, specs = _models(query, workbench)
    adaptive = query.choice("adaptive", ("on", "off"), "off", "it must be on or off") == "on"
    settings = {name: _setting(query, name, adaptive) for name in (*KNOBS, "region", "timestep_range")}
    lacks = () if example else (NO_PICTURE if is_upload else OTHER_PICTURE,)
    form = Form(
        image=str(example.path) if example else None,
        captions=captions,
        models=models,
        **settings,
        adaptive=adaptive,
        remarks=(*query.left_out, *lacks, *map(SPEC.format, specs)),
        asks=bool(example) and not specs,
    )
    return form, example


def _example(
    query: Query,
    examples: Sequence[ShownExample],
    of_run: Callable[..., ShownExample] | None,
    of_scene: Callable[[str], ShownExample] | None,
) -> ShownExample | None:
    """The example that a URL names. If it names neither that nor captions, the one that the page opens with."""
    if "scene" in query and of_scene is not None:
        return _of_scene(query, of_scene)
    if "run" in query and of_run is not None:
        return _of_run(query, of_run)
    named = query.choice("example", [one.name for one in examples], "")
    if not named and not ("a" in query or "b" in query):
        return next(iter(examples), None)
    return next((one for one in examples if one.name == named), None)


def _of_run(query: Query, of_run: Callable[..., ShownExample]) -> ShownExample | None:
    """The picture of a stored run that a URL names; None if it is not here.

    For one image with many captions, the URL also gives the indices of two of them.
    """
    places = [query.whole(name, 0, 99_999, -1) for name in ("picture", "true", "rival") if name in query]
    if -1 in places:
        return None
    try:
        return of_run(query.text("run"), query.text("example"), *(places or [0]))
    except UserError:
        query.leave_out("example", "its picture is not in the run here")
        return None


def _of_scene(query: Query, of_scene: Callable[[str], ShownExample]) -> ShownExample | None:
    """The picture of the scene that a URL describes; None if it describes none."""
    try:
        return of_scene(query.text("scene"))
    except UserError as error:
        query.leave_out("scene", str(error))
        return None


def _models(query: Query, workbench: Workbench) -> tuple[tuple[str, ...], list[str]]:
    """The models that a URL names and that are known here; and those of them that have no card."""
    wanted = dict.fromkeys(filter(None, map(str.strip, query.text("models", address.LONGEST).split(","))))
    known, specs = [], []
    for name in wanted:
        try:
            workbench.card(name)
        except UserError as error:
            query.say("models", name, str(error))
            continue
        known.append(name)
        if ":" in name and name not in workbench.settings.models and not workbench.is_lent(name):
            specs.append(name)
    if len(known) > LIMITS.models:
        query.say("models", known[LIMITS.models], f"a question may ask up to {LIMITS.models} models")
    return tuple(known[: LIMITS.models]) or tuple(workbench.settings.models), specs


def _usual(adaptive: bool) -> Mapping[str, Any]:
    """The settings that a URL need not name."""
    return {**USUAL, "noises": usual_noises(adaptive)}


def _setting(query: Query, name: str, adaptive: bool) -> Any:
    """A setting of the budget; its default if the URL has none, or an invalid one."""
    usual = _usual(adaptive).get(name, "")
    try:
        text = query.text(name, address.LONGEST)
        value: Any = _whole(text, name) if text and name in KNOBS else text or usual
        spend = budget(**({"noises": usual_noises(adaptive)} | {name: value}), adaptive=adaptive)
    except UserError as error:
        query.leave_out(name, str(error))
        return usual
    return typed_range(spend.timestep_range) if name == "timestep_range" else value


def _whole(text: str, name: str) -> int:
    if not text.isdecimal() or len(text) > address.LONGEST_NUMBER:
        knob = KNOBS[name]
        raise UserError(
            f"{CALLED[name]} must be a whole number from {knob.low} to {knob.high}; it was “{address.short(text)}”"
        )
    return int(text)
