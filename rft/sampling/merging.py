"""Merges an adapter into the base model: selects and computes the changed tensors.

The computation always starts from the base model's files, so that errors do not accumulate over versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from rft.errors import ModelError
from rft.sampling.lora_modules import ModuleUpdate, Parts


class BaseWeights:
    """The tensors of a base model's checkpoint, read on demand and never written.

    Args:
        folder: The base model's folder.

    Raises:
        ModelError: The folder contains no safetensors file.
    """

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*.safetensors"))
        index = folder / "model.safetensors.index.json"
        if index.exists():
            files = sorted({folder / name for name in json.loads(index.read_text())["weight_map"].values()})
        if not files:
            raise ModelError("base model", [f"{folder}: no .safetensors file there; save the model in that format"])
        self._files: dict[str, Any] = {}
        for file in files:
            opened = safe_open(file, framework="pt")
            names: list[str] = list(opened.keys())  # type: ignore[no-untyped-call]
            self._files |= dict.fromkeys(names, opened)

    @property
    def names(self) -> frozenset[str]:
        """Return the names of all tensors."""
        return frozenset(self._files)

    def name_of(self, name: str) -> str | None:
        """Return the checkpoint's name of a tensor of the model, or None.

        Some checkpoints contain the model without its head; their names lack the first part: `h.0.` instead of
        `transformer.h.0.` in GPT-2's.
        """
        return next((known for known in (name, name.partition(".")[2]) if known in self._files), None)

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor, as stored on disk."""
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor

    def linear_names(self) -> list[str]:
        """Return last names of modules with a matrix, such as `q_proj`, without input and output embeddings."""
        names = set()
        for name, file in self._files.items():
            module, _, leaf = name.rpartition(".")
            if leaf == "weight" and len(file.get_slice(name).get_shape()) == 2:
                names.add(module.rpartition(".")[2])
        return sorted(name for name in names if not is_embedding(name) and name != "lm_head")


def is_embedding(name: str) -> bool:
    """Whether a tensor or module is an embedding of tokens or positions."""
    return "embed" in name or not {"wte", "wpe"}.isdisjoint(name.split("."))


def touched(base: BaseWeights, parts: Parts) -> list[str]:
    """Return the names of tensors that an adapter changes."""
    names = [*(f"{module}.weight" for module in parts.updates), *parts.replaced]
    return [known for name in names if (known := base.name_of(name)) is not None]


def merge(base: BaseWeights, parts: Parts, name: str, dtype: torch.dtype, device: str = "cpu") -> torch.Tensor:
    """Return one tensor of the base model with the adapter merged, computed in float32.

    Args:
        base: The base model.
        parts: The adapter.
        name: Checkpoint name of a tensor that the adapter changes.
        dtype: Dtype of the result.
        device: Device of the computation.
    """
    if (replaced := _known_as(name, parts.replaced)) is not None:
        return replaced.to(device, dtype)
    update = _known_as(name.removesuffix(".weight"), parts.updates)
    weight = base.tensor(name).to(device, torch.float32)
    merged = _updated(weight.T, update).T.contiguous() if update.is_transposed else _updated(weight, update)
    return merged.to(dtype)


def _known_as(name: str, entries: Mapping[str, Any]) -> Any:
    """Return the entry of a checkpoint name, which may lack the first part, or None."""
    if name in entries:
        return entries[name]
    return next((entry for full, entry in entries.items() if full.partition(".")[2] == name), None)


def unmatched(base: BaseWeights, parts: Parts) -> list[str]:
    """Return modules of an adapter that the base model lacks."""
    modules = [module for module in parts.updates if base.name_of(f"{module}.weight") is None]
    return sorted([*modules, *(name for name in parts.replaced if base.name_of(name) is None)])


def whole_layers(base: BaseWeights, names: Sequence[str], packed: Mapping[str, Sequence[str]]) -> list[str]:
    """Return all tensors to reload together with the changed ones.

    vLLM fuses `q_proj`, `k_proj` and `v_proj` into one layer. A partial reload leaves garbage in the rest of the layer.

    Args:
        base: The base model.
        names: Tensors that change.
        packed: Fused modules by vLLM's name of the fused layer.
    """
    partners = {member: tuple(members) for members in packed.values() for member in members}
    modules = set()
    for name in names:
        parent, _, last = name.rpartition(".")[0].rpartition(".")
        modules |= {f"{parent}.{other}".lstrip(".") for other in partners.get(last, (last,))}
    return sorted(name for name in base.names if name.rpartition(".")[0] in modules)


def _updated(weight: torch.Tensor, update: ModuleUpdate) -> torch.Tensor:
    a, b = (side.to(weight.device, torch.float32) for side in (update.a, update.b))
    updated = weight + update.scaling * (b @ a)
    if update.magnitude is None:
        return updated
    # DoRA: the direction of the sum, with a learned length for each output.
    return updated * (update.magnitude.to(updated) / updated.norm(dim=1)).unsqueeze(1)
