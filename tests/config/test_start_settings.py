"""A run that starts from an adapter takes its rank, alpha and base model, and refuses settings that contradict it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import yaml

from rft.config import RunConfig
from rft.config.commands import load_training
from rft.errors import ConfigError, UsageError

QUICK = ("experiment=quickstart", "logging=none")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A run folder whose adapter has rank 4 and alpha 12, on the embedded model."""
    folder = tmp_path / "first"
    (folder / "adapter").mkdir(parents=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": "/gone/model", "r": 4, "lora_alpha": 12}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{module}.lora_A.weight": np.ones((4, 8), dtype=np.float32),
        f"{module}.lora_B.weight": np.ones((8, 4), dtype=np.float32),
    }
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(safetensors.numpy.save(tensors))
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"path": "embedded:tiny"}}))
    return folder


@pytest.fixture
def load(adapter: Path) -> Callable[..., RunConfig]:
    """`load("loop.steps=2")`: the quickstart from this adapter."""
    return lambda *words: load_training([*QUICK, f"start={adapter}", *words], "/nowhere")


def test_rank_alpha_and_base_model_are_those_of_the_adapter(load: Callable[..., Any], adapter: Path) -> None:
    run = load("model.path=null")
    assert (run.start, run.model.path) == (str(adapter), "embedded:tiny")
    expected = {"method": "lora", "rank": 4, "alpha": 12.0, "dropout": 0.0, "layers": None, "modules": None}
    assert run.learner.adapter.model_dump() == expected
    assert load("learner.adapter.rank=4", "learner.adapter.dropout=0.1").learner.adapter.dropout == 0.1
    assert load_training(QUICK, "/nowhere").learner.adapter.rank != 4


def test_settings_that_contradict_the_adapter_are_refused_together(load: Callable[..., Any], adapter: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load("learner.adapter.rank=8", "learner.adapter.alpha=5")
    assert list(refused.value.problems) == [
        f"learner.adapter.rank=8: the adapter of start={adapter} has 4, and the run continues it; leave "
        "learner.adapter.rank out",
        f"learner.adapter.alpha=5: the adapter of start={adapter} has 12, and the run continues it; leave "
        "learner.adapter.alpha out",
    ]
    with pytest.raises(ConfigError, match=r"learner.adapter=full: start=.* continues a LoRA adapter; leave"):
        load("learner.adapter=full")
    with pytest.raises(ConfigError, match=r"learner.adapter.method=rslora: the adapter of start=.* has lora"):
        load("learner.adapter=rslora")
    with pytest.raises(ConfigError, match=r"learner.adapter.layers=\[0\]: the run continues the modules"):
        load("learner.adapter.layers=[0]")


def test_the_method_is_that_of_the_adapter(load: Callable[..., Any], adapter: Path) -> None:
    file = adapter / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_dora": True}))
    assert load().learner.adapter.method == "dora"
    with pytest.raises(ConfigError, match=r"learner.adapter=dora: start_mode=stack adds plain LoRA"):
        load("start_mode=stack", "learner.adapter=dora")


def test_a_merged_start_has_no_say_about_the_new_adapter(load: Callable[..., Any], adapter: Path) -> None:
    run = load("model.path=null", "start_mode=merge", "learner.adapter.rank=2")
    assert (run.model.path, run.learner.adapter.rank) == ("embedded:tiny", 2)
    assert load("start_mode=merge", "learner.adapter=full").learner.adapter.method == "full"
    with pytest.raises(ConfigError, match="start_mode=merge: there is no adapter to start from; give it in start"):
        load_training([*QUICK, "start_mode=merge"], "/nowhere")


def test_a_stack_needs_an_engine_that_serves_the_sum_of_both_ranks(load: Callable[..., Any], adapter: Path) -> None:
    limited = ("start_mode=stack", "sampler.serve=adapter", "sampler.engine.max_lora_rank=16")
    assert load(*limited, "learner.adapter.rank=12").learner.adapter.rank == 12
    with pytest.raises(ConfigError) as refused:
        load(*limited, "learner.adapter.rank=13")
    assert list(refused.value.problems) == [
        f"start_mode=stack: the adapter of start={adapter} has rank 4 and the new one learner.adapter.rank=13, so "
        "samplers serve rank 17, above the limit of 16; lower learner.adapter.rank, raise the limit "
        "(sampler.engine.max_lora_rank), or use sampler.serve=merged or start_mode=merge, which need none"
    ]
    assert load("start_mode=stack", "sampler.serve=merged", "learner.adapter.rank=512").learner.adapter.rank == 512
    with pytest.raises(ConfigError, match=r"learner.adapter=full: start=.* adds a LoRA adapter to another; leave"):
        load("start_mode=stack", "learner.adapter=full")


def test_a_start_that_is_gone_is_reported_with_everything_else(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(UsageError, match="gone does not exist"):
        load_training([*QUICK, f"start={gone}", "model.path=null"], "/nowhere")
    assert load_training([*QUICK, f"start={gone}"], "/nowhere").start == str(gone)  # its inputs report it
    with pytest.raises(ConfigError) as refused:
        load_training([*QUICK, f"start={gone}", "loop.steps=0"], "/nowhere")
    assert [problem for problem in refused.value.problems if str(gone) in problem] == [
        f"start={gone}: {gone} does not exist; name a run folder or an adapter folder"
    ]


def test_an_engine_must_serve_the_rank_of_the_start_and_not_the_default(load: Callable[..., Any]) -> None:
    adapter = load("sampler.serve=adapter", "sampler.engine.max_lora_rank=8").learner.adapter
    assert adapter.rank == 4
    with pytest.raises(ConfigError, match=r"max_lora_rank=2: is below learner.adapter.rank=4"):
        load("sampler.serve=adapter", "sampler.engine.max_lora_rank=2")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"r": 700}, "the adapter has rank 700, and rft trains at most 512; use start_mode=merge"),
        ({"lora_alpha": 0}, "learner.adapter.alpha=0.0: should be greater than 0"),
    ],
)
def test_settings_of_an_adapter_that_no_run_can_have(
    load: Callable[..., Any], adapter: Path, config: dict[str, Any], told: str
) -> None:
    file, rank = adapter / "adapter" / "adapter_config.json", config.get("r", 4)
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    content = {"lora_A": np.ones((rank, 8), dtype=np.float32), "lora_B": np.ones((8, rank), dtype=np.float32)}
    tensors = {f"base_model.model.model.layers.0.self_attn.q_proj.{name}.weight": one for name, one in content.items()}
    (adapter / "adapter" / "adapter_model.safetensors").write_bytes(safetensors.numpy.save(tensors))
    with pytest.raises(ConfigError) as refused:
        load("loop.steps=0")
    assert any(problem.endswith(told) for problem in refused.value.problems)
    assert any(problem.startswith("loop.steps=0") for problem in refused.value.problems)
