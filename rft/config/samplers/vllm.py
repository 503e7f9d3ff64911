"""vLLM, one engine in each sampler's own process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from rft.config.adapters import AdapterConfig
from rft.config.samplers.base import ModelSamplerConfig
from rft.models import served_adapters
from rft.models.architectures import serving_problems, tried

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts for `max_lora_rank`."""
MAX_TEMPERATURE = 2.0
"""Highest temperature that vLLM accepts."""
MAX_SEQUENCES_ON_GPU = 1024
"""Highest `max_num_seqs` on a GPU: vLLM's own value for its `LLM` class on large GPUs."""
BATCHED_TOKENS_ON_GPU = 8192
"""`max_num_batched_tokens` on a GPU. `LLMEngine.from_engine_args` would take 2,048, and 128 sequences."""
BATCHED_TOKENS_ON_CPU = 2048
"""`max_num_batched_tokens` on a CPU, if no prompt is longer."""
SHARED_GPU_UTILIZATION = 0.8
"""Share of its fraction of a GPU that an engine takes if other processes use the GPU as well."""
CPU_CACHE_GIB = 1
"""Default of `VLLM_CPU_KVCACHE_SPACE`: the key-value cache of an engine on a CPU, in GiB."""


class VllmSamplerConfig(ModelSamplerConfig):
    """vLLM, on a CPU or on GPUs."""

    engine_class: ClassVar[str] = "rft.sampling.vllm_engine:VllmEngine"
    libraries: ClassVar[tuple[str, ...]] = ("vllm", "torch")

    kind: Literal["vllm"] = "vllm"
    serve: Literal["adapter", "merged"] | None = None
    """How an adapter is served: `adapter` beside the base model, or `merged` into a clean copy of it, which samples
    faster and supports DoRA and any rank. null takes `merged` in float32, and `adapter` in 16 bits, in which merged
    weights would round small updates away."""
    sleep: bool | Literal["auto"] = "auto"
    """Whether the engines free their GPU memory while the learner works. Each step then copies their weights to main
    memory and back. Samplers and learner must share a GPU and take turns (`loop.staleness=0`). `auto` lets them sleep
    if the learner does not fit beside them otherwise."""
    engine: dict[str, Any] = {}
    """vLLM's own `EngineArgs` by name, such as `gpu_memory_utilization`; they override rft's settings."""

    @property
    def num_canary_tokens(self) -> int:
        """Length of the canaries: more than two blocks of the prefix cache, so that they exercise it."""
        return max(super().num_canary_tokens, 2 * int(self.engine.get("block_size") or 0) + 4)

    @property
    def sleeps(self) -> bool | None:
        """As configured; None for `auto`."""
        return None if self.sleep == "auto" else self.sleep

    @property
    def gpus_spanned(self) -> int:
        """Number of GPUs that one engine spans: tensor times pipeline parallelism."""
        return int(self.engine.get("tensor_parallel_size") or 1) * int(self.engine.get("pipeline_parallel_size") or 1)

    @property
    def max_served_rank(self) -> int | None:
        """The `max_lora_rank` of the engine, or the highest that vLLM accepts; None if adapters are merged."""
        if self.serve == "merged":
            return None
        return int(self.engine.get("max_lora_rank") or LORA_RANKS[-1])

    def problems(self, *, adapter: AdapterConfig, staleness: int) -> list[str]:
        """Refuse settings that do not fit the run's adapters or its staleness."""
        return [*self._sleep_problems(staleness), *self._adapter_problems(adapter, staleness)]

    def _sleep_problems(self, staleness: int) -> list[str]:
        if not self.sleeps or not staleness:
            return []
        return [
            f"sampler.sleep=true: with loop.staleness={staleness} the samplers work while the learner does; remove "
            "sampler.sleep, or set loop.staleness=0"
        ]

    def _adapter_problems(self, adapter: AdapterConfig, staleness: int) -> list[str]:
        rank = adapter.served_rank
        if rank is None:
            if self.serve is None:
                return []
            return [
                f"sampler.serve={self.serve}: learner.adapter={adapter.method} publishes whole models, no adapters; "
                "remove sampler.serve"
            ]
        if self.serve != "adapter":
            return []
        if adapter.needs_merge:
            return [
                f"sampler.serve=adapter: vLLM does not serve {adapter.label} (learner.adapter={adapter.method}) as an "
                "adapter; remove sampler.serve, or use sampler.serve=merged"
            ]
        problems = []
        max_rank, max_loras = self.engine.get("max_lora_rank"), self.engine.get("max_loras")
        if isinstance(max_rank, int) and max_rank < rank:
            problems.append(
                f"sampler.engine.max_lora_rank={max_rank}: is below learner.adapter.rank={rank}; remove "
                "sampler.engine.max_lora_rank, or use sampler.serve=merged, which supports any rank"
            )
        if isinstance(max_loras, int) and max_loras < staleness + 2:
            problems.append(
                f"sampler.engine.max_loras={max_loras}: loop.staleness={staleness} needs {staleness + 2}, since each "
                "version is loaded before the oldest is removed; remove sampler.engine.max_loras"
            )
        return problems

    def temperature_problems(self, temperatures: Mapping[str, float]) -> list[str]:
        """Refuse temperatures above vLLM's maximum."""
        return temperature_problems(temperatures)

    def model_problems(self, model: Mapping[str, Any], *, with_adapter: bool) -> list[str]:
        """Refuse architectures that vLLM lacks, or for which it serves no adapters."""
        return serving_problems(model, self.serve, with_adapter=with_adapter)

    def adapter_problems(self, adapter: Mapping[str, Any]) -> list[str]:
        """Refuse adapters that change more than linear layers, or have too high a rank, unless they are merged."""
        max_rank = self.max_served_rank
        return served_adapters.adapter_problems(adapter, merged=self.serve != "adapter", max_rank=max_rank)

    def suited_to(self, adapter: Mapping[str, Any]) -> Self:
        """Merge an adapter that vLLM does not serve beside the base model."""
        is_served = not served_adapters.adapter_problems(adapter, merged=False, max_rank=self.max_served_rank)
        return self if is_served or self.serve is not None else self.model_copy(update={"serve": "merged"})

    def serving(
        self, model: Mapping[str, Any], dtype: str, *, needs_merge: bool = False
    ) -> Literal["adapter", "merged"]:
        """Return `sampler.serve` or its default; `merged` if vLLM serves no adapters for architecture or method."""
        known = tried(model)
        if needs_merge or (known is not None and not known.serves_adapters):
            return "merged"
        return self.serve or ("merged" if dtype == "float32" else "adapter")

    def shared(self) -> Self:
        """Return these settings with `serve=adapter` as the default.

        A single run in float32 would default to `merged`, which is faster but cannot be shared.
        """
        return self.model_copy(update={"serve": self.serve or "adapter"})

    def why_alone(self, model: Mapping[str, Any]) -> str | None:
        """Return the reason why several runs cannot share the engine: merged adapters overwrite the base model."""
        if self.sleeps:
            return "sampler.sleep=true lets the samplers sleep while one learner works; remove it to share engines"
        if self.shared().serving(model, "float32") == "adapter":
            return None
        return "sampler.serve=merged writes the adapter into the base model; sampler.serve=adapter can share engines"


def temperature_problems(temperatures: Mapping[str, float]) -> list[str]:
    """Return the temperatures at which vLLM cannot sample, one sentence each."""
    return [
        f"{key}={value:g}: vLLM accepts at most {MAX_TEMPERATURE:g}; lower it, or use sampler=transformers"
        for key, value in temperatures.items()
        if value > MAX_TEMPERATURE
    ]
