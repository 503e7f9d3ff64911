"""An adapter merged into the base model: which tensors change, and to what.

Always computed from the base model's own files, so that nothing adds up over a thousand versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from rft.errors import ModelError
from rft.sampling.adapters import ModuleUpdate, Parts


class BaseWeights:
    """The tensors of a base model's checkpoint, read when they are needed and never written.

    Args:
        folder: The base model's folder.

    Raises:
        ModelError: It holds no safetensors file.
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
        """Names of all tensors."""
        return frozenset(self._files)

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, as it lies on disk."""
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor

    def linear_names(self) -> list[str]:
        """Last names of the modules with a matrix, as `q_proj`; the embeddings in and out are left out."""
        found = set()
        for name, file in self._files.items():
            module, _, leaf = name.rpartition(".")
            if leaf == "weight" and len(file.get_slice(name).get_shape()) == 2:
                found.add(module.rpartition(".")[2])
        return sorted(name for name in found if "embed" not in name and name not in ("lm_head", "wte", "wpe"))


def touched(base: BaseWeights, parts: Parts) -> list[str]:
    """Names of the base model's tensors that an adapter changes."""
    names = [*(f"{module}.weight" for module in parts.updates), *parts.replaced]
    return [name for name in names if name in base.names]


def merge(base: BaseWeights, parts: Parts, name: str, dtype: torch.dtype, device: str = "cpu") -> torch.Tensor:
    """One tensor of the base model as an adapter changes it; computed in float32.

    Args:
        base: The base model.
        parts: The adapter.
        name: Of a tensor that the adapter touches.
        dtype: Of the result.
        device: Where it is computed.
    """
    if name in parts.replaced:
        return parts.replaced[name].to(device, dtype)
    weight = base.tensor(name).to(device, torch.float32)
    return _updated(weight, parts.updates[name.removesuffix(".weight")]).to(dtype)


def unmatched(base: BaseWeights, parts: Parts) -> list[str]:
    """Modules of an adapter that the base model has not."""
    modules = [module for module in parts.updates if f"{module}.weight" not in base.names]
    return sorted([*modules, *(name for name in parts.replaced if name not in base.names)])


def whole_layers(base: BaseWeights, names: Sequence[str], packed: Mapping[str, Sequence[str]]) -> list[str]:
    """The tensors that must be reloaded with those touched.

    vLLM fuses `q_proj`, `k_proj` and `v_proj` into one layer, and a layer of which only a part is reloaded holds
    rubbish in the rest.

    Args:
        base: The base model.
        names: Tensors that change.
        packed: Which modules are fused, by what vLLM calls them together.
    """
    partners = {member: tuple(members) for members in packed.values() for member in members}
    modules = set()
    for name in names:
        parent, _, own = name.rpartition(".")[0].rpartition(".")
        modules |= {f"{parent}.{other}" for other in partners.get(own, (own,))}
    return sorted(name for name in base.names if name.rpartition(".")[0] in modules)


def _updated(weight: torch.Tensor, update: ModuleUpdate) -> torch.Tensor:
    a, b = (side.to(weight.device, torch.float32) for side in (update.a, update.b))
    updated = weight + update.scaling * (b @ a)
    if update.magnitude is None:
        return updated
    # DoRA: the direction of the sum, at a learned length for each output.
    return updated * (update.magnitude.to(updated) / updated.norm(dim=1)).unsqueeze(1)
