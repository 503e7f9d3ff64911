"""The canaries: token sequences that learner and samplers both score, to prove that they have the same policy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, cycle, islice


def choose_canaries(
    prompts: Sequence[Sequence[int]], *, num: int = 3, num_tokens: int = 36, max_context_tokens: int
) -> tuple[tuple[int, ...], ...]:
    """Select canaries from rendered training prompts, deterministically.

    Canary i starts with the i-th of `num` evenly spaced prompts, and continues with the following prompts, cyclically,
    until it is long enough. 36 tokens exceed one block of vLLM's prefix cache on a CPU (32) and two blocks on a GPU
    (16), so that the canaries exercise the cache.

    Args:
        prompts: Token ids of the training prompts.
        num: Number of canaries.
        num_tokens: Length of each canary, limited by the context.
        max_context_tokens: The model's context; one token remains free, because the engine must sample one.

    Returns:
        `[num][num_tokens]` token ids; empty if all prompts are empty.
    """
    length = min(num_tokens, max_context_tokens - 1)
    filled = [prompt for prompt in prompts if prompt]
    if not filled or length < 2:
        return ()
    starts = [len(filled) * number // num for number in range(num)]
    # With fewer prompts than canaries, a shift by one token each keeps the canaries different.
    repeats = [starts[:number].count(start) for number, start in enumerate(starts)]
    return tuple(
        tuple(islice(cycle(chain.from_iterable(filled[start:] + filled[:start])), skip, skip + length))
        for start, skip in zip(starts, repeats, strict=True)
    )
