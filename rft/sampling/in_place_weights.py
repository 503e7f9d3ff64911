"""The worker's half of policies in place: writes an adapter or a whole model over the model's own weights.

Every worker merges the adapter itself, from the files of the base model, so with tensor parallelism the adapter travels
between processes, and not the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from rft.sampling.engine import Loaded, arrived
from rft.sampling.full_weights import tensors_in
from rft.sampling.lora_modules import some, take_apart, unmatched_problem
from rft.sampling.merging import BaseWeights, is_embedding, merge, touched, unmatched, whole_layers
from rft.types import Adapter, FullWeights, Policy

Reload = Callable[[Iterable[tuple[str, torch.Tensor]]], None]
"""Writes tensors, by checkpoint name, into the model of this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A whole model in a file, which every worker reads.

    Example:
        StoredModel(policy=Policy(version=3, fingerprint="9b2e..."), file=Path("/tmp/x1/model.safetensors"))
    """

    policy: Policy
    """The policy, with a fingerprint computed from the received bytes."""
    file: Path
    """Its tensors, in safetensors format."""


class InPlaceModel:
    """The model of one worker, overwritten by each policy.

    Args:
        base: The base model.
        dtype: Dtype of the model.
        device: Device on which adapters are merged.
        packed: Fused modules by vLLM's name of the fused layer.
        reload: Writes tensors into the model.
    """

    def __init__(
        self, base: BaseWeights, *, dtype: torch.dtype, device: str, packed: Mapping[str, Sequence[str]], reload: Reload
    ) -> None:
        self._base = base
        self._dtype = dtype
        self._device = device
        self._packed = packed
        self._reload = reload
        self._changed: set[str] = set()

    def load(self, weights: Adapter | FullWeights | StoredModel) -> tuple[Loaded, bool]:
        """Overwrite the previous policy.

        Returns:
            The result, and whether an embedding was written.
        """
        if isinstance(weights, Adapter):
            parts = take_apart(weights)
            names = touched(self._base, parts)
            problems = unmatched_problem(unmatched(self._base, parts), len(names))
            has_embedding = self._write(names, lambda name: merge(self._base, parts, name, self._dtype, self._device))
            policy = arrived(weights)
        else:
            if isinstance(weights, StoredModel):
                policy, arriving = weights.policy, safetensors.torch.load_file(weights.file)
            else:
                policy, arriving = arrived(weights), tensors_in(weights.tensors)
            tensors = {self._base.name_of(name) or name: tensor for name, tensor in arriving.items()}
            absent, missing = sorted(tensors.keys() - self._base.names), sorted(self._base.names - tensors.keys())
            names = [name for name in tensors if name in self._base.names]
            problems = unmatched_problem(absent, len(names))
            if missing:
                problems += (f"{len(missing)} tensors of the model are missing ({some(missing)})",)
            # The tensors may lie in Ray's object store, where a write would end the process, so vLLM gets copies.
            has_embedding = self._write(names, lambda name: tensors[name].clone())
        return Loaded(policy=policy, modules_matched=len(names), problems=problems), has_embedding

    def _write(self, names: list[str], make: Callable[[str], torch.Tensor]) -> bool:
        changed = set(names)
        # Restore tensors that the previous policy changed and this one does not.
        reloaded = whole_layers(self._base, [*changed, *self._changed], self._packed)
        self._changed |= changed
        # One tensor after the other, so that a second copy of the whole model never exists.
        self._reload((name, make(name) if name in changed else self._base.tensor(name)) for name in reloaded)
        self._changed = changed
        return any(map(is_embedding, reloaded))


def of_all_workers(results: Sequence[Loaded]) -> Loaded:
    """Return the result of all workers of an engine; each must have loaded the same policy.

    Args:
        results: One result per worker.
    """
    first = results[0]
    problems = list(first.problems)
    for number, result in enumerate(results[1:], start=1):
        if result.policy != first.policy:
            problems.append(f"worker {number} holds {result.policy.name}, and worker 0 holds {first.policy.name}")
        problems += [f"worker {number}: {problem}" for problem in result.problems if problem not in first.problems]
    matched = min(result.modules_matched for result in results)
    return Loaded(policy=first.policy, modules_matched=matched, problems=tuple(problems))
