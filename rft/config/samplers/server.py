"""A vLLM server that is already running, reached over HTTP."""

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
        """None: the server has its own."""
        return 0

    def problems(self, *, lora: LoraConfig | None, staleness: int) -> list[str]:
        """Whole models, which the server cannot load, and several clients of one server."""
        found = []
        if lora is None:
            found.append("learner.lora=null: sampler=server loads adapters, no whole models; use sampler=vllm")
        if self.num_actors > 1:
            found.append(
                f"sampler.num_actors={self.num_actors}: sampler=server needs one client; use sampler.num_actors=1, and "
                "raise sampler.max_concurrency"
            )
        return found

    def temperature_problems(self, temperatures: Mapping[str, float]) -> list[str]:
        """Temperatures above vLLM's highest."""
        return temperature_problems(temperatures)

    def model_problems(self, model: Mapping[str, Any], *, with_adapter: bool) -> list[str]:
        """Architectures that vLLM does not have, or beside which it serves no adapters."""
        found = serving_problems(model, None, with_adapter=with_adapter)
        known = tried(model)
        if with_adapter and not found and known is not None and not known.serves_adapters:
            found.append(f"sampler=server: vLLM serves no adapters beside {known.name}; use sampler=vllm")
        return found
