"""A frozen adapter below the trained one, for `start_mode=stack`.

The frozen adapter adds its update to the output of each of its linear layers, outside of PEFT. TRL and PEFT therefore
see a base model that behaves like the start of the run: disabling the trained adapter gives the start, which is the
reference of the KL divergence.

Samplers serve one adapter per request, so the published adapter is the sum of both: with `B1 A1` below and `B2 A2` on
top, both scaled, the sum is `[B1 B2] [A1; A2]`, whose rank is the sum of both ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from rft.learning.canaries import score_canaries
from rft.learning.pack_weights import adapter_of, published_config
from rft.learning.start_policy import refuse_other_weights
from rft.types import Adapter, Logprobs, Publication

_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Update:
    """The update of one linear layer: `scaling * b @ a`."""

    a: Tensor
    """`[rank, in]`."""
    b: Tensor
    """`[out, rank]`."""
    scaling: float
    """Scaling of the product."""


class StackedStart:
    """Version 0 of a run that trains a new adapter on top of a frozen one.

    Args:
        start: The frozen adapter.
        model: The base model with this adapter, from `continued`.
        base_model_name: Name of the base model in the published configuration.

    Raises:
        LearnError: The model holds other weights than the adapter.
    """

    def __init__(self, start: Adapter, model: Any, *, base_model_name: str) -> None:
        self._adapter = refuse_other_weights(start, model, base_model_name=base_model_name)
        self._base_model_name = base_model_name
        self._below = {
            name: Update(update.a.detach().clone(), update.b.detach().clone(), update.scaling)
            for name, update in updates_of(model).items()
        }
        self.model = model.unload()
        """The base model, to which the frozen adapter adds its updates."""
        for name, update in self._below.items():
            self.model.get_submodule(name).register_forward_hook(partial(self._add, update))
        self._is_hidden = False

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Let the model behave like the base model alone during the block."""
        self._is_hidden = True
        try:
            yield
        finally:
            self._is_hidden = False

    def publication(self, model: Any, canaries: Sequence[Sequence[int]], base_canary_logprobs: Logprobs) -> Publication:
        """Return the frozen adapter, with its scores of the canaries."""
        with model.disable_adapter():
            scores = score_canaries(model, canaries)
        return Publication(weights=self._adapter, canary_logprobs=scores, base_canary_logprobs=base_canary_logprobs)

    def pack(self, model: Any, *, version: int) -> Adapter:
        """Pack the sum of the frozen and the trained adapter as one adapter.

        Args:
            model: The PEFT model with the trained adapter.
            version: Policy version of the weights.
        """
        top, own = updates_of(model), published_config(model, self._base_model_name)
        ranks = [max(len(update.a) for update in part.values()) for part in (self._below, top)]
        tensors: dict[str, Tensor] = {}
        for name in sorted(self._below.keys() | top.keys()):
            a, b = _sum([self._below.get(name), top.get(name)], ranks)
            tensors |= {f"{_PREFIX}{name}.lora_A.weight": a, f"{_PREFIX}{name}.lora_B.weight": b}
        config = own | {
            "r": sum(ranks),
            "lora_alpha": sum(ranks),  # the scaling is part of B
            "use_rslora": False,
            "rank_pattern": {},
            "alpha_pattern": {},
            "layers_to_transform": None,
            "layers_pattern": None,
            "exclude_modules": None,
            "target_modules": _target_modules(own, self._adapter.config, [*self._below, *top]),
        }
        return adapter_of(tensors, config, version)

    def _add(self, update: Update, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Add the update of a layer to its output, like PEFT."""
        if self._is_hidden:
            return output
        added = inputs[0].to(update.a.dtype) @ update.a.T @ update.b.T
        return (output + added * update.scaling).to(output.dtype)


def updates_of(model: Any) -> dict[str, Update]:
    """Return the updates of the default LoRA adapter of a PEFT model, by module of the base model."""
    return {
        name: Update(layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.scaling["default"])
        for name, layer in model.get_base_model().named_modules()
        if isinstance(layer, LoraLayer)
    }


@torch.no_grad()
def _sum(parts: Sequence[Update | None], ranks: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return `[R, in]` and `[out, R]` matrices whose product is the sum of two updates; R is the sum of the ranks.

    Args:
        parts: The updates of one layer; at least one of them exists.
        ranks: Number of rows for each part. Zeros fill the rows of a part that lacks the layer or has a lower rank.
    """
    known = next(part for part in parts if part is not None)
    a = known.a.new_zeros(sum(ranks), known.a.shape[1], device="cpu")
    b = known.b.new_zeros(known.b.shape[0], sum(ranks), device="cpu")
    for part, start in zip(parts, (0, ranks[0]), strict=True):
        if part is not None:
            rows = slice(start, start + len(part.a))
            a[rows] = part.a.cpu()
            b[:, rows] = (part.b * part.scaling).cpu()
    return a, b


def _target_modules(own: Mapping[str, Any], below: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return the modules of the sum: last names such as `q_proj` if they select the same modules, else full names."""
    selects_by_last_name = all(
        isinstance(config["target_modules"], list) and not config.get("layers_to_transform") for config in (own, below)
    )
    if selects_by_last_name and own["target_modules"] == below["target_modules"]:
        return list(own["target_modules"])
    return sorted(set(names))
