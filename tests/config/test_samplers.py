"""What each engine says about itself."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from rft.config.presets import conf_dir
from rft.config.samplers import SAMPLERS
from rft.config.samplers.base import SamplerConfig
from rft.config.samplers.server import ServerSamplerConfig
from rft.config.samplers.sglang_server import SglangServerSamplerConfig
from rft.config.samplers.transformers import TransformersSamplerConfig
from rft.config.samplers.vllm import VllmSamplerConfig

GPT2, LLAMA = {"model_type": "gpt2"}, {"model_type": "llama"}
MIXTRAL = {"model_type": "mixtral", "num_local_experts": 8}


def test_an_engine_is_a_file_and_a_preset() -> None:
    assert set(SAMPLERS) == {"fake", "server", "sglang_server", "transformers", "vllm"}
    for kind, sampler in SAMPLERS.items():
        assert sampler.__module__ == f"rft.config.samplers.{kind}"
        assert sampler().kind == kind
        assert (conf_dir() / "sampler" / f"{kind}.yaml").is_file()
        module, _, name = sampler.engine_class.partition(":")
        assert importlib.util.find_spec(module) is not None
        assert name.endswith("Engine")


@pytest.mark.parametrize(
    ("sampler", "model", "dtype", "expected"),
    [
        (VllmSamplerConfig(), LLAMA, "float32", "merged"),
        (VllmSamplerConfig(), LLAMA, "bfloat16", "adapter"),
        (VllmSamplerConfig(serve="adapter"), LLAMA, "float32", "adapter"),
        (VllmSamplerConfig(serve="merged"), LLAMA, "bfloat16", "merged"),
        (VllmSamplerConfig(), GPT2, "bfloat16", "merged"),  # vLLM serves no adapters beside it
        (VllmSamplerConfig().shared(), LLAMA, "float32", "adapter"),
        (TransformersSamplerConfig(), GPT2, "float32", "adapter"),
        (ServerSamplerConfig(), LLAMA, "float32", "adapter"),
        (SglangServerSamplerConfig(), GPT2, "float32", "adapter"),
    ],
)
def test_how_an_adapter_is_served(sampler: SamplerConfig, model: dict[str, Any], dtype: str, expected: str) -> None:
    assert sampler.serving(model, dtype) == expected


@pytest.mark.parametrize(
    ("sampler", "model", "problem"),
    [
        (ServerSamplerConfig(), GPT2, "sampler=server: vLLM serves no adapters beside GPT-2; use sampler=vllm"),
        (ServerSamplerConfig(), MIXTRAL, "the model (mixtral) is a mixture of experts"),
        (ServerSamplerConfig(), LLAMA, None),
        (SglangServerSamplerConfig(), GPT2, None),  # the tables are about vLLM
        (VllmSamplerConfig(), MIXTRAL, "the model (mixtral) is a mixture of experts"),
        (VllmSamplerConfig(), GPT2, None),
        (TransformersSamplerConfig(), MIXTRAL, None),
    ],
)
def test_models_that_an_engine_cannot_serve(sampler: SamplerConfig, model: dict[str, Any], problem: str | None) -> None:
    found = sampler.model_problems(model, with_adapter=True)
    assert [one.startswith(problem or "") for one in found] == [True] * (problem is not None)
