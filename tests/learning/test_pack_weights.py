"""Adapters packed from a tiny PEFT model."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from peft import (
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    VeraConfig,
    get_peft_model,
    get_peft_model_state_dict,
)
from transformers import AutoModelForCausalLM

from rft.learning.adapter_packer import AdapterPacker
from rft.learning.pack_weights import fingerprint, pack_adapter
from rft.models.base_model import load_tokenizer
from rft.run_folder.result_folders import save_adapter
from rft.types import Adapter

pytestmark = pytest.mark.e2e  # real libraries or real limits: too slow for a unit test


@pytest.fixture
def model(make_peft_model: Callable[..., Any]) -> Any:
    return make_peft_model(seed=1, rank=4)


def pack(model: Any, version: int = 3) -> Adapter:
    return pack_adapter(model, version=version, base_model_name="some/model")


def test_what_an_adapter_holds(model: Any) -> None:
    adapter = pack(model)
    assert adapter.policy.version == 3
    assert adapter.policy.fingerprint == hashlib.sha256(adapter.tensors).hexdigest()[:16]
    layers = model.config.num_hidden_layers
    matrices = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    tensors = safetensors.torch.load(adapter.tensors)
    assert set(tensors) == {
        f"base_model.model.model.layers.{layer}.{matrix}.lora_{side}.weight"
        for layer in range(layers)
        for matrix in matrices
        for side in "AB"
    }
    hidden = model.config.hidden_size
    assert tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (4, hidden)


def test_its_configuration_is_json_that_peft_knows(model: Any) -> None:
    config = pack(model).config
    assert json.loads(json.dumps(config)) == config
    assert (config["r"], config["lora_alpha"], config["peft_type"], config["task_type"]) == (4, 8, "LORA", "CAUSAL_LM")
    assert (config["base_model_name_or_path"], config["inference_mode"]) == ("some/model", True)
    assert config["target_modules"] == sorted(config["target_modules"])


def test_packing_leaves_the_model_as_it_was(model: Any) -> None:
    pack(model)
    assert model.peft_config["default"].inference_mode is False
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_the_fingerprint_changes_with_the_tensors_and_only_with_them(
    model: Any, make_peft_model: Callable[..., Any]
) -> None:
    first = pack(model)
    again = pack(make_peft_model(seed=1, rank=4), version=9)
    assert again.tensors == first.tensors
    assert again.policy.fingerprint == first.policy.fingerprint
    assert pack_adapter(model, version=3, base_model_name="other").policy == first.policy
    matrix = next(parameter for name, parameter in model.named_parameters() if "lora_B" in name)
    with torch.no_grad():
        matrix[0, 0] += 1e-3
    changed = pack(model)
    assert changed.policy.fingerprint != first.policy.fingerprint
    with torch.no_grad():
        matrix[0, 0] -= 1e-3
    assert fingerprint(pack(model).tensors) == pack(model).policy.fingerprint


def test_peft_loads_it_back_equal(model: Any, tiny_model: Path, tmp_path: Path) -> None:
    adapter = pack_adapter(model, version=3, base_model_name=str(tiny_model))
    save_adapter(tmp_path / "adapter", adapter, load_tokenizer(tiny_model, None), "")
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    expected = get_peft_model_state_dict(model)
    for name, tensor in get_peft_model_state_dict(loaded).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    ids = torch.arange(5, 15).unsqueeze(0)
    with torch.no_grad():
        # The weights are equal bit for bit; a product of them depends on where they lie in memory.
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=1e-4)
        with loaded.disable_adapter():
            assert (loaded(ids).logits - model(ids).logits).abs().max() > 0.01


METHODS: list[PeftConfig] = [
    LoraConfig(r=4, target_modules="all-linear"),
    LoraConfig(r=4, target_modules=["q_proj"], use_dora=True),
    VeraConfig(r=4, target_modules=["v_proj", "o_proj"]),
    IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
]


@pytest.mark.parametrize("config", METHODS, ids=lambda config: f"{config.peft_type}-{getattr(config, 'use_dora', 0)}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_packing_again_and_again_gives_the_same_bytes(config: PeftConfig, dtype: torch.dtype, tiny_model: Path) -> None:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=dtype), config)
    packer = AdapterPacker(model, "some/model")
    for version in (1, 2):
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += 0.01 * version
        assert packer.pack(version) == pack_adapter(model, version=version, base_model_name="some/model")


def test_tensors_that_a_model_does_not_hold_are_packed_each_time(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}
    monkeypatch.setattr("rft.learning.adapter_packer.get_peft_model_state_dict", lambda *_, **__: copied)
    packer = AdapterPacker(model, "some/model")
    monkeypatch.undo()
    with torch.no_grad():
        next(parameter for name, parameter in model.named_parameters() if "lora_B" in name).fill_(1.0)
    assert packer.pack(3) == pack(model)
