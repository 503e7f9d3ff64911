"""Scores the canaries with the learner's model, to prove that samplers serve the same policy.

The canaries are a few fixed token sequences. Equal scores of learner and sampler prove that both hold the same weights
(docs/policy-sync.md).
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
    """Return the log-probabilities of all tokens but the first of each canary, at temperature 1 and without dropout.

    Args:
        model: A causal language model, with or without an adapter. Keeps its mode (train, eval).
        canaries: `[N][L]` token ids; the lengths may differ.
        precision: The autocast of the model's training, if any.

    Returns:
        `[N][L - 1]` log-probabilities, from a softmax in float32.
    """
    if not canaries:
        return ()
    longest = max(map(len, canaries))
    # Attention is causal, so padding on the right does not change the tokens before it.
    ids = torch.tensor([[*canary, *[canary[-1]] * (longest - len(canary))] for canary in canaries], device=model.device)
    was_training = model.training
    model.eval()
    try:
        with precision or nullcontext():
            logits = model(input_ids=ids, use_cache=False).logits
    finally:
        model.train(was_training)
    scores = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    of_tokens = scores.gather(-1, ids[:, 1:, None]).squeeze(-1).cpu()
    return tuple(tuple(row[: len(canary) - 1].tolist()) for row, canary in zip(of_tokens, canaries, strict=True))
