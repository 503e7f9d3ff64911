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

    def name_of(self, name: str) -> str | None:
        """What the checkpoint calls a tensor of the model; None where it has none.

        Some hold the model without its head, whose names lack the first part: `h.0.` for `transformer.h.0.` in GPT-2's.
        """
        return next((known for known in (name, name.partition(".")[2]) if known in self._files), None)

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, as it lies on disk."""
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor

    def linear_names(self) -> list[str]:
        """Last names of the modules with a matrix, as `q_proj`; the embeddings in and out are left out."""
        names = set()
        for name, file in self._files.items():
            module, _, leaf = name.rpartition(".")
            if leaf == "weight" and len(file.get_slice(name).get_shape()) == 2:
                names.add(module.rpartition(".")[2])
        return sorted(name for name in names if not is_embedding(name) and name != "lm_head")


def is_embedding(name: str) -> bool:
    """Whether a tensor or a module is one of the embeddings of tokens or positions."""
    return "embed" in name or not {"wte", "wpe"}.isdisjoint(name.split("."))


def touched(base: BaseWeights, parts: Parts) -> list[str]:
    """Names of the checkpoint's tensors that an adapter changes."""
    names = [*(f"{module}.weight" for module in parts.updates), *parts.replaced]
    return [known for name in names if (known := base.name_of(name)) is not None]


def merge(base: BaseWeights, parts: Parts, name: str, dtype: torch.dtype, device: str = "cpu") -> torch.Tensor:
    """One tensor of the base model as an adapter changes it; computed in float32.

    Args:
        base: The base model.
        parts: The adapter.
        name: In the checkpoint, of a tensor that the adapter touches.
        dtype: Of the result.
        device: Where it is computed.
    """
    if (replaced := _known_as(name, parts.replaced)) is not None:
        return replaced.to(device, dtype)
    update = _known_as(name.removesuffix(".weight"), parts.updates)
    weight = base.tensor(name).to(device, torch.float32)
    merged = _updated(weight.T, update).T.contiguous() if update.is_transposed else _updated(weight, update)
    return merged.to(dtype)


def _known_as(name: str, entries: Mapping[str, Any]) -> Any:
    """The entry of a name in the checkpoint, which may lack the first part; None where there is none."""
    if name in entries:
        return entries[name]
    return next((entry for full, entry in entries.items() if full.partition(".")[2] == name), None)


def unmatched(base: BaseWeights, parts: Parts) -> list[str]:
    """Modules of an adapter that the base model has not."""
    modules = [module for module in parts.updates if base.name_of(f"{module}.weight") is None]
    return sorted([*modules, *(name for name in parts.replaced if base.name_of(name) is None)])


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
        parent, _, last = name.rpartition(".")[0].rpartition(".")
        modules |= {f"{parent}.{other}".lstrip(".") for other in partners.get(last, (last,))}
    return sorted(name for name in base.names if name.rpartition(".")[0] in modules)


def _updated(weight: torch.Tensor, update: ModuleUpdate) -> torch.Tensor:
    a, b = (side.to(weight.device, torch.float32) for side in (update.a, update.b))
    updated = weight + update.scaling * (b @ a)
    if update.magnitude is None:
        return updated
    # DoRA: the direction of the sum, at a learned length for each output.
    return updated * (update.magnitude.to(updated) / updated.norm(dim=1)).unsqueeze(1)
