"""The encoder of T5Gemma, whose class transformers has in a module only, and whose config on the Hub is that of both
encoder and decoder; `save_pretrained` writes that of the encoder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

KIND = "T5GemmaEncoder"


def load_encoder(folder: Path, **options: Any) -> Any:
    """What `from_pretrained` of the class gives, with either config."""
    from transformers.models.t5gemma.configuration_t5gemma import T5GemmaConfig, T5GemmaModuleConfig
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    told, _ = T5GemmaConfig.get_config_dict(folder)
    own = "encoder" not in told
    config = T5GemmaModuleConfig.from_dict(told) if own else T5GemmaConfig.from_dict(told).encoder
    return T5GemmaEncoder.from_pretrained(folder, config=config, **options)
