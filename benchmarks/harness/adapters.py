"""Adapters of random weights, made without loading the base model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open

from rft.types import Adapter, Policy

SCALE = 0.02
"""Standard deviation of the entries of B: large enough to change log-probabilities by more than rounding does."""


def random_adapter(model: Path, *, rank: int, alpha: int, version: int, seed: int) -> Adapter:
    """Return an adapter on all linear layers of a base model, with entries other than 0 in both matrices.

    Args:
        model: Folder of the base model.
        rank: Rank of the adapter.
        alpha: Its `lora_alpha`.
        version: Version of the policy.
        seed: Seed of the weights.
    """
    import peft

    draws = torch.Generator().manual_seed(seed)
    tensors, targets = {}, set()
    with safe_open(model / "model.safetensors", framework="pt") as weights:
        for name in sorted(weights.keys()):
            module = name.removesuffix(".weight")
            size = weights.get_slice(name).get_shape()
            if ".layers." not in name or len(size) != 2:
                continue
            targets.add(module.rpartition(".")[2])
            prefix = f"base_model.model.{module}.lora"
            tensors[f"{prefix}_A.weight"] = torch.randn(rank, size[1], generator=draws) / size[1] ** 0.5
            tensors[f"{prefix}_B.weight"] = torch.randn(size[0], rank, generator=draws) * SCALE
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=sorted(targets), task_type="CAUSAL_LM").to_dict()
    # PEFT keeps sets and enums in its configuration, which JSON lacks.
    plain = json.loads(json.dumps(config, default=_plain))
    return packed(plain, tensors, version)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, set) else str(value)


def packed(config: dict[str, object], tensors: dict[str, torch.Tensor], version: int) -> Adapter:
    """Return an adapter with the fingerprint of its bytes."""
    data = safetensors.torch.save(tensors)
    policy = Policy(version=version, fingerprint=hashlib.sha256(data).hexdigest()[:16])
    return Adapter(policy=policy, config=config, tensors=data)
