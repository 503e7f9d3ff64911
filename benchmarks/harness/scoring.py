"""The graders of the benchmarks: the same score for both sides, and a sleep in place of a judge or a sandbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rft.grading import Task, final_answer


def answer(completion: str, item: Mapping[str, Any]) -> float:
    """Return 1 if the final answer is the task's `answer`."""
    return float(final_answer(completion).strip() == item["answer"])


def digits(completion: str, item: Mapping[str, Any]) -> float:
    """Return the share of digits, which a model with random weights can learn to raise."""
    return sum(character.isdigit() for character in completion) / max(1, len(completion))


SCORES: Mapping[str, Callable[[str, Mapping[str, Any]], float]] = {"answer": answer, "digits": digits}


async def graded(completion: str, task: Task, score: str = "answer", delay_s: float = 0.0) -> float:
    """Sleep, then score: the grader for rft."""
    if delay_s:
        await asyncio.sleep(delay_s)
    return SCORES[score](completion, task.item)


def reward_one_by_one(
    texts: Sequence[str], items: Sequence[Mapping[str, Any]], score: str, delay_s: float
) -> list[float]:
    """Score one completion after another: the reward function for TRL, as in TRL's guide."""
    rewards = []
    for text, item in zip(texts, items, strict=True):
        if delay_s:
            time.sleep(delay_s)
        rewards.append(SCORES[score](text, item))
    return rewards


async def reward_all_at_once(
    texts: Sequence[str], items: Sequence[Mapping[str, Any]], score: str, delay_s: float
) -> list[float]:
    """Score all completions of the batch concurrently: an asynchronous reward function for TRL."""

    async def one(text: str, item: Mapping[str, Any]) -> float:
        if delay_s:
            await asyncio.sleep(delay_s)
        return SCORES[score](text, item)

    return list(await asyncio.gather(*(one(text, item) for text, item in zip(texts, items, strict=True))))


async def trivial(completion: str) -> float:
    """Return 1: a grader without cost."""
    return 1.0
