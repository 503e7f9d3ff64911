"""A running vLLM server, reached over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rft.config.fields import AbsoluteFolder, Positive, PositiveSeconds
from rft.config.learners.base import LoraConfig
from rft.config.samplers.base import ModelSamplerConfig
from rft.config.samplers.vllm import temperature_problems
from rft.models.architectures import serving_problems, tried


class ServerSamplerConfig(ModelSamplerConfig):
    """A running vLLM server, reached over HTTP; it loads each adapter from a folder that it shares with rft."""

    engine_class: ClassVar[str] = "rft.sampling.server_engine:ServerEngine"
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    is_remote: ClassVar[bool] = True

    kind: Literal["server"] = "server"
    url: Annotated[str, Field(pattern=r"^https?://")] = "http://127.0.0.1:8000/v1"
    """Address of the server's API."""
    api_key_env: str | None = None
    """Environment variable that holds the server's API key, also on the sampler's node; null sends no key."""
    adapter_folder: AbsoluteFolder | None = None
    """Absolute folder for adapters, which rft writes and the server reads under the same path; null takes the temporary
    folder of the sampler's node."""
    max_concurrency: Positive = 64
    """Completions requested at the same time."""
    request_timeout_s: PositiveSeconds = 300.0
    """Seconds allowed for one completion, and for loading an adapter."""

    @property
    def gpus_spanned(self) -> int:
        """Number of GPUs that one engine spans: 0, since the server has its own."""
        return 0

    def problems(self, *, lora: LoraConfig | None, staleness: int) -> list[str]:
        """Refuse whole models, which the server cannot load, and several clients of one server."""
        problems = []
        if lora is None:
            problems.append("learner.lora=null: sampler=server loads adapters, no whole models; use sampler=vllm")
        if self.num_actors > 1:
            problems.append(
                f"sampler.num_actors={self.num_actors}: sampler=server needs one client; use sampler.num_actors=1, and "
                "raise sampler.max_concurrency"
            )
        return problems

    def temperature_problems(self, temperatures: Mapping[str, float]) -> list[str]:
        """Refuse temperatures above vLLM's maximum."""
        return temperature_problems(temperatures)

    def model_problems(self, model: Mapping[str, Any], *, with_adapter: bool) -> list[str]:
        """Refuse architectures that vLLM lacks, or for which it serves no adapters."""
        problems = serving_problems(model, None, with_adapter=with_adapter)
        known = tried(model)
        if with_adapter and not problems and known is not None and not known.serves_adapters:
            problems.append(f"sampler=server: vLLM serves no adapters beside {known.name}; use sampler=vllm")
        return problems
