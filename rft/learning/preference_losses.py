"""The losses of preference learners, as functions of log-ratios.

The log-ratio of a completion is its log-probability under the policy minus that under the start of the run. Names state
shapes: a step has N completions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Metrics = dict[str, float]
"""Metrics of a step by name."""


def dpo_loss(ratios_n: Tensor, pairs: Sequence[tuple[int, int]], *, beta: float) -> tuple[Tensor, Metrics]:
    """Return DPO's loss (arXiv 2305.18290, equation 7), the mean over pairs of `-log sigmoid(beta x difference)`.

    Args:
        ratios_n: `[N]` log-ratios.
        pairs: Positions of the chosen and the rejected completion of each pair; at least one pair.
        beta: Weight of the distance from the start.

    Returns:
        The loss; and the means of `chosen_log_ratio` and `rejected_log_ratio`, of `margin` (beta times their
        difference), and the share of pairs with a positive margin, `accuracy`.
    """
    chosen, rejected = (ratios_n[[pair[side] for pair in pairs]] for side in (0, 1))
    margins = beta * (chosen - rejected)
    metrics = {
        "chosen_log_ratio": chosen.mean().item(),
        "rejected_log_ratio": rejected.mean().item(),
        "margin": margins.mean().item(),
        "accuracy": (margins > 0).float().mean().item(),
    }
    return -logsigmoid(margins).mean(), metrics


def kto_loss(
    ratios_n: Tensor,
    desirable: Sequence[int],
    undesirable: Sequence[int],
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
    divergence: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """Return KTO's loss (arXiv 2402.01306, equation 8), the mean over completions.

    The loss of a desirable completion is `weight x (1 - sigmoid(beta x (ratio - kl)))`, that of an undesirable one
    `weight x (1 - sigmoid(beta x (kl - ratio)))`. `kl` estimates the divergence of the policy from the start: the mean
    log-ratio of these completions, which the policy itself has sampled, or 0 if that is negative. It has no gradient.

    Args:
        ratios_n: `[N]` log-ratios.
        desirable: Positions of the desirable completions.
        undesirable: Positions of the undesirable completions; there is at least one completion.
        beta: Weight of the distance from the start.
        desirable_weight: Weight of desirable completions.
        undesirable_weight: Weight of undesirable completions.
        divergence: The estimate for completions that the policy has not sampled; None takes that of these completions.

    Returns:
        The loss; and `kl` and the mean log-ratios of both kinds, if there are any.
    """
    kl = (ratios_n[[*desirable, *undesirable]].mean() if divergence is None else divergence).detach().clamp(min=0)
    good, bad = ratios_n[list(desirable)], ratios_n[list(undesirable)]
    losses = torch.cat(
        [
            desirable_weight * (1 - torch.sigmoid(beta * (good - kl))),
            undesirable_weight * (1 - torch.sigmoid(beta * (kl - bad))),
        ]
    )
    means = {"desirable_log_ratio": good, "undesirable_log_ratio": bad}
    metrics = {name: values.mean().item() for name, values in means.items() if len(values)}
    return losses.mean(), {"kl": kl.item(), **metrics}
