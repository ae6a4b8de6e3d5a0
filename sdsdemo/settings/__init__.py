"""Every limit, knob and environment variable: default, range and meaning in one place.

Sliders, command-line flags, checks and `doctor` all read from here. Nothing here touches a model or a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sdsdemo.errors import UserError, quoted
from sdsdemo.settings.environment import VARIABLES, is_own
from sdsdemo.types import Budget, Region

PACKAGE = Path(__file__).resolve().parent.parent
ROOT = PACKAGE / "shipped" if (PACKAGE / "shipped").is_dir() else PACKAGE.parent
"""Folder of `assets` and `checkpoints`: in the installed package (the wheel carries them), or else the checkout."""
ASSETS = ROOT / "assets"
CHECKPOINTS = ROOT / "checkpoints"
TRAIN_MINUTES, VARIANTS_MINUTES = 59, 26
"""How long `mini train all` and `mini variants` took on two cores; see docs/mini.md."""


def expanded(path: str | Path) -> Path:
    """The path with `~` as the home that it names, or as it is where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


CACHE = "~/.cache/sdsdemo"
"""Not expanded yet: a process without a home gets one first."""


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A number that the user may set."""

    default: int
    low: int
    high: int
    meaning: str

    def check(self, value: int, name: str) -> int:
        """The value, or a `UserError` that names the range."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not (value == value // 1):
            raise UserError(f"{name} must be a whole number from {self.low} to {self.high}; it was {quoted(value)}.")
        if not self.low <= value <= self.high:
            raise UserError(f"{name} must be from {self.low} to {self.high}; it was {quoted(value)}.")
        return int(value)


TIMESTEPS = Knob(default=8, low=1, high=64, meaning="How many noise levels to test each caption at, evenly spread.")
TWO_PAIRS = 4
"""Fewest noise draws that come in pairs by default: a single pair has no standard error."""
NOISES = Knob(
    default=4,
    low=1,
    high=16,
    meaning="Noise draws per timestep; two or more give the difference a standard error. An even number of "
    f"{TWO_PAIRS} or more is drawn in pairs of opposites.",
)
ANTITHETIC = (
    "Draw noise in pairs, each draw with its opposite: a more exact difference for as many evaluations. Needs an even "
    f"number of noise draws, and is the default from {TWO_PAIRS} on; --no-antithetic draws plain noise."
)
PAIRS = "{what} draws noise in pairs: set an even number of noise draws; it was {noises}."
STOPS_EARLY = "Adaptive scoring, which stops as soon as the captions are told apart,"
ALWAYS_PAIRS = f"{STOPS_EARLY} always draws noise in pairs: leave out --no-antithetic, or turn adaptive scoring off."
ADAPTIVE = (
    "Spend only as much noise as the captions need: a caption that is behind for good gets no more draws. --noises is "
    "then the maximum."
)
TIMESTEP_RANGE = (
    "The part of the noise schedule that timesteps are spread over, from 0 (no noise) to 1 (all noise); by default "
    "that of each model's card, or all of it."
)
_NUMBER = r"((?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
TYPED_RANGE = re.compile(rf"\s*{_NUMBER}(?:\s*,\s*|\s+(?:to\s+)?){_NUMBER}\s*", re.ASCII | re.IGNORECASE)
"""Two numbers with a space, a comma or "to" between them."""
AUTO = "auto"
PRECISION_CHOICES = (AUTO, "float32", "bfloat16", "float16")
REGIONS: Mapping[Region, str] = {
    "crop": "the middle square",
    "squash": "all of it, squashed to a square",
    "pad": "all of it, padded with white",
    "own": "as each model's authors do it",
}
"""Which part of a picture every model sees. The first is the default."""
REGION_WORDS = (
    f"Which part of a picture every model sees: {'; '.join(f'{name}, {words}' for name, words in REGIONS.items())}."
)
SEED = Knob(default=0, low=0, high=2**31 - 1, meaning="Seed of the noise, which is the same for every caption.")


def _limit(default: Any, says: str) -> Any:
    """says: the limit in a sentence, with {} for its value."""
    return field(default=default, metadata={"says": says})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may cost; checked on the server and named beside the field."""

    image_bytes: int = _limit(8_000_000, "A picture file may have up to {} bytes.")
    image_pixels: int = _limit(24_000_000, "A picture may have up to {} pixels.")
    webp_pixels: int = _limit(20_000_000, "A WebP picture may have up to {} pixels: its decoder holds it five times.")
    image_seconds: float = _limit(1.5, "Decoding an uploaded picture may take up to {} seconds of one core.")
    row_formats: tuple[str, ...] = _limit(
        ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"),
        "Pictures of benchmarks and of captions to train on are read as {}.",
    )
    image_ratio: int = _limit(128, "A picture may be up to {} times as long as it is wide.")
    image_side_least: int = _limit(8, "A picture must have at least {} pixels per side.")
    caption_characters: int = _limit(300, "A caption may have up to {} characters.")
    captions: int = _limit(8, "A question may have up to {} captions.")
    models: int = _limit(6, "A question on the page may ask up to {} models.")
    queue: int = _limit(400, "Up to {} requests may wait for an answer.")
    queue_of_visitor: int = _limit(24, "Up to {} requests of one visitor may wait for an answer.")
    request_bytes: int = _limit(2_000_000, "A request other than an upload may have up to {} bytes.")
    uploads_of_address: int = _limit(200, "Up to {} pictures may be uploaded from one address in ten minutes.")
    uploaded_bytes: int = _limit(400_000_000, "Up to {} bytes may be uploaded from one address in ten minutes.")
    queue_of_address: int = _limit(200, "Up to {} requests from one address that somebody listens for may wait.")
    direct_of_address: int = _limit(
        8, "Up to {} requests from one address that need not wait in the queue run at once."
    )
    image_formats: tuple[str, ...] = _limit(("PNG", "JPEG", "WEBP"), "Pictures are read as {}.")
    temporary_hours: float = _limit(24, "A picture that was uploaded is deleted after {} hours.")
    temporary_bytes: int = _limit(2_000_000_000, "Beyond {} bytes of uploaded pictures, the oldest are deleted.")
    loaded_mb: int = _limit(8_000, "Beyond {} MB of weights, the least recently used models are unloaded.")


LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Limits on a fine-tuning run, and on the cost of one started from the page."""

    page_steps: int = _limit(2_000, "A fine-tuning run from the page may take up to {} steps.")
    page_batch: int = _limit(128, "A run from the page may use up to {} images per step.")
    page_pool: int = _limit(8_000, "A run from the page may train on up to {} images.")
    page_seconds: int = _limit(900, "A run from the page stops after {} seconds, and keeps what it has.")
    zerogpu_seconds: int = _limit(110, "A run on a GPU that is lent for a call (ZeroGPU) reserves up to {} seconds.")
    page_waiting: int = _limit(4, "Up to {} runs from the page may queue behind the current one.")
    page_places_of_visitor: int = _limit(1, "On a shared page, a visitor may have {} run waiting or training.")
    page_places_of_address: int = _limit(3, "On a shared page, up to {} runs from one address may wait or train.")
    page_kept: int = _limit(20, "The server keeps the files of {} finished runs from the page; the oldest go first.")
    page_hours: float = _limit(24, "The files of a run from the page are deleted {} hours after its end.")
    page_watchers: int = _limit(200, "Up to {} pages may follow runs at once, half of them from one address.")

    @property
    def of_the_page(self) -> dict[str, float]:
        """Limits on a run from the page, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name.startswith(("page", "zerogpu"))}


FINETUNING = FineTuning()
LEAST_HELD_OUT = 20
"""Images of own data: what changes is measured on them."""


def limit_words(name: str, value: str) -> str:
    """A limit and its value in a sentence."""
    known = {limit.name: limit for limit in (*fields(Limits), *fields(FineTuning))}
    says: str = known[name].metadata["says"]
    return says.format(value)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The environment, read once at the start."""

    models: tuple[str, ...]
    allow_download: bool
    device: str
    host: str
    port: int
    runs: Path = Path("runs")
    """Output folder of `evaluate --out`; read only in a local app."""
    cache: Path = field(default_factory=lambda: expanded(CACHE))
    precision: str = AUTO
    """A member of `PRECISION_CHOICES`, for denoisers and their text encoders."""
    compiles: bool = False
    training: str = "auto"
    """on, off or auto."""
    in_space: bool = False
    """Whether this is a Hugging Face Space."""
    sign_in: bool = False
    """Whether visitors can sign in with their own account: in a Space with `hf_oauth`."""
    allow_specs: bool = True
    """Whether the page is its machine's user's own, so that a spec (a folder, a repository) may name a model."""
    shared: str = "auto"
    """on, off or auto."""

    @property
    def refuses_others(self) -> bool:
        """Whether requests from elsewhere are refused, since the page takes itself for its user's own."""
        return self.allow_specs and self.shared == "auto"

    @classmethod
    def of_the_shell(cls) -> Settings:
        """The same for whoever has this machine's shell or its Python, wherever a page of it may be shown.

        They may name any folder, and wait for a slow model. Raises `UserError` for an invalid value.
        """
        return replace(cls.from_environment(), allow_specs=True, in_space=False, sign_in=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Settings of a page, from environment variables. Raises `UserError` for an invalid value."""
        raw = {v.name: environment.get(v.name, "").strip() or v.default for v in VARIABLES}
        for name in ("SDSDEMO_ALLOW_DOWNLOAD", "SDSDEMO_COMPILE"):
            if raw[name].lower() not in ("on", "off"):
                raise UserError(f"{name} must be on or off.")
        if raw["SDSDEMO_DEVICE"] not in ("auto", "cpu", "cuda", "mps"):
            raise UserError("SDSDEMO_DEVICE must be auto, cpu, cuda or mps.")
        if raw["SDSDEMO_PRECISION"].lower() not in PRECISION_CHOICES:
            said = quoted(raw["SDSDEMO_PRECISION"])
            raise UserError(f"SDSDEMO_PRECISION must be {', '.join(PRECISION_CHOICES[:-1])} or float16; it was {said}.")
        for name in ("SDSDEMO_TRAINING", "SDSDEMO_SHARED"):
            if raw[name].lower() not in ("on", "off", "auto"):
                raise UserError(f"{name} must be on, off or auto.")
        if not raw["GRADIO_SERVER_PORT"].isdigit() or not 0 < int(raw["GRADIO_SERVER_PORT"]) < 65536:
            raise UserError("GRADIO_SERVER_PORT must be a port number from 1 to 65535.")
        models = tuple(name.strip() for name in raw["SDSDEMO_MODELS"].split(",") if name.strip())
        if not models:
            raise UserError("SDSDEMO_MODELS names no model: name at least one, or leave it empty for the usual ones.")
        if len(models) > LIMITS.models:
            raise UserError(f"SDSDEMO_MODELS may name at most {LIMITS.models} models; it named {len(models)}.")
        return cls(
            models=models,
            allow_download=raw["SDSDEMO_ALLOW_DOWNLOAD"].lower() == "on",
            device=raw["SDSDEMO_DEVICE"],
            host=raw["GRADIO_SERVER_NAME"],
            port=int(raw["GRADIO_SERVER_PORT"]),
            runs=expanded(raw["SDSDEMO_RUNS"]),
            cache=expanded(raw["SDSDEMO_CACHE"]),
            precision=raw["SDSDEMO_PRECISION"].lower(),
            compiles=raw["SDSDEMO_COMPILE"].lower() == "on",
            training=raw["SDSDEMO_TRAINING"].lower(),
            in_space=bool(environment.get("SPACE_ID")),
            sign_in=bool(environment.get("SPACE_ID") and environment.get("OAUTH_CLIENT_ID")),
            allow_specs=is_own(environment, raw["GRADIO_SERVER_NAME"], raw["SDSDEMO_SHARED"].lower()),
            shared=raw["SDSDEMO_SHARED"].lower(),
        )


def checked_range(value: Sequence[float] | str) -> tuple[float, float]:
    """A checked timestep range, from numbers or from text such as "0.2 0.8".

    Raises `UserError` for anything but two numbers, 0 <= low < high <= 1.
    """
    typed = TYPED_RANGE.fullmatch(value) if isinstance(value, str) else None
    given = [float(part) for part in typed.groups()] if typed else value
    parts = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    numbers = [part for part in parts if isinstance(part, int | float) and not isinstance(part, bool)]
    if len(numbers) != len(parts) or len(parts) != 2 or not 0 <= numbers[0] < numbers[1] <= 1:
        said = " ".join(_short(part) for part in parts[:4]) or "empty"
        raise UserError(
            f"The timestep range must be two numbers from 0 to 1, the lower one first, such as 0.2 0.8; it was {said}."
        )
    return abs(float(numbers[0])), float(numbers[1])  # abs: turns -0.0 into 0.0


def _short(value: object) -> str:
    """The beginning of a given value."""
    return value[:20] if isinstance(value, str) else quoted(value)[:24]


def typed_range(value: Sequence[float] | None) -> str:
    """A range as text that `checked_range` reads back exactly; empty for None."""
    return " ".join(repr(float(part)).removesuffix(".0") for part in value or ())


def checked_region(value: str) -> Region:
    """A key of `REGIONS`. Raises `UserError` for anything else."""
    for region in REGIONS:
        if value == region:
            return region
    raise UserError(f"The region must be {', '.join(REGIONS)}; it was {str(value)[:20]!r}.")


def usual_noises(adaptive: bool) -> int:
    """The noise draws where none are asked for: the default, or as many as may be needed where scoring is adaptive."""
    return NOISES.high if adaptive else NOISES.default


def pairs_by_default(noises: int) -> bool:
    """Whether so many noise draws come in pairs of opposites where nothing else is asked for."""
    return noises >= TWO_PAIRS and noises % 2 == 0


def budget(
    timesteps: int = TIMESTEPS.default,
    noises: int = NOISES.default,
    seed: int = SEED.default,
    *,
    timestep_range: Sequence[float] | str | None = None,
    region: str = "crop",
    antithetic: bool | None = None,
    adaptive: bool = False,
    **options: bool,
) -> Budget:
    """A checked `Budget`. Raises `UserError` naming the knob and its range.

    antithetic: None means in pairs if `pairs_by_default`, or if scoring is `adaptive`, which always draws pairs.
    timestep_range: None or an empty text means that of each model's card.
    """
    is_own = isinstance(timestep_range, str) and not timestep_range.strip()
    noises = NOISES.check(noises, "Noise draws")
    if adaptive and antithetic is False:
        raise UserError(ALWAYS_PAIRS)
    if (antithetic or adaptive) and noises % 2:
        raise UserError(PAIRS.format(noises=noises, what=STOPS_EARLY if adaptive else "Antithetic noise"))
    if adaptive and options.get("empty_prompt"):
        raise UserError("Adaptive scoring compares captions only: leave out the empty prompt, or score without it.")
    return Budget(
        timesteps=TIMESTEPS.check(timesteps, "Timesteps"),
        noises=noises,
        seed=SEED.check(seed, "Seed"),
        timestep_range=None if timestep_range is None or is_own else checked_range(timestep_range),
        region=checked_region(region),
        antithetic=adaptive or (pairs_by_default(noises) if antithetic is None else antithetic),
        adaptive=adaptive,
        **options,
    )
