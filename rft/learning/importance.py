"""How far the sampler's log-probabilities are from the learner's, and the ratio that corrects for it.

TRL's importance-sampling correction (`vllm_importance_sampling_*` of its GRPOConfig), computed from the log-probs of
the training forward pass itself: with one optimizer step for each batch they are those of a pass made before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def sampling_ratio(
    logprobs: Tensor, sampled: Tensor, mask: Tensor, *, mode: str, low: float | None, high: float | None
) -> Tensor:
    """The importance weight pi_learner / pi_sampler, truncated or masked.

    Args:
        logprobs: `[B, T]` the learner's log-probs of the completion tokens.
        sampled: `[B, T]` the sampler's.
        mask: `[B, T]` 1 for tokens that count.
        mode: `token_truncate` clips each token's weight to `[low, high]`, `token_mask` sets a weight outside to 0;
            `sequence_truncate` and `sequence_mask` do so with one weight a sequence, the product over its tokens.
        low: Lower bound; None for none.
        high: Upper bound; None for none.

    Returns:
        `[B, T]`, or `[B, 1]` for the sequence modes.
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
    """The difference between sampler and learner over one step's micro-batches."""

    def __init__(self) -> None:
        self._gaps: list[Tensor] = []
        self._ratios: list[Tensor] = []

    def add(self, logprobs: Tensor, sampled: Tensor, mask: Tensor, ratio: Tensor) -> None:
        """Count a micro-batch in; all `[B, T]`, the ratio perhaps `[B, 1]`."""
        counted = mask.bool()
        gap = (logprobs - sampled).abs()[counted]
        self._gaps.append(gap[~gap.isnan()])
        self._ratios.append(ratio.flatten() if ratio.shape[1] == 1 else ratio[counted])

    def take(self) -> dict[str, float]:
        """Sums and bounds, for `gap_metrics`, and a fresh start; empty when there was nothing to compare."""
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
    """A step's numbers under TRL's names; empty when there was nothing to compare.

    Args:
        parts: What `SamplerGap.take` gave on each rank.
    """
    known = [part for part in parts if part]
    if not known:
        return {}
    total = {name: sum(part[name] for part in known) for name in ("gaps", "gap_sum", "ratios", "ratio_sum")}
    return {
        "sampling/sampling_logp_difference/mean": total["gap_sum"] / total["gaps"],
        "sampling/sampling_logp_difference/max": max(part["gap_max"] for part in known),
        "sampling/importance_sampling_ratio/min": min(part["ratio_min"] for part in known),
        "sampling/importance_sampling_ratio/mean": total["ratio_sum"] / total["ratios"],
        "sampling/importance_sampling_ratio/max": max(part["ratio_max"] for part in known),
    }
