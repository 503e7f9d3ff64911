"""The methods of `learner.adapter` with PEFT: which weights of a model are trained, and the weights that result.

Samplers serve LoRA and its variants as adapters. Other adapters are merged into a copy of the base model, which is
published as a whole model; the learner's own base model keeps every bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from rft.config.adapters import (
    AdapterConfig,
    DoraAdapterConfig,
    Ia3AdapterConfig,
    LowRankConfig,
    RsloraAdapterConfig,
    SelectiveConfig,
    VeraAdapterConfig,
)


def peft_config(adapter: AdapterConfig, model: Any) -> peft.PeftConfig | None:
    """Return the configuration of PEFT for a new adapter; None if weights of the model itself are trained.

    Args:
        adapter: The method and its keys.
        model: The base model.
    """
    match adapter:
        case LowRankConfig():
            return peft.LoraConfig(
                r=adapter.rank,
                lora_alpha=adapter.alpha,
                lora_dropout=adapter.dropout,
                use_rslora=isinstance(adapter, RsloraAdapterConfig),
                use_dora=isinstance(adapter, DoraAdapterConfig),
                target_modules=_targets(adapter, model),
                task_type="CAUSAL_LM",
            )
        case VeraAdapterConfig():
            return peft.VeraConfig(
                r=adapter.rank,
                d_initial=adapter.initial_scale,
                vera_dropout=adapter.dropout,
                target_modules=_targets(adapter, model),
                task_type="CAUSAL_LM",
            )
        case Ia3AdapterConfig():
            return peft.IA3Config(
                target_modules=[*adapter.modules, *adapter.feedforward_modules],
                feedforward_modules=adapter.feedforward_modules,
                task_type="CAUSAL_LM",
            )
    return None


def _targets(adapter: SelectiveConfig, model: Any) -> str | list[str]:
    """Return the modules to adapt, in PEFT's notation: last names such as `q_proj` if these select the same modules."""
    if adapter.layers is None and adapter.modules is None:
        return "all-linear"
    head = model.get_output_embeddings()
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    ]
    selected = [name for name in linear if adapter.selects(name)]
    last_names = {name.rpartition(".")[2] for name in selected}
    is_exact = all(name in selected for name in linear if name.rpartition(".")[2] in last_names)
    return sorted(last_names) if is_exact else selected


def freeze(model: Any, adapter: AdapterConfig) -> None:
    """Freeze the weights of a base model that a method which trains some of them does not select."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(adapter.selects(name))


@torch.no_grad()
def merged_state(model: Any) -> dict[str, Tensor]:
    """Return the weights of the base model with the adapter merged, by name. The model is left unchanged.

    PEFT's own way back (`unmerge_adapter`) leaves rounding errors in the base model, which would add up over the steps.

    Args:
        model: A PEFT model, whose adapter is not merged.
    """
    base = model.get_base_model()
    adapted = dict(_adapted_layers(base))
    state = {}
    for name, tensor in base.state_dict().items():
        layer = next((layer for layer in _parents(name) if layer in adapted), None)
        if layer is None:
            state[name] = tensor
        elif name.startswith(f"{layer}.base_layer."):
            state[name.replace(".base_layer.", ".", 1)] = tensor
    for name, adapter_layer in adapted.items():
        state |= {f"{name}.{key}": tensor for key, tensor in _merged_layer(adapter_layer).items()}
    return state


def _adapted_layers(base: Any) -> Iterator[tuple[str, Any]]:
    for name, module in base.named_modules():
        if isinstance(module, BaseTunerLayer):
            yield name, module


def _parents(name: str) -> Iterator[str]:
    """Yield the modules that contain a tensor, the innermost first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _merged_layer(layer: Any) -> dict[str, Tensor]:
    """Return weight and bias of a layer with the adapter merged."""
    weights = dict(layer.get_base_layer().named_parameters())
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    layer.merge()
    merged = {name: weight.detach().clone() for name, weight in weights.items()}
    layer.merged_adapters.clear()
    for name, weight in weights.items():
        weight.data = before[name]
    return merged
