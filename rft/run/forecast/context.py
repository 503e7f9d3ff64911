"""The context length of a run or a measurement."""

from __future__ import annotations

from pathlib import Path

from rft.config import EvaluateConfig, RunConfig
from rft.errors import ModelError
from rft.models.base_model import context_tokens, read_config


def context_of(config: RunConfig | EvaluateConfig, model: Path) -> int:
    """Return the maximum tokens of prompt and completion together: the configured limit, or the model's.

    Args:
        config: The configuration.
        model: Folder of the base model.

    Raises:
        ModelError: The configured limit exceeds the model's, or the model has none.
    """
    configured = config.model.max_context_tokens
    if configured is None:
        return context_tokens(model)
    scaling = read_config(model).get("rope_scaling") or read_config(model).get("rope_parameters") or {}
    is_scaled = scaling.get("rope_type", scaling.get("type", "default")) != "default"
    try:
        seen = context_tokens(model)
    except ModelError:
        return configured
    if configured > seen and not is_scaled:
        raise ModelError(
            "base model", [f"model.max_context_tokens={configured}: the model sees {seen} tokens at most; lower it"]
        )
    return configured
