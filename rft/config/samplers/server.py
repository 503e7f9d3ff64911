"""A running vLLM server, reached over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from rft.config.samplers.remote import RemoteSamplerConfig, ServerUrl
from rft.config.samplers.vllm import temperature_problems
from rft.models.architectures import serving_problems, tried


class ServerSamplerConfig(RemoteSamplerConfig):
    """A running vLLM server, reached over HTTP; it loads each adapter from a folder that it shares with rft."""

    client_class: ClassVar[str] = "rft.sampling.vllm_client:VllmClient"

    kind: Literal["server"] = "server"
    url: ServerUrl = "http://127.0.0.1:8000/v1"
    """Address of the server's API."""

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
