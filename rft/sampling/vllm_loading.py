"""Two ways to load a policy into a vLLM engine: as an adapter beside the base model, or into its weights."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from rft.errors import SyncError
from rft.sampling.engine import Loaded, arrived
from rft.sampling.lora_modules import refuse, some, take_apart, unmatched_problem
from rft.sampling.merging import BaseWeights, is_embedding, merge, touched, unmatched, whole_layers
from rft.sampling.spec import EngineSpec
from rft.types import Adapter, FullWeights


class AdapterWeights:
    """Adapters beside the base model, in several versions.

    Args:
        engine: vLLM's engine.
        spec: Spec of the engine.
    """

    def __init__(self, engine: Any, spec: EngineSpec) -> None:
        self._engine = engine
        self._slots = (spec.staleness + 2) * spec.num_runs
        self._max_rank = engine.vllm_config.lora_config.max_lora_rank

    def load(self, weights: Adapter | FullWeights, number: int, num_held: int) -> tuple[Any, Loaded]:
        """Load an adapter and read it back.

        Args:
            weights: The adapter.
            number: Unique number of this load.
            num_held: Number of loaded policies, possibly including the base model.

        Raises:
            SyncError: The weights cannot be served as an adapter, or too many versions are in flight.
        """
        from vllm.lora.request import LoRARequest

        if isinstance(weights, FullWeights):
            raise SyncError(f"{weights.policy.name} is a whole model, but this sampler was built to serve adapters")
        refuse(weights, merged=False, max_rank=self._max_rank)
        if len(self._engine.list_loras()) >= self._slots:
            raise SyncError(
                f"{num_held} policies are in flight, more than loop.staleness allows: there is room for {self._slots}"
            )
        with tempfile.TemporaryDirectory(prefix="rft-adapter-") as folder:
            (Path(folder) / "adapter_config.json").write_text(json.dumps(weights.config))
            (Path(folder) / "adapter_model.safetensors").write_bytes(weights.tensors)
            request = LoRARequest(f"{weights.policy.name}-{number}", number, folder)
            # The files are removed at once. If vLLM ever drops a needed adapter, it fails instead of reloading it.
            self._engine.add_lora(request)
        return request, self._read_back(weights, number)

    def _read_back(self, adapter: Adapter, number: int) -> Loaded:
        workers = self._engine.collective_rpc("rft_read_back", args=(number, adapter))
        matched = set.union(*(read_back.matched for read_back in workers))
        absent = sorted(set.intersection(*(read_back.unmatched for read_back in workers)))
        different = {name: by for read_back in workers for name, by in read_back.different.items()}
        problems = unmatched_problem(absent, len(matched))
        if different:
            largest = max(different.values())
            problems += (
                f"in {len(different)} layers of the engine ({some(sorted(different))}) the weights differ from the "
                f"published ones by up to {largest:.3g}: another adapter, or a scaling other than lora_alpha / r",
            )
        return Loaded(policy=arrived(adapter), modules_matched=len(matched), problems=problems)

    def drop(self, lora_request: Any) -> None:
        """Remove an adapter."""
        if lora_request is not None:
            self._engine.remove_lora(lora_request.lora_int_id)


class InPlaceWeights:
    """The model's own weights, overwritten by each policy.

    Args:
        engine: vLLM's engine.
        spec: What it was built from.
        base: The base model.
    """

    def __init__(self, engine: Any, spec: EngineSpec, base: BaseWeights) -> None:
        self._engine = engine
        self._base = base
        self._dtype = getattr(torch, spec.dtype)
        self._packed = engine.collective_rpc("rft_packed_modules")[0]
        self._changed: set[str] = set()
        # Other processes get the tensors by copies of the call.
        self._is_one_process = engine.vllm_config.parallel_config.world_size == 1
        self._device = "cuda" if spec.place.on_gpu and self._is_one_process else "cpu"

    def load(self, weights: Adapter | FullWeights, number: int, num_held: int) -> tuple[None, Loaded]:
        """Overwrite the previous policy. No request may be in flight.

        Raises:
            SyncError: The adapter cannot be merged, or the prefix cache could not be emptied.
        """
        policy = arrived(weights)
        if isinstance(weights, FullWeights):
            arriving = safetensors.torch.load(weights.tensors)
            tensors = {self._base.name_of(name) or name: tensor for name, tensor in arriving.items()}
            absent, missing = sorted(tensors.keys() - self._base.names), sorted(self._base.names - tensors.keys())
            names = [name for name in tensors if name in self._base.names]
            problems = unmatched_problem(absent, len(names))
            if missing:
                problems += (f"{len(missing)} tensors of the model are missing ({some(missing)})",)
            self._write(names, lambda name: tensors[name])
        else:
            refuse(weights, merged=True, max_rank=None)
            parts = take_apart(weights)
            names = touched(self._base, parts)
            problems = unmatched_problem(unmatched(self._base, parts), len(names))
            self._write(names, lambda name: merge(self._base, parts, name, self._dtype, self._device))
        return None, Loaded(policy=policy, modules_matched=len(names), problems=problems)

    def _write(self, names: list[str], make: Callable[[str], torch.Tensor]) -> None:
        changed = set(names)
        # Restore tensors that the previous policy changed and this one does not.
        reloaded = whole_layers(self._base, [*changed, *self._changed], self._packed)
        self._changed |= changed
        # One tensor after the other, so that a second copy of the whole model never exists.
        weights = ((name, make(name) if name in changed else self._base.tensor(name)) for name in reloaded)
        how = {"weights_iterator": weights if self._is_one_process else list(weights)}
        self._engine.collective_rpc("reload_weights", kwargs=how)
        self._changed = changed
        if any(map(is_embedding, reloaded)):
            self._engine.collective_rpc("rft_refresh_tied_head")
        if not self._engine.reset_prefix_cache():
            raise SyncError("vLLM could not empty its prefix cache, which contains results of an older policy")

    def drop(self, lora_request: None) -> None:
        """Older policies leave nothing to remove."""
