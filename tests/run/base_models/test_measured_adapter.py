"""The adapter of an evaluation: which base model it gets, and what is told before anything starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from rich.console import Console

from rft.config import EvaluateConfig
from rft.errors import UsageError
from rft.models.base_model import EMBEDDED_MODELS
from rft.models.weight_files import read_weights
from rft.run.base_models.measured_adapter import with_base_model
from rft.run.check import plan_evaluation

TINY = EMBEDDED_MODELS["embedded:tiny"]
MODULE = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(size=..., use_dora=True)`: an adapter of the tiny model, or of one with other sizes."""

    def adapter(size: int = 0, **config: Any) -> Path:
        size_out, size_in = read_weights(TINY).tensors[f"{MODULE}.weight"].shape
        content = {
            f"base_model.model.{MODULE}.lora_A.weight": np.ones((2, size or size_in), dtype=np.float32),
            f"base_model.model.{MODULE}.lora_B.weight": np.ones((size_out, 2), dtype=np.float32),
        }
        folder = tmp_path / "adapter"
        folder.mkdir(exist_ok=True)
        named = {"base_model_name_or_path": str(TINY), "r": 2, "lora_alpha": 4}
        (folder / "adapter_config.json").write_text(json.dumps(named | config))
        (folder / "adapter_model.safetensors").write_bytes(safetensors.numpy.save(content))
        return folder

    return adapter


@pytest.fixture
def evaluation_of(tmp_path: Path) -> Callable[..., EvaluateConfig]:
    """`evaluation_of(adapter, serve="adapter")`: an evaluation with vLLM."""
    (tmp_path / "test.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')

    def make(adapter: Path, test: str = "test.jsonl", **sampler: Any) -> EvaluateConfig:
        return EvaluateConfig.model_validate(
            {
                "output_dir": str(tmp_path / "out"),
                "adapter": str(adapter),
                "model": {},
                "data": {"test": str(tmp_path / test)},
                "sampler": {"kind": "vllm", "max_completion_tokens": 8, **sampler},
                "graders": {"correct": {"use": "exact"}},
            }
        )

    return make


def test_an_adapter_that_vllm_serves_only_merged_is_merged(
    write: Callable[..., Path], evaluation_of: Callable[..., EvaluateConfig]
) -> None:
    plain, _ = with_base_model(evaluation_of(write()))
    assert (plain.model.path, plain.sampler.serving({}, "bfloat16")) == (str(TINY), "adapter")
    dora, _ = with_base_model(evaluation_of(write(use_dora=True)))
    assert dora.sampler.serving({}, "bfloat16") == "merged"


def test_what_cannot_be_measured_is_told_with_the_problems_of_the_tasks(
    write: Callable[..., Path], evaluation_of: Callable[..., EvaluateConfig]
) -> None:
    adapter = write(size=7, use_dora=True)
    with pytest.raises(UsageError) as refused:
        plan_evaluation(evaluation_of(adapter, test="gone.jsonl", serve="adapter"), Console(quiet=True))
    served, fits, task_file = refused.value.problems
    assert served == f"adapter={adapter}: use_dora: vLLM does not serve DoRA as an adapter; use sampler.serve=merged"
    assert fits.startswith(
        f"adapter={adapter}: 1 of its 2 tensors do not fit the base model: base_model.model.{MODULE}"
    )
    assert fits.endswith("; give the adapter's base model in model.path")
    assert "gone.jsonl" in task_file


def test_another_base_model_of_the_same_sizes_is_worth_a_warning(
    write: Callable[..., Path], evaluation_of: Callable[..., EvaluateConfig]
) -> None:
    adapter = write()
    (adapter / "config.yaml").write_text("{}")
    (adapter / "manifest.json").write_text('{"base_model": {"fingerprint": "other"}}')
    plan = plan_evaluation(evaluation_of(adapter, kind="transformers"), Console(quiet=True))
    assert f"warning: adapter={adapter}: it was trained on a base model with the fingerprint other" in str(plan)
