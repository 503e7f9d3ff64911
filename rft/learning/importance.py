"""Measures the gap between the log-probabilities of sampler and learner, and computes the ratio that corrects for it.

This is TRL's importance-sampling correction (`vllm_importance_sampling_*` of its GRPOConfig), computed from the
log-probabilities of the training forward pass. In the first optimizer step on a batch they equal those of a separate
pass before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def sampling_ratio(
    logprobs: Tensor, sampled: Tensor, mask: Tensor, *, mode: str, low: float | None, high: float | None
) -> Tensor:
    """Return the importance weights pi_learner / pi_sampler, truncated or masked.

    Args:
        logprobs: `[B, T]` the learner's log-probabilities of the completion tokens.
        sampled: `[B, T]` the sampler's log-probabilities.
        mask: `[B, T]` 1 for counted tokens.
        mode: `token_truncate` clips the weight of each token to `[low, high]`; `token_mask` sets weights outside to 0.
            `sequence_truncate` and `sequence_mask` do so with one weight for each sequence, the product over its
            tokens.
        low: Lower bound, or None.
        high: Upper bound, or None.

    Returns:
        `[B, T]` weights, or `[B, 1]` in the sequence modes.
    """
    difference = torch.nan_to_num((logprobs - sampled) * mask, nan=0.0)
    if mode.startswith("sequence"):
        difference = difference.sum(-1, keepdim=True)
    ratio = torch.exp(difference)
    if mode.endswith("truncate"):
        return torch.clamp(ratio, min=low, max=high)
    outside = (ratio < (-math.inf if low is None else low)) | (ratio > (math.inf if high is None else high))
    return ratio.masked_fill(outside, 0.0)


class SamplerGap:
    """The gap between the log-probabilities of sampler and learner over the micro-batches of a step."""

    def __init__(self) -> None:
        self._gaps: list[Tensor] = []
        self._ratios: list[Tensor] = []

    def add(self, logprobs: Tensor, sampled: Tensor, mask: Tensor, ratio: Tensor) -> None:
        """Add a micro-batch of `[B, T]` tensors; the ratio may be `[B, 1]`."""
        counted = mask.bool()
        gap = (logprobs - sampled).abs()[counted]
        self._gaps.append(gap[~gap.isnan()])
        self._ratios.append(ratio.flatten() if ratio.shape[1] == 1 else ratio[counted])

    def take(self) -> dict[str, float]:
        """Return sums, minima and maxima for `gap_metrics`, and reset; empty if no token was compared."""
        gaps, ratios = (torch.cat(parts) if parts else torch.empty(0) for parts in (self._gaps, self._ratios))
        self._gaps, self._ratios = [], []
        if not len(gaps):
            return {}
        return {
            "gaps": float(len(gaps)),
            "gap_sum": gaps.double().sum().item(),
            "gap_max": gaps.max().item(),
            "ratios": float(len(ratios)),
            "ratio_sum": ratios.double().sum().item(),
            "ratio_min": ratios.min().item(),
            "ratio_max": ratios.max().item(),
        }


def gap_metrics(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the metrics of a step under TRL's names; empty if no token was compared.

    Args:
        parts: Results of `SamplerGap.take` of all ranks.
    """
    filled = [part for part in parts if part]
    if not filled:
        return {}
    total = {name: sum(part[name] for part in filled) for name in ("gaps", "gap_sum", "ratios", "ratio_sum")}
    return {
        "sampling/sampling_logp_difference/mean": total["gap_sum"] / total["gaps"],
        "sampling/sampling_logp_difference/max": max(part["gap_max"] for part in filled),
        "sampling/importance_sampling_ratio/min": min(part["ratio_min"] for part in filled),
        "sampling/importance_sampling_ratio/mean": total["ratio_sum"] / total["ratios"],
        "sampling/importance_sampling_ratio/max": max(part["ratio_max"] for part in filled),
    }
