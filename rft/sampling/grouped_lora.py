"""Adapters on a CPU: one product for all adapters of a batch.

vLLM's CPU path copies the matrices of its adapter for each token, and multiplies token by token. This kernel stacks the
adapters of a batch, multiplies each token with all of them, and zeroes the parts of other adapters. A token without an
adapter gets no update; vLLM's path would use the last slot for it.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform


class GroupedLora(PunicaWrapperCPU):  # type: ignore[misc]  # vLLM is not followed
    """vLLM's CPU kernels for adapters, with another kernel for linear layers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._beside: dict[int, tuple[tuple[Any, ...], torch.Tensor, torch.Tensor]] = {}

    def update_metadata(self, *arguments: Any, **options: Any) -> None:
        """Store the adapter of each token; vLLM calls this before each step."""
        super().update_metadata(*arguments, **options)
        indices = self.token_lora_indices
        slots = torch.unique(indices)
        self._slots = slots[slots >= 0]
        """`[K]` slots of this batch."""
        self._slots_now = tuple(self._slots.tolist())
        own = indices[:, None] == self._slots
        self._is_own = None if bool(own.all()) else own[:, :, None].float()
        """`[T, K, 1]` mask of each token's slot; None if all tokens use the only slot."""

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **_: Any,
    ) -> None:
        """Add the adapters' update of `x` to `y`.

        Args:
            y: `[T, out]` output of the layer, with all parts side by side.
            x: `[T, in]` input of the layer.
            lora_a_stacked: `[slots, 1, rank, in]` of each part.
            lora_b_stacked: `[slots, 1, out of the part, rank]` of each part.
            scale: Scaling of the product.
            output_slices: Outputs of each part.
            buffer: Unused.
        """
        if not len(self._slots):
            return
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        first = 0
        for a, b, size in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            down, up = self._side_by_side(a, b, y.dtype)
            low = x.float() @ down.T
            if self._is_own is not None:
                low = low.view(len(x), len(self._slots), -1).mul_(self._is_own).flatten(1)
            part = y[:, first : first + size]
            part.addmm_(low.to(y.dtype), up, alpha=scale)
            first += size

    def _side_by_side(self, a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `[K * rank, in]` and `[K * rank, out]` of a part for this batch; recompute after a change.

        PyTorch's `_version` counts the writes to a tensor, such as the load of an adapter into a slot.
        """
        now = (self._slots_now, a._version, b._version, dtype)
        key = a.data_ptr()
        if key not in self._beside or self._beside[key][0] != now:
            down = a[self._slots, 0].flatten(0, 1).float()
            up = b[self._slots, 0].transpose(1, 2).flatten(0, 1).to(dtype)
            self._beside[key] = (now, down, up)
        return self._beside[key][1:]


def use_grouped_lora() -> None:
    """Make vLLM's engines in this process use this kernel on a CPU."""
    current_platform.get_punica_wrapper = lambda: f"{GroupedLora.__module__}.{GroupedLora.__name__}"
