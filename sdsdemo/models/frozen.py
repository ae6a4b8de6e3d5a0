"""A view of a module that shares its weights and can be set otherwise. Knows no family."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def frozen_view(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Any:
    """A module of its own with the same weights, without copying them where precision and place are right already.

    Its flags, mode, precision and place can be set without touching the module that was given. Buffers in single
    precision that no file holds, such as the frequencies of rotary positions, stay so, as in the libraries' pipelines.
    """
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    shared |= {id(b): b.detach() for b in module.buffers()}
    view = copy.deepcopy(module, shared).eval()
    computed = [(part, key, part._buffers[key]) for part in view.modules() for key in part._non_persistent_buffers_set]
    nn.Module.to(view, device=device, dtype=dtype)  # diffusers' own `to` warns whenever it meets a precision
    for part, key, buffer in computed:
        if buffer is not None and buffer.dtype == torch.float32:
            part._buffers[key] = buffer.to(device)
    return view
