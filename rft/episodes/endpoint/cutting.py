"""Applies the limits of a request to a sampled turn.

Engines sample every turn with the settings of the run. The beginning of a sampled turn is what a sampler with tighter
limits would have said, token by token, so rft cuts the turn instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rft.sampling.stops import Stops
from rft.types import Rollout, StopReason


def cut(rollout: Rollout, *, max_tokens: int | None, stop: Sequence[str], tokenizer: Any) -> Rollout:
    """Return a turn up to a text of `stop`, and of at most `max_tokens` tokens.

    As in vLLM, the tokens include those of the text that ended the turn, and its text ends before it.

    Args:
        rollout: The sampled turn.
        max_tokens: Longest turn; None for no limit.
        stop: Texts that end the turn.
        tokenizer: Decodes its tokens.
    """
    stops = Stops(frozenset(), ()).adding(stop, tokenizer)
    ids = rollout.completion_ids[:max_tokens]
    end = stops.length(ids, tokenizer)
    if end is None and len(ids) == len(rollout.completion_ids):
        return rollout
    ids = ids[:end]
    spoken = ids[:-1] if ids[-1] in stops.ids else ids
    return replace(
        rollout,
        completion_ids=ids,
        logprobs=rollout.logprobs[: len(ids)],
        text=stops.cut(text_of(spoken, tokenizer)),
        stop=StopReason.LENGTH if end is None else StopReason.STOP,
    )


def text_of(ids: Sequence[int], tokenizer: Any) -> str:
    """Return the text of tokens, without special tokens."""
    text: str = tokenizer.decode(ids, skip_special_tokens=True)
    return text
