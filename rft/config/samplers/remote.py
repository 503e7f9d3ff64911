"""What samplers that speak to a running server share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from rft.config.adapters import AdapterConfig
from rft.config.fields import AbsoluteFolder, Positive, PositiveSeconds
from rft.config.samplers.base import ModelSamplerConfig
from rft.models import served_adapters


def _http(value: str) -> str:
    """Refuse an address without its protocol."""
    if not value.startswith(("http://", "https://")):
        raise PydanticCustomError("http", "should begin with http:// or https://")
    return value


ServerUrl = Annotated[str, AfterValidator(_http)]


class RemoteSamplerConfig(ModelSamplerConfig):
    """A running server, reached over HTTP; it loads each adapter from a folder that it shares with rft."""

    engine_class: ClassVar[str] = "rft.sampling.server_engine:ServerEngine"
    client_class: ClassVar[str]
    """`module:Class` of the `ServerClient` that speaks the server's protocol."""
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    is_remote: ClassVar[bool] = True

    url: ServerUrl
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

    def adapter_problems(self, adapter: Mapping[str, Any]) -> list[str]:
        """Refuse adapters that must be merged. The rank that the server serves is its own setting."""
        return served_adapters.adapter_problems(adapter, merged=False, max_rank=None)

    def problems(self, *, adapter: AdapterConfig, staleness: int) -> list[str]:
        """Refuse whole models, which the server cannot load, and several clients of one server."""
        problems = []
        if adapter.publishes == "model":
            problems.append(
                f"learner.adapter={adapter.method}: publishes whole models, and sampler={self.kind} loads adapters; "
                "use sampler=vllm, or learner.adapter=lora"
            )
        elif adapter.needs_merge:
            problems.append(
                f"learner.adapter={adapter.method}: samplers must merge {adapter.label}, and sampler={self.kind} loads "
                "adapters beside the base model; use sampler=vllm, or learner.adapter=lora"
            )
        if self.num_actors > 1:
            problems.append(
                f"sampler.num_actors={self.num_actors}: sampler={self.kind} needs one client; use "
                "sampler.num_actors=1, and raise sampler.max_concurrency"
            )
        return problems
