"""Draws the tokens of a batch in Transformers' `generate`, each completion with its own random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from rft.errors import SampleError
from rft.sampling.engine import SamplingOptions


class Draws(LogitsProcessor):  # type: ignore[misc]  # Transformers is not followed
    """Draws the next token of each completion, and leaves `generate` no other choice.

    A token is the inverse of the cumulative distribution at a random number of its completion, so it does not depend on
    other completions. A temperature of 0 selects the most likely token.

    Args:
        seeds: Seed of each completion, B in total.
        options: Temperature and maximum length T.
        device: Device of the model.
    """

    def __init__(self, seeds: Sequence[int], options: SamplingOptions, device: str) -> None:
        self._temperature = options.temperature
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        numbers = [
            torch.rand(options.max_completion_tokens, generator=generator, dtype=torch.float64)
            for generator in generators
        ]
        self._numbers = torch.stack(numbers).to(device)  # [B, T]
        self._logprobs: list[torch.Tensor] = []

    @property
    def logprobs(self) -> torch.Tensor:
        """`[B, T]` log-probabilities of the drawn tokens so far, after the temperature."""
        return torch.stack(self._logprobs, dim=1)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return `[B, V]` 0 for the drawn token and -inf for all others.

        Args:
            input_ids: Unused.
            scores: `[B, V]` logits.

        Raises:
            SampleError: The logits contain NaN or infinity.
        """
        logprobs = torch.log_softmax(scores / (self._temperature or 1.0), dim=-1)
        if self._temperature > 0:
            cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
            # The last entry differs from 1 by rounding.
            goals = self._numbers[:, len(self._logprobs), None] * cumulative[:, -1:]
            ids = torch.searchsorted(cumulative, goals, right=True).clamp(max=scores.shape[1] - 1)
        else:
            ids = scores.argmax(-1, keepdim=True)
        drawn = logprobs.gather(1, ids)[:, 0]
        if not torch.isfinite(drawn).all():
            raise SampleError("the model's logits contain NaN or infinity; try model.dtype=float32")
        self._logprobs.append(drawn)
        return torch.full_like(scores, -torch.inf).scatter_(1, ids, 0.0)
