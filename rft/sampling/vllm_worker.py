"""rft's extension of vLLM's worker, which has the weights: reads back the served adapter.

vLLM mixes this class into its own worker (`worker_extension_cls`) and lets the engine call its methods by name. The
location of an adapter is undocumented: `LoRAModelManager` gives it a slot, and each LoRA layer keeps `lora_a_stacked`
and `lora_b_stacked`, one tensor `[slots, 1, rows, columns]` for each part of a fused layer such as `qkv_proj`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rft.sampling.engine import Loaded
from rft.sampling.in_place_weights import InPlaceModel, StoredModel
from rft.sampling.lora_modules import ModuleUpdate, take_apart
from rft.sampling.merging import BaseWeights
from rft.types import Adapter, FullWeights


@dataclass(slots=True)
class ReadBack:
    """The comparison of an adapter in one worker with the published one."""

    matched: set[str] = field(default_factory=set)
    """Modules of the adapter that exist in the model."""
    unmatched: set[str] = field(default_factory=set)
    """Modules of the adapter that the model lacks."""
    different: dict[str, float] = field(default_factory=dict)
    """Modules whose weights differ from the published ones, with the largest difference."""


class ReadBackWorker:
    """Mixin for vLLM's worker."""

    _rft_in_place: InPlaceModel | None = None
    """The worker's model, once a policy was written into it."""

    def rft_read_back(self, lora_id: int, adapter: Adapter) -> ReadBack:
        """Compare the slot of an adapter with the published weights, bit by bit.

        The comparison includes the scaling, which vLLM multiplies into B.
        """
        manager = self.model_runner.lora_manager._adapter_manager  # type: ignore[attr-defined]
        slot = manager.lora_index_to_id.index(lora_id)
        parts = take_apart(adapter)
        updates = {_mapped(manager.model, module): update for module, update in parts.updates.items()}
        read_back = ReadBack()
        for name, layer in manager.modules.items():
            members = manager.packed_modules.get(name, [name])
            matched = [member for member in members if member in updates]
            read_back.matched.update(matched)
            if len(getattr(layer, "lora_a_stacked", ())) != len(members):
                if matched:  # a layer of another type, such as a mixture of experts
                    read_back.different[name] = float("nan")
                continue
            difference = _largest_difference(layer, slot, [updates.get(member) for member in members])
            if difference != 0:
                read_back.different[name] = difference
        read_back.unmatched = (updates.keys() | parts.replaced.keys()) - read_back.matched
        return read_back

    def rft_load_in_place(self, weights: Adapter | FullWeights | StoredModel, model: str, dtype: str) -> Loaded:
        """Write a policy over the weights of this worker's model.

        Args:
            weights: The policy.
            model: Folder of the base model.
            dtype: float32, bfloat16 or float16.
        """
        if self._rft_in_place is None:
            self._rft_in_place = InPlaceModel(
                BaseWeights(Path(model)),
                dtype=getattr(torch, dtype),
                device=self.device.type,  # type: ignore[attr-defined]
                packed=self._rft_packed_modules(),
                reload=lambda tensors: self.reload_weights(weights_iterator=tensors),  # type: ignore[attr-defined]
            )
        loaded, has_embedding = self._rft_in_place.load(weights)
        if has_embedding:
            self._rft_refresh_tied_head()
        return loaded

    def _rft_refresh_tied_head(self) -> None:
        """Update an output embedding that shares the weights of the input embedding.

        On a CPU vLLM multiplies with a packed copy, which `reload_weights` renews only for loaded tensors.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

        for module in self.model_runner.get_model().modules():  # type: ignore[attr-defined]
            if isinstance(module, VocabParallelEmbedding):
                module.quant_method.process_weights_after_loading(module)

    def rft_attention_backends(self) -> list[str]:
        """Return the names of the backends that compute attention."""
        from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase

        layers = self.vllm_config.compilation_config.static_forward_context.values()  # type: ignore[attr-defined]
        return sorted(
            {layer.get_attn_backend().get_name() for layer in layers if isinstance(layer, AttentionLayerBase)}
        )

    def _rft_packed_modules(self) -> Mapping[str, list[str]]:
        """Return the modules that vLLM fuses, such as `{"qkv_proj": ["q_proj", "k_proj", "v_proj"]}`."""
        model = self.model_runner.get_model()  # type: ignore[attr-defined]
        return dict(getattr(model, "packed_modules_mapping", {}))


def _mapped(model: Any, module: str) -> str:
    """Return vLLM's name of a module in the checkpoint."""
    from vllm.lora.utils import parse_fine_tuned_lora_name

    mapper = getattr(model, "hf_to_vllm_mapper", None)
    name: str = parse_fine_tuned_lora_name(
        f"base_model.model.{module}.lora_A.weight", mapper.get_rename_mapper() if mapper is not None else None
    )[0]
    return name


def _largest_difference(layer: Any, slot: int, updates: list[ModuleUpdate | None]) -> float:
    """Return the largest difference between a layer's slot and the published weights (zero without an update)."""
    dtype = layer.lora_b_stacked[0].dtype
    a = [update and update.a.to(dtype) for update in updates]
    # vLLM first casts to its dtype and then scales.
    b = [update and update.b.to(dtype) * update.scaling for update in updates]
    if layer.tp_size > 1:
        a, b = (layer.slice_lora_a(a), layer.slice_lora_b(b)) if len(a) > 1 else (a, b)
        if len(a) == 1 and a[0] is not None:
            a, b = [layer.slice_lora_a(a[0])], [layer.slice_lora_b(b[0])]
    pairs = [*zip(layer.lora_a_stacked, a, strict=True), *zip(layer.lora_b_stacked, b, strict=True)]
    return max(_difference(stacked[slot, 0], tensor) for stacked, tensor in pairs)


def _difference(loaded: torch.Tensor, shipped: torch.Tensor | None) -> float:
    rest = loaded.clone()
    if shipped is not None:
        rows, columns = shipped.shape
        rest[:rows, :columns] -= shipped.to(rest.device)
    # NaN if either contains NaN: then the two are not equal.
    return float(rest.abs().max())
