"""A LoRA adapter taken apart: what it holds for which module, how it is scaled, and whether it can be served."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch

from rft.errors import SyncError
from rft.types import Adapter

PLAIN_INITS = (True, False, "gaussian", "eva", "orthogonal", "mica")
"""Values of PEFT's `init_lora_weights` that leave the base model as it is; the others (PiSSA, OLoRA, ...) change it."""
_PREFIX = "base_model.model."


@dataclass(slots=True)
class ModuleUpdate:
    """What an adapter does to one linear module of `[out, in]` weights."""

    scaling: float
    """The product is multiplied by it."""
    a: Any = None
    """`[rank, in]` tensor."""
    b: Any = None
    """`[out, rank]` tensor."""
    magnitude: Any = None
    """`[out]` tensor of DoRA (arXiv 2402.09353), else None."""
    is_transposed: bool = False
    """Whether the checkpoint holds the module's weights as `[in, out]`, as GPT-2's Conv1D does."""


@dataclass(slots=True)
class Parts:
    """An adapter by module, under the names of the base model's checkpoint."""

    updates: dict[str, ModuleUpdate] = field(default_factory=dict)
    """By module, as `model.layers.0.self_attn.q_proj`."""
    replaced: dict[str, Any] = field(default_factory=dict)
    """Whole tensors of `modules_to_save`, by checkpoint name."""


def take_apart(adapter: Adapter) -> Parts:
    """Read the tensors of an adapter in PEFT's format."""
    parts = Parts()
    is_transposed = bool(adapter.config.get("fan_in_fan_out"))
    for name, tensor in safetensors.torch.load(adapter.tensors).items():
        plain = name.removeprefix(_PREFIX)
        module, _, role = plain.rpartition(".lora_")
        if not module:
            parts.replaced[plain] = tensor
            continue
        update = parts.updates.setdefault(
            module, ModuleUpdate(scaling_of(adapter.config, module), is_transposed=is_transposed)
        )
        if role.startswith("A."):
            update.a = tensor
        elif role.startswith("B."):
            update.b = tensor
        else:
            update.magnitude = tensor
    return parts


def scaling_of(config: Mapping[str, Any], module: str) -> float:
    """What PEFT multiplies the update of a module by: alpha / rank, or alpha / sqrt(rank) for rsLoRA (2312.03732)."""
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    rank, alpha = config["r"], config["lora_alpha"]
    if ranks or alphas:
        from peft.utils.other import get_pattern_key  # half a second, which adapters without patterns are spared

        rank = ranks.get(get_pattern_key(ranks.keys(), module), rank)
        alpha = alphas.get(get_pattern_key(alphas.keys(), module), alpha)
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def adapter_problems(config: Mapping[str, Any], *, merged: bool, max_rank: int | None) -> list[str]:
    """Why an adapter cannot be served, one sentence each, with what to do; empty when it can.

    Args:
        config: PEFT's `adapter_config.json`.
        merged: Whether it is merged into the base model, which can do more.
        max_rank: The highest rank that the engine was built for.
    """
    found = []
    init = config.get("init_lora_weights", True)
    if (init.lower() if isinstance(init, str) else init) not in PLAIN_INITS:
        found.append(
            f"init_lora_weights={init} changes the base model, which the samplers have as it was; train with true, or "
            "convert the adapter with PEFT's path_initial_model_for_weight_conversion"
        )
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        found.append("it trains biases, which cannot be served; train with bias=none and lora_bias=false")
    if merged:
        return found
    if config.get("use_dora"):
        found.append("use_dora: vLLM does not serve DoRA as an adapter; use sampler.serve=merged")
    if saved := config.get("modules_to_save"):
        found.append(
            f"modules_to_save={', '.join(saved)}: whole modules are not part of a served adapter; use "
            "sampler.serve=merged"
        )
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    if max_rank is not None and rank > max_rank:
        found.append(f"rank {rank} is above {max_rank}, for which the engine was built; use sampler.serve=merged")
    return found


def refuse(adapter: Adapter, *, merged: bool, max_rank: int | None) -> None:
    """Raise for an adapter that cannot be served.

    Raises:
        SyncError: With every reason, and what to do.
    """
    problems = adapter_problems(adapter.config, merged=merged, max_rank=max_rank)
    if problems:
        raise SyncError(f"{adapter.policy.name} cannot be served: {'; '.join(problems)}")


def unmatched_problem(absent: list[str], num_matched: int) -> tuple[str, ...]:
    """What to say of modules that the model has not; nothing when it has them all, and there are some."""
    if num_matched and not absent:
        return ()
    total = num_matched + len(absent)
    return (
        f"{len(absent)} of {total} modules of the policy are none of the model's "
        f"({some(absent) or 'it holds nothing'}): was it trained on this base model?",
    )


def some(names: list[str]) -> str:
    """The first few names, for a message."""
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])
