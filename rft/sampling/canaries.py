"""The canaries: a few token sequences that learner and samplers both score, to prove that they hold the same policy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, cycle, islice


def choose_canaries(
    prompts: Sequence[Sequence[int]], *, num: int = 3, num_tokens: int = 36, max_context_tokens: int
) -> tuple[tuple[int, ...], ...]:
    """Choose canaries from rendered training prompts, always the same ones from the same prompts.

    Canary i begins with the i-th of `num` prompts spread evenly over all of them and goes on with those that follow it,
    round and round, until it is long enough. 36 tokens are more than a block of vLLM's prefix cache on a CPU (32), and
    more than two on a GPU (16), so that the cache is in play.

    Args:
        prompts: Token ids of the training prompts.
        num: How many canaries.
        num_tokens: Length of each; shorter where the context is.
        max_context_tokens: Of the model; one token of it is left free, for the engine must sample something.

    Returns:
        `[num][num_tokens]` token ids; none when every prompt is empty.
    """
    length = min(num_tokens, max_context_tokens - 1)
    filled = [prompt for prompt in prompts if prompt]
    if not filled or length < 2:
        return ()
    starts = [len(filled) * number // num for number in range(num)]
    # Where there are fewer prompts than canaries, a shift by one token each keeps the canaries apart.
    repeats = [starts[:number].count(start) for number, start in enumerate(starts)]
    return tuple(
        tuple(islice(cycle(chain.from_iterable(filled[start:] + filled[:start])), skip, skip + length))
        for start, skip in zip(starts, repeats, strict=True)
    )
