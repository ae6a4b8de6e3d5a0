"""A vision-language model, asked whether a picture shows a caption: how much surer it is of "yes" than of "no".

    q(c)    = Does this figure show "c"? Please answer yes or no.        VQAScore, Lin et al. 2024 (arXiv 2404.01291)
    s(i, c) = log P(yes | i, q(c)) - log P(no | i, q(c))

P is the model's distribution of the first token of its answer, in the chat template of its processor. P(yes) sums the
tokens that spell the word: yes, Yes, and both after a space; P(no) likewise.

VQAScore is P(yes) among all tokens. Log-odds order captions as sigmoid(s) = P(yes) / (P(yes) + P(no)) does, and unlike
a probability they keep apart what a model is sure of: in percent with two decimals, all beyond s = 10 would be a tie.
What they leave out is how much of P belongs to neither word.

A picture runs through the vision tower once, where the library lets its features be handed on and gives them as a list
of one, else once a caption: Gemma 3 and InternVL give a tensor, Qwen3-VL features of several layers.
Captions run in batches, padded on the right, where positions are those of a caption alone. The output layer is computed
for the few answers only and in float32, since bfloat16 knows a logit of 20 only to 0.1.

Shape suffixes: I image, C caption, B caption of a batch, L token, A token of an answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from PIL.Image import new as new_image
from torch import Tensor, nn

from sdsdemo.captions.cleaning import clean_caption
from sdsdemo.errors import UserError
from sdsdemo.models.memory import give_back, is_out_of_memory, no_room
from sdsdemo.models.precision import pick_precision
from sdsdemo.models.tokenizer_checks import TokenRow, check_ids, check_tokenizer, rows_kept, token_row
from sdsdemo.models.transformers_files import check_question_folder, find_folder
from sdsdemo.models.vlm_files import load_processor, load_vlm_module
from sdsdemo.settings import LIMITS
from sdsdemo.types import Region

QUESTION = 'Does this figure show "{caption}"? Please answer yes or no.'
PROBE = "a red star left of a blue circle"
TOKENS_AT_ONCE = 4096
"""Tokens of a batch, those of its pictures included."""
HANDED_ON = "mm_encoder_outputs"
"""The argument by which newer versions of the library take features of pictures."""
REMEMBERED = 20_000
"""Sizes of pictures whose tokens are kept."""
NO_TEMPLATE = (
    "{name!r} has no chat template that puts a picture beside a question, so it cannot be asked: take a variant of it "
    "that was trained on instructions."
)
NO_ANSWER = (
    "The tokenizer of {name!r} has no token of its own for the answer {word!r}, so its probability cannot be read: "
    "take another model."
)
OTHER_TEXT = (
    "The text model of {name!r} cannot be asked here: it has an encoder beside its decoder, as T5, or no length in its "
    "config (max_position_embeddings). Take a model such as HuggingFaceTB/SmolVLM-256M-Instruct."
)
BROKEN = (ValueError, TypeError, KeyError, IndexError, AttributeError)
"""What a library makes of files that do not belong together."""
NO_FIT = "The processor of {name!r} does not prepare what its model takes: fetch both again from the same repository."


class VisionLanguageModel:
    """A transformers model that answers questions about a picture, frozen."""

    def __init__(self, module: Any, processor: Any, *, name: str) -> None:
        """Raises `UserError` where it cannot be asked, or has no token for an answer."""
        self.module = module.eval().requires_grad_(False)
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.name = name
        self.frame = self._frame()
        self.context_length = context_length_of(module.config, name)
        self.marks = _marks(processor, self.frame)
        yes, no = (answer_tokens(self.tokenizer, word, name) for word in ("yes", "no"))
        self.answer_A = yes + no
        self.is_yes, self.is_no = slice(len(yes)), slice(len(yes), None)
        longest = len(self.frame) + LIMITS.caption_characters  # a token takes a character at least, but for rare signs
        self._row_of = lru_cache(maxsize=rows_kept(longest))(self._row)
        self._picture_tokens = lru_cache(maxsize=REMEMBERED)(self._count_picture_tokens)

    @classmethod
    def load(
        cls,
        spec: str,
        *,
        revision: str | None = None,
        device: torch.device | str = "cpu",
        precision: str = "auto",
        allow_download: bool = False,
    ) -> VisionLanguageModel:
        """The model of a `vlm:` spec; a revision in the spec goes before the argument.

        precision: bfloat16 on a GPU of NVIDIA's or AMD's, else float32, unless it is named. Raises `UserError` for
        weights that are not here, pickled, broken or of another config, and for a model that cannot be asked.
        """
        folder, name = find_folder(spec, revision=revision, allow_download=allow_download)
        check_question_folder(folder, name)
        dtype = pick_precision(precision, torch.device(device), 0, torch.bfloat16)
        module = load_vlm_module(folder, name, dtype).to(device)
        model = cls(module, load_processor(folder, name), name=name)
        check_tokenizer(model.tokenizer, name)
        highest = int(model.inputs(new_image("RGB", (32, 32)), [PROBE])["input_ids"].max())
        check_ids(highest, int(module.get_input_embeddings().weight.shape[0]), name)
        return model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        found: torch.device = self.module.device
        return found

    @property
    def own_region(self) -> Region:
        """What of a picture its own preprocessing takes: most take all of it, whatever its shape."""
        return "crop" if getattr(self.processor.image_processor, "do_center_crop", False) else "squash"

    def region_of(self, region: Region) -> Region:
        """The region itself, with `own` as what it means for this model."""
        return self.own_region if region == "own" else region

    def prompt(self, caption: str) -> str:
        """The question about a cleaned caption, as the chat template words it."""
        content = [{"type": "image"}, {"type": "text", "text": QUESTION.format(caption=caption)}]
        text: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return text

    def token_ids(self, caption: str) -> TokenRow:
        """The question about a caption, its picture being one token or none. Nothing is ever cut."""
        return self._row_of(clean_caption(caption))

    def length(self, size: tuple[int, int], caption: str) -> int:
        """Tokens of the question about a picture of that size (width, height)."""
        return self._picture_tokens(size) + len(self.token_ids(caption).ids)

    def inputs(self, image: Image, captions: Sequence[str]) -> dict[str, Tensor]:
        """What the module takes: one picture with each caption, padded on the right. Raises `UserError` for a processor
        that cannot prepare it."""
        prompts = [self.prompt(clean_caption(caption)) for caption in captions]
        with fitting(self.name):
            found = self.processor(
                images=[[image]] * len(prompts),
                text=prompts,
                padding=True,
                padding_side="right",
                add_special_tokens=not self._starts_itself(prompts[0]),
                return_tensors="pt",
            )
        return dict(found.to(self.device, self.module.dtype))

    @torch.inference_mode()
    def log_odds(self, image: Image, captions: Sequence[str]) -> np.ndarray:
        """s_C, float64, of a cleaned picture. Equal captions run once, and all in the order of their tokens."""
        row_C = [self.token_ids(caption).ids for caption in captions]
        caption_of = dict(sorted(zip(row_C, captions, strict=True)))
        found: dict[tuple[int, ...], float] = {}
        features = self._features(image, captions[0])
        for batch in self._batches(image, caption_of):
            answered = self._answered(image, features, [caption_of[row] for row in batch])
            found |= dict(zip(batch, answered, strict=True))
        return np.array([found[row] for row in row_C])

    def _answered(self, image: Image, features: Any, captions: Sequence[str]) -> list[float]:
        """s_B of a batch, or of its halves where memory is short. Raises `UserError` where one caption is too much."""
        try:
            inputs_B: dict[str, Any] = self.inputs(image, captions)
            if features is not None:
                del inputs_B["pixel_values"]
                repeated = type(features)(pooler_output=[*features.pooler_output] * len(captions))
                inputs_B[HANDED_ON] = {"image": repeated}
            logit_BA = self._logits(inputs_B)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            yes_B, no_B = (logit_BA[:, part].logsumexp(dim=-1) for part in (self.is_yes, self.is_no))
            found: list[float] = (yes_B - no_B).tolist()
            return found
        if len(captions) == 1:
            raise UserError(no_room(self.device, self.name))
        give_back(self.device)
        half = len(captions) // 2
        return [s for part in (captions[:half], captions[half:]) for s in self._answered(image, features, part)]

    def _frame(self) -> str:
        """The prompt without a caption. Raises `UserError` where the template drops the question."""
        try:
            if QUESTION.format(caption=PROBE) in self.prompt(PROBE):
                return self.prompt("")
        except Exception as error:  # a template is a program: what it raises is an open set
            raise UserError(NO_TEMPLATE.format(name=self.name)) from error
        raise UserError(NO_TEMPLATE.format(name=self.name))

    def _starts_itself(self, prompt: str) -> bool:
        """Whether the template writes the mark of a text's beginning, which the tokenizer would add a second time."""
        mark = self.tokenizer.bos_token
        return bool(mark) and prompt.startswith(mark)

    def _row(self, text: str) -> TokenRow:
        prompt = self.prompt(text)
        ids = self.tokenizer(prompt, add_special_tokens=not self._starts_itself(prompt), verbose=False)["input_ids"]
        row = token_row(self.tokenizer, text, ids, cut=False)
        written = (mark for mark in self.marks if mark.casefold() in text.casefold())
        return replace(row, mark=row.mark or next(written, ""))

    def _count_picture_tokens(self, size: tuple[int, int]) -> int:
        """Tokens of a picture of that size (width, height), beyond the one that stands for it in a prompt."""
        whole: int = self.inputs(new_image("RGB", size), [""])["input_ids"].shape[1]
        return whole - len(self.token_ids("").ids)

    def _batches(self, image: Image, rows: Iterable[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
        """Rows in their order, as many at once as `TOKENS_AT_ONCE` allow."""
        batch: list[tuple[int, ...]] = []
        longest = 0
        for row in rows:
            longest = max(longest, len(row))
            if batch and (len(batch) + 1) * (longest + self._picture_tokens(image.size)) > TOKENS_AT_ONCE:
                yield batch
                batch, longest = [], len(row)
            batch.append(row)
        yield batch

    def _features(self, image: Image, caption: str) -> Any:
        """What the vision tower makes of a picture, to be handed on; None where they are no list of one."""
        encode = getattr(self.module, "get_image_features", None)
        if encode is None or HANDED_ON not in inspect.signature(self.module.forward).parameters:
            return None
        taken = inspect.signature(encode).parameters
        inputs_1 = self.inputs(image, [caption])
        with fitting(self.name, (ValueError,)):
            found = encode(**{key: value for key, value in inputs_1.items() if key in taken}, return_dict=True)
        pooled = getattr(found, "pooler_output", None)
        is_all = not hasattr(found, "deepstack_features")  # of further layers, which nothing here repeats
        return found if is_all and isinstance(pooled, list | tuple) and len(pooled) == 1 else None

    def _logits(self, inputs_B: Mapping[str, Any]) -> Tensor:
        """logit_BA, float64 on the CPU, of the answers' tokens behind the last token of each prompt."""
        mask_BL = inputs_B["attention_mask"]
        last_B = mask_BL.sum(dim=1) - 1
        kept, place_B = last_B.unique(return_inverse=True)
        can_keep = "logits_to_keep" in inspect.signature(self.module.forward).parameters
        with self._answers_alone(), fitting(self.name, (ValueError,)):  # of features and tokens that differ in number
            output = self.module(**inputs_B, use_cache=False, **({"logits_to_keep": kept} if can_keep else {}))
        place_B = place_B if can_keep else last_B
        logit_BA: Tensor = output.logits[torch.arange(len(last_B), device=last_B.device), place_B]
        return logit_BA.float().cpu().double()  # Apple's GPUs have no float64

    @contextmanager
    def _answers_alone(self) -> Iterator[None]:
        """Within it the output layer gives the logits of `answer_A` alone, in float32."""
        head = self.module.get_output_embeddings()

        def of_answers(layer: Any, given: tuple[Tensor, ...], whole: Tensor) -> Tensor:
            bias = None if layer.bias is None else layer.bias[self.answer_A].float()
            return nn.functional.linear(given[0].float(), layer.weight[self.answer_A].float(), bias)

        hook = head.register_forward_hook(of_answers)
        try:
            yield
        finally:
            hook.remove()


def context_length_of(config: Any, name: str) -> int:
    """Tokens that a model reads, its picture's included. Raises `UserError` for a kind that cannot be asked."""
    text = config.get_text_config()
    length = getattr(text, "max_position_embeddings", None)
    if config.is_encoder_decoder or text.is_encoder_decoder or not length:
        raise UserError(OTHER_TEXT.format(name=name))
    return int(length)


def answer_tokens(tokenizer: Any, word: str, name: str) -> list[int]:
    """The tokens that spell an answer: the word or its capitalised form, after a space or none. Raises `UserError`."""
    forms = [f"{space}{spelled}" for space in ("", " ") for spelled in (word, word.capitalize())]
    rows = [tokenizer(form, add_special_tokens=False)["input_ids"] for form in forms]
    single = {row[0] for row in rows if len(row) == 1 and row[0] != tokenizer.unk_token_id}
    found = sorted(token for token in single if tokenizer.decode([token]).strip().lower() == word)
    if not found:
        raise UserError(NO_ANSWER.format(name=name, word=word))
    return found


def _marks(processor: Any, frame: str) -> tuple[str, ...]:
    """What stands for a picture or a turn of the chat, whether or not the tokenizer calls it special.

    frame: a prompt without a caption.
    """
    named = {value for key, value in vars(processor).items() if key.endswith("_token") and isinstance(value, str)}
    added = {about.content for about in getattr(processor.tokenizer, "added_tokens_decoder", {}).values()}
    marks = named | {mark for mark in added if mark in frame}
    return tuple(sorted(mark for mark in marks if mark.strip() and not mark.isalnum()))


@contextmanager
def fitting(name: str, kinds: tuple[type[Exception], ...] = BROKEN) -> Iterator[None]:
    """In here errors of these kinds mean a processor that does not fit its model.

    Around calls of the library alone: a fault of ours must stay one, and not advise to fetch gigabytes again.
    """
    try:
        yield
    except UserError:
        raise
    except kinds as error:
        raise UserError(NO_FIT.format(name=name)) from error
