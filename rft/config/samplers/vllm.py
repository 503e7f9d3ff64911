"""vLLM, one engine in each sampler's own process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from rft.config.learners.base import LoraConfig
from rft.config.samplers.base import ModelSamplerConfig
from rft.models.architectures import serving_problems, tried

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM allows for `max_lora_rank`."""
MAX_TEMPERATURE = 2.0
"""The highest temperature that vLLM samples at."""


class VllmSamplerConfig(ModelSamplerConfig):
    """vLLM, on a CPU or on GPUs."""

    engine_class: ClassVar[str] = "rft.sampling.vllm_engine:VllmEngine"
    libraries: ClassVar[tuple[str, ...]] = ("vllm", "torch")

    kind: Literal["vllm"] = "vllm"
    serve: Literal["adapter", "merged"] | None = None
    """How an adapter is served: `adapter`, beside the base model; or `merged` into a clean copy of it, which samples
    faster and takes DoRA and any rank. null is merged in float32, and adapter in 16 bits, where a merged weight rounds
    small updates away."""
    engine: dict[str, Any] = {}
    """vLLM's own `EngineArgs` by name, such as `gpu_memory_utilization`; they override rft's settings."""

    @property
    def gpus_spanned(self) -> int:
        """GPUs that one engine spans: tensor times pipeline parallelism."""
        return int(self.engine.get("tensor_parallel_size") or 1) * int(self.engine.get("pipeline_parallel_size") or 1)

    def problems(self, *, lora: LoraConfig | None, staleness: int) -> list[str]:
        """Settings that the adapters to come do not fit into."""
        if lora is None:
            if self.serve is None:
                return []
            return [f"sampler.serve={self.serve}: learner.lora=null trains whole models, no adapters; leave it out"]
        if self.serve != "adapter":
            return []
        found = []
        max_rank, max_loras = self.engine.get("max_lora_rank"), self.engine.get("max_loras")
        if isinstance(max_rank, int) and max_rank < lora.rank:
            found.append(
                f"sampler.engine.max_lora_rank={max_rank}: learner.lora.rank={lora.rank} is above it; leave it out, or "
                "use sampler.serve=merged, which takes any rank"
            )
        if isinstance(max_loras, int) and max_loras < staleness + 2:
            found.append(
                f"sampler.engine.max_loras={max_loras}: loop.staleness={staleness} needs {staleness + 2}, for a "
                "version is loaded before the oldest goes; leave it out"
            )
        return found

    def temperature_problems(self, temperatures: Mapping[str, float]) -> list[str]:
        """Temperatures above vLLM's highest."""
        return temperature_problems(temperatures)

    def model_problems(self, model: Mapping[str, Any], *, with_adapter: bool) -> list[str]:
        """Architectures that vLLM does not have, or beside which it serves no adapters."""
        return serving_problems(model, self.serve, with_adapter=with_adapter)

    def serving(self, model: Mapping[str, Any], dtype: str) -> Literal["adapter", "merged"]:
        """As configured; else merged in float32 and where vLLM serves no adapters, and as an adapter in 16 bits."""
        known = tried(model)
        if known is not None and not known.serves_adapters:
            return "merged"
        return self.serve or ("merged" if dtype == "float32" else "adapter")

    def shared(self) -> Self:
        """With adapters beside the base model, unless something else is configured.

        A run of its own would be served merged in float32, which is faster for one and impossible for several.
        """
        return self.model_copy(update={"serve": self.serve or "adapter"})

    def why_alone(self, model: Mapping[str, Any]) -> str | None:
        """Merged adapters overwrite the base model."""
        if self.shared().serving(model, "float32") == "adapter":
            return None
        return (
            "with sampler.serve=merged the adapter is written into the base model; sampler.serve=adapter can be shared"
        )


def temperature_problems(temperatures: Mapping[str, float]) -> list[str]:
    """Which temperatures vLLM cannot sample at, one sentence each."""
    return [
        f"{key}={value:g}: vLLM takes at most {MAX_TEMPERATURE:g}; lower it, or use sampler=transformers"
        for key, value in temperatures.items()
        if value > MAX_TEMPERATURE
    ]
