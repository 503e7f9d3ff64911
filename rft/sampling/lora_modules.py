"""Splits a LoRA adapter by module, and computes its scaling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch

from rft.errors import SyncError
from rft.models.served_adapters import adapter_problems
from rft.types import Adapter

_PREFIX = "base_model.model."


@dataclass(slots=True)
class ModuleUpdate:
    """The update of one linear module with `[out, in]` weights."""

    scaling: float
    """Scaling of the product."""
    a: Any = None
    """`[rank, in]` tensor."""
    b: Any = None
    """`[out, rank]` tensor."""
    magnitude: Any = None
    """`[out]` tensor of DoRA (arXiv 2402.09353), else None."""
    is_transposed: bool = False
    """Whether the checkpoint stores the weights as `[in, out]`, like GPT-2's Conv1D."""


@dataclass(slots=True)
class Parts:
    """An adapter by module, with the names of the base model's checkpoint."""

    updates: dict[str, ModuleUpdate] = field(default_factory=dict)
    """Updates by module, such as `model.layers.0.self_attn.q_proj`."""
    replaced: dict[str, Any] = field(default_factory=dict)
    """Whole tensors of `modules_to_save`, by checkpoint name."""


def take_apart(adapter: Adapter) -> Parts:
    """Read the tensors of an adapter in PEFT format."""
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
    """Return PEFT's scaling of a module's update: alpha / rank, or alpha / sqrt(rank) for rsLoRA (2312.03732)."""
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    rank, alpha = config["r"], config["lora_alpha"]
    if ranks or alphas:
        from peft.utils.other import get_pattern_key  # half a second, which adapters without patterns are spared

        rank = ranks.get(get_pattern_key(ranks.keys(), module), rank)
        alpha = alphas.get(get_pattern_key(alphas.keys(), module), alpha)
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def refuse(adapter: Adapter, *, merged: bool, max_rank: int | None) -> None:
    """Raise for an adapter that cannot be served.

    Raises:
        SyncError: Contains all reasons, with remedies.
    """
    problems = adapter_problems(adapter.config, merged=merged, max_rank=max_rank)
    if problems:
        raise SyncError(f"{adapter.policy.name} cannot be served: {'; '.join(problems)}")


def unmatched_problem(absent: list[str], num_matched: int) -> tuple[str, ...]:
    """Return the problem of modules that the model lacks; empty if the model has all of them."""
    if num_matched and not absent:
        return ()
    total = num_matched + len(absent)
    return (
        f"the model lacks {len(absent)} of the policy's {total} modules "
        f"({some(absent) or 'the policy is empty'}): was the policy trained on this base model?",
    )


def some(names: list[str]) -> str:
    """Return the first few names for a message."""
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])
