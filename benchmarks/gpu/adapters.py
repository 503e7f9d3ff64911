"""The adapters of the parts."""

from __future__ import annotations

from dataclasses import replace

import safetensors.torch
from harness import adapters

from gpu.bench import ALPHA, RANK, Bench
from rft.types import Adapter


def random_adapter(bench: Bench, *, version: int, seed: int, shape: str = "0.5B") -> Adapter:
    """Return an adapter of random weights on all linear layers of a base model."""
    return adapters.random_adapter(bench.model(shape), rank=RANK, alpha=ALPHA, version=version, seed=seed)


def spoilt(adapter: Adapter) -> Adapter:
    """Return an adapter under the same policy, with one entry of one tensor changed by a hundredth."""
    tensors = dict(safetensors.torch.load(adapter.tensors))
    first = sorted(tensors)[0]
    tensors[first] = tensors[first].clone()
    tensors[first][0, 0] += 0.01
    return replace(adapter, tensors=safetensors.torch.save(tensors))
