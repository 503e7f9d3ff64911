"""The graders of the benchmarks: one score for both sides, and a sleep that stands for a judge or a sandbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rft.grading import Task, final_answer


def answer(completion: str, item: Mapping[str, Any]) -> float:
    """1 when the final answer is the task's `answer`."""
    return float(final_answer(completion).strip() == item["answer"])


def digits(completion: str, item: Mapping[str, Any]) -> float:
    """The share of digits: something that a model of random weights can be told to do more often."""
    return sum(character.isdigit() for character in completion) / max(1, len(completion))


SCORES: Mapping[str, Callable[[str, Mapping[str, Any]], float]] = {"answer": answer, "digits": digits}


async def graded(completion: str, task: Task, score: str = "answer", delay_s: float = 0.0) -> float:
    """What rft is given: it sleeps, then scores."""
    if delay_s:
        await asyncio.sleep(delay_s)
    return SCORES[score](completion, task.item)


def reward_one_by_one(
    texts: Sequence[str], items: Sequence[Mapping[str, Any]], score: str, delay_s: float
) -> list[float]:
    """What TRL is given, as its guide writes a reward function: one completion after the other."""
    rewards = []
    for text, item in zip(texts, items, strict=True):
        if delay_s:
            time.sleep(delay_s)
        rewards.append(SCORES[score](text, item))
    return rewards


async def reward_all_at_once(
    texts: Sequence[str], items: Sequence[Mapping[str, Any]], score: str, delay_s: float
) -> list[float]:
    """What TRL is given by who knows its asynchronous reward functions: all completions of the batch together."""

    async def one(text: str, item: Mapping[str, Any]) -> float:
        if delay_s:
            await asyncio.sleep(delay_s)
        return SCORES[score](text, item)

    return list(await asyncio.gather(*(one(text, item) for text, item in zip(texts, items, strict=True))))


async def trivial(completion: str) -> float:
    """A grader that costs nothing."""
    return 1.0
