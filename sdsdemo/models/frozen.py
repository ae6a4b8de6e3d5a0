"""A view of a module that shares its weights and can be set otherwise. Knows no family."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch import nn


def frozen_view(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Any:
    """A module of its own with the same weights, without copying them where precision and place are right already.

    Its flags, mode, precision and place can be set without touching the module that was given. Buffers in single
    precision that no file holds, such as the frequencies of rotary positions, stay so, as in the libraries' pipelines;
    so do weights that `stays_single` names.
    """
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    shared |= {id(b): b.detach() for b in module.buffers()}
    view = copy.deepcopy(module, shared).eval()
    computed = [(part, key, part._buffers[key]) for part in view.modules() for key in part._non_persistent_buffers_set]
    single = [
        (part, key, weight.detach())
        for place, part in view.named_modules()
        for key, weight in part.named_parameters(recurse=False)
        if stays_single(view, f"{place}.{key}".lstrip("."), dtype)
    ]
    for part, key, _ in single:
        part._parameters[key] = None  # no half of it is made meanwhile
    nn.Module.to(view, device=device, dtype=dtype)  # diffusers' own `to` warns whenever it meets a precision
    for part, key, buffer in computed:
        if buffer is not None and buffer.dtype == torch.float32:
            part._buffers[key] = buffer.to(device)
    for part, key, weight in single:
        part._parameters[key] = nn.Parameter(weight.to(device=device, dtype=torch.float32), requires_grad=False)
    return view


def stays_single(module: nn.Module, name: str, dtype: torch.dtype) -> bool:
    """Whether the library keeps a weight in single precision where it loads a module in half: T5's `wo` overflows."""
    wanted = set(getattr(module, "_keep_in_fp32_modules", None) or ()) if dtype == torch.float16 else set()
    if dtype in (torch.float16, torch.bfloat16):
        wanted |= set(getattr(module, "_keep_in_fp32_modules_strict", None) or ())
    return any(re.search(pattern.replace("*", ".*"), name) for pattern in wanted)
