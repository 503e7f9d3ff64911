"""Checks whether an adapter can be served, from its configuration alone. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rft.models.adapter_tensors import is_plain_init


def adapter_problems(config: Mapping[str, Any], *, merged: bool, max_rank: int | None) -> list[str]:
    """Return the reasons why an adapter cannot be served, with remedies; empty if it can be served.

    Args:
        config: PEFT's `adapter_config.json`.
        merged: Whether the adapter is merged into the base model, which supports more adapters.
        max_rank: The engine's highest rank.
    """
    problems = []
    init = config.get("init_lora_weights", True)
    if not is_plain_init(init):
        problems.append(
            f"init_lora_weights={init} changes the base model, but the samplers keep the original; train with true, or "
            "convert the adapter with PEFT's path_initial_model_for_weight_conversion"
        )
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        problems.append("it trains biases, which cannot be served; train with bias=none and lora_bias=false")
    if merged:
        return problems
    if config.get("use_dora"):
        problems.append("use_dora: vLLM does not serve DoRA as an adapter; use sampler.serve=merged")
    if saved := config.get("modules_to_save"):
        problems.append(
            f"modules_to_save={', '.join(saved)}: whole modules are not part of a served adapter; use "
            "sampler.serve=merged"
        )
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    if max_rank is not None and rank > max_rank:
        problems.append(f"rank {rank} exceeds the engine's limit of {max_rank}; use sampler.serve=merged")
    return problems
