"""Two ways to load a policy into a vLLM engine: as an adapter beside the base model, or into its weights."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rft.errors import SyncError
from rft.reliability.temporary import temporary_folder
from rft.sampling.engine import Loaded, arrived
from rft.sampling.in_place_weights import StoredModel, of_all_workers
from rft.sampling.lora_modules import refuse, some, unmatched_problem
from rft.sampling.spec import EngineSpec
from rft.sampling.vllm_worker import ReadBack
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
        self._num_ranks = engine.vllm_config.parallel_config.tensor_parallel_size
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
        with temporary_folder("adapter") as folder:
            (folder / "adapter_config.json").write_text(json.dumps(weights.config))
            (folder / "adapter_model.safetensors").write_bytes(weights.tensors)
            request = LoRARequest(f"{weights.policy.name}-{number}", number, str(folder))
            # The files are removed at once. If vLLM ever drops a needed adapter, it fails instead of reloading it.
            self._engine.add_lora(request)
        return request, self._read_back(weights, number)

    def _read_back(self, adapter: Adapter, number: int) -> Loaded:
        read_backs = self._engine.collective_rpc("rft_read_back", args=(number, adapter))
        matched, absent, different = on_all_ranks(read_backs, self._num_ranks)
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


def on_all_ranks(read_backs: Sequence[ReadBack], num_ranks: int) -> tuple[set[str], list[str], dict[str, float]]:
    """Combine the read-backs of an engine's workers. Every tensor-parallel rank holds its slice of each module.

    Args:
        read_backs: One per worker; with pipeline parallelism, a worker has some of the layers.
        num_ranks: Number of tensor-parallel ranks.

    Returns:
        Modules that match on all ranks, modules that do not, and the largest difference by module that differs.
    """
    counts = Counter(name for read_back in read_backs for name in read_back.matched)
    matched = {name for name, count in counts.items() if count >= num_ranks}
    absent = {name for read_back in read_backs for name in read_back.matched | read_back.unmatched} - matched
    different: dict[str, float] = {}
    for read_back in read_backs:
        for name, by in read_back.different.items():
            known = different.get(name, 0.0)
            different[name] = by if math.isnan(by) else known if math.isnan(known) else max(known, by)
    return matched, sorted(absent), different


class InPlaceWeights:
    """The model's own weights, overwritten by each policy.

    Args:
        engine: vLLM's engine.
        spec: Spec of the engine.
    """

    def __init__(self, engine: Any, spec: EngineSpec) -> None:
        self._engine = engine
        self._base = (str(spec.place.model), spec.dtype)
        # Other processes would receive the bytes of a whole model through a pipe.
        self._is_one_process = engine.vllm_config.parallel_config.world_size == 1

    def load(self, weights: Adapter | FullWeights, number: int, num_held: int) -> tuple[None, Loaded]:
        """Overwrite the previous policy in every worker. No request may be in flight.

        Raises:
            SyncError: The adapter cannot be merged, or the prefix cache could not be emptied.
        """
        if isinstance(weights, Adapter):
            refuse(weights, merged=True, max_rank=None)
        with self._to_send(weights) as sent:
            results = self._engine.collective_rpc("rft_load_in_place", args=(sent, *self._base))
        if not self._engine.reset_prefix_cache():
            raise SyncError("vLLM could not empty its prefix cache, which contains results of an older policy")
        return None, of_all_workers(results)

    def _to_send(self, weights: Adapter | FullWeights) -> AbstractContextManager[Adapter | FullWeights | StoredModel]:
        if isinstance(weights, Adapter) or self._is_one_process:
            return nullcontext(weights)
        return _stored(weights)

    def drop(self, lora_request: None) -> None:
        """Do nothing: older policies leave nothing to remove."""


@contextmanager
def _stored(weights: FullWeights) -> Iterator[StoredModel]:
    """Write a whole model into a file for the time of the block."""
    with temporary_folder("model") as folder:
        file = folder / "model.safetensors"
        file.write_bytes(weights.tensors)
        yield StoredModel(policy=arrived(weights), file=file)
