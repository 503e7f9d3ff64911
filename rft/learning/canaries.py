"""What the learner's model says to the canaries: the other half of the proof that a sampler serves the right policy.

The canaries are a few fixed token sequences. Learner and samplers score the same ones; equal numbers prove that both
hold the same weights (docs/policy-sync.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from rft.types import Logprobs


@torch.no_grad()
def score_canaries(
    model: Any, canaries: Sequence[Sequence[int]], precision: AbstractContextManager[Any] | None = None
) -> Logprobs:
    """Log-probability of every token but the first of each canary, at temperature 1 and without dropout.

    Args:
        model: A causal language model, with or without an adapter; left in the mode (train, eval) in which it came.
        canaries: `[N][L]` token ids; the lengths may differ.
        precision: The autocast under which the model is trained, if any.

    Returns:
        `[N][L - 1]` log-probabilities; the softmax is taken in float32 whatever the model's dtype.
    """
    if not canaries:
        return ()
    longest = max(map(len, canaries))
    # Padding on the right is never seen by what stands before it: attention is causal.
    ids = torch.tensor([[*canary, *[canary[-1]] * (longest - len(canary))] for canary in canaries], device=model.device)
    was_training = model.training
    model.eval()
    try:
        with precision or nullcontext():
            logits = model(input_ids=ids, use_cache=False).logits
    finally:
        model.train(was_training)
    scores = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    taken = scores.gather(-1, ids[:, 1:, None]).squeeze(-1).cpu()
    return tuple(tuple(row[: len(canary) - 1].tolist()) for row, canary in zip(taken, canaries, strict=True))
