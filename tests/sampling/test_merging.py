"""An adapter merged into the base model: equal to what PEFT makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from rft.errors import ModelError
from rft.learning.pack_weights import pack_adapter
from rft.sampling.lora_modules import Parts, take_apart
from rft.sampling.merging import BaseWeights, merge, touched, unmatched, whole_layers

MODULE = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def lora(tiny_model: Path) -> Callable[..., tuple[Any, Parts]]:
    """`lora(use_dora=True)`: a PEFT model with random values everywhere, and its adapter taken apart."""

    def make(**options: Any) -> tuple[Any, Parts]:
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        how = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
        model = get_peft_model(base, LoraConfig(**(how | options)))
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, mean=1.0 if "magnitude" in name else 0.0, std=0.1)
            elif "modules_to_save" in name:
                torch.nn.init.normal_(parameter)
        return model, take_apart(pack_adapter(model, version=1, base_model_name="base"))

    return make


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"target_modules": ["q_proj", "down_proj"]},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 3}},
        {"target_modules": ["q_proj"], "modules_to_save": ["down_proj"]},
    ],
    ids=lambda options: "+".join(options) or "plain",
)
def test_it_is_what_peft_merges(lora: Any, tiny_model: Path, options: dict[str, Any]) -> None:
    model, parts = lora(**options)
    base = BaseWeights(tiny_model)
    assert unmatched(base, parts) == []
    merged = {name: merge(base, parts, name, torch.float32) for name in touched(base, parts)}
    expected = model.merge_and_unload().state_dict()
    for name in base.names:
        tensor = merged.get(name, base.tensor(name))
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
        if name in merged:
            assert (tensor - base.tensor(name)).abs().max() > 0.01
    assert len(merged) >= 6, "at least two modules in each of three layers"


def test_it_has_the_type_that_is_asked_for(lora: Any, tiny_model: Path) -> None:
    _, parts = lora()
    assert merge(BaseWeights(tiny_model), parts, f"{MODULE}.weight", torch.bfloat16).dtype == torch.bfloat16


def test_modules_that_the_base_model_has_not(lora: Any, tiny_model: Path) -> None:
    _, parts = lora()
    parts.updates = {name.replace(".layers.0.", ".layers.9."): update for name, update in parts.updates.items()}
    missing = unmatched(BaseWeights(tiny_model), parts)
    assert len(missing) == 7
    assert MODULE.replace(".0.", ".9.") in missing


def test_a_fused_layer_is_reloaded_whole(tiny_model: Path) -> None:
    base = BaseWeights(tiny_model)
    packed = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
    attention = "model.layers.0.self_attn"
    assert whole_layers(base, [f"{MODULE}.weight"], packed) == [
        f"{attention}.{name}_proj.weight" for name in ("k", "q", "v")
    ]
    assert whole_layers(base, [f"{attention}.o_proj.weight"], packed) == [f"{attention}.o_proj.weight"]


def test_a_head_of_its_own_is_reloaded(tmp_path: Path) -> None:
    safetensors.torch.save_file(
        {name: torch.zeros(2, 2) for name in ("lm_head.weight", "model.embed_tokens.weight")},
        tmp_path / "model.safetensors",
    )
    assert whole_layers(BaseWeights(tmp_path), ["lm_head.weight"], {}) == ["lm_head.weight"]


def test_linear_modules_are_those_of_every_layer(tiny_model: Path) -> None:
    assert BaseWeights(tiny_model).linear_names() == sorted(
        f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")
    )


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no \.safetensors file there"):
        BaseWeights(tmp_path)


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("without_head", [False, True])
def test_weights_that_lie_transposed(tmp_path: Path, use_dora: bool, without_head: bool) -> None:
    """GPT-2's layers hold `[in, out]`; the checkpoint that its makers published leaves out `transformer.`"""
    torch.manual_seed(0)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8, "vocab_size": 16}
    plain = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    (plain.transformer if without_head else plain).save_pretrained(tmp_path)
    model = get_peft_model(
        plain, LoraConfig(r=2, lora_alpha=6, target_modules="all-linear", use_dora=use_dora, fan_in_fan_out=True)
    )
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, mean=1.0 if "magnitude" in name else 0.0, std=0.1)
    parts = take_apart(pack_adapter(model, version=1, base_model_name="base"))
    base = BaseWeights(tmp_path)
    prefix = "" if without_head else "transformer."
    attention, mlp = (f"{prefix}h.0.{part}" for part in ("attn", "mlp"))
    assert unmatched(base, parts) == []
    merged = {name: merge(base, parts, name, torch.float32) for name in touched(base, parts)}
    assert sorted(merged) == [
        f"{attention}.c_attn.weight",
        f"{attention}.c_proj.weight",
        f"{mlp}.c_fc.weight",
        f"{mlp}.c_proj.weight",
    ]
    expected = model.merge_and_unload().state_dict()
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, expected[f"transformer.{name.removeprefix('transformer.')}"])
    assert base.linear_names() == ["c_attn", "c_fc", "c_proj"]
