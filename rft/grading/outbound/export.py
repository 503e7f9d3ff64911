"""Makes a reward function for TRL from graders.

from rft.grading import load_grader
from rft.grading.outbound.export import as_trl_reward

with as_trl_reward(load_grader("correct", {"use": "numeric"})) as reward:
    GRPOTrainer(..., reward_funcs=reward).train()
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rft.grading.contract import LoadedGrader
from rft.grading.outbound.completed import Completed, grade_completed
from rft.grading.panel import Panel
from rft.types import GradedGroup
from rft.waiting import waiting

_NOT_COLUMNS = ("trainer_state", "log_extra", "log_metric", "environments")
"""Arguments that TRL passes in addition to the columns."""


def as_trl_reward(graders: LoadedGrader | Sequence[LoadedGrader], *, max_fault_share: float = 0.1) -> TrlReward:
    """Make one reward function for TRL from graders; the reward is their weighted sum.

    Args:
        graders: One or more graders.
        max_fault_share: Share of the last completions that a grader may fail before the training stops.
    """
    several = [graders] if isinstance(graders, LoadedGrader) else list(graders)
    return TrlReward(several, max_fault_share=max_fault_share)


class TrlReward:
    """A reward function for TRL. It returns a number for each completion; None means no reward.

    The graders run on an event loop in a separate thread, so deadlines, worker processes and fault budgets apply as in
    rft. Close the object, or use it as a context manager, to end the worker processes.

    Adjacent completions with the same prompt and columns form the group of a grader of groups.

    Args:
        graders: The graders.
        max_fault_share: As in `as_trl_reward`.
    """

    def __init__(self, graders: Sequence[LoadedGrader], *, max_fault_share: float) -> None:
        self.__name__ = "+".join(grader.name for grader in graders)  # TRL logs this name
        self._batches = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"graders {self.__name__}", daemon=True)
        self._panel = Panel(graders, max_fault_share=max_fault_share)
        self._thread.start()

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] = (),
        **columns: Any,
    ) -> list[float | None]:
        """Grade a batch.

        Args:
            prompts: `[B]` texts, or lists of messages.
            completions: `[B]` texts, or lists of messages.
            completion_ids: `[B]` token ids.
            **columns: `[B]` lists, one for each column of the data set.

        Returns:
            `[B]` rewards; None for no reward.

        Raises:
            GradeError: A grader failed too often.
        """
        groups = list(self._groups(prompts, completions, completion_ids, columns))
        with waiting(f"the grades of {len(prompts)} completions"):  # each grader has its own deadline
            graded = asyncio.run_coroutine_threadsafe(self._grade(groups), self._loop).result()
        return [reward for group in graded for reward in group.rewards]

    def close(self) -> None:
        """End the worker processes and the thread."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> TrlReward:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _grade(self, groups: Sequence[Completed]) -> list[GradedGroup]:
        return list(await asyncio.gather(*(grade_completed(self._panel, group) for group in groups)))

    async def _end(self) -> None:
        self._panel.close()

    def _groups(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        columns: Mapping[str, Sequence[Any]],
    ) -> Iterator[Completed]:
        batch = next(self._batches)
        names = [name for name in columns if name not in _NOT_COLUMNS]
        rows = [(prompt, {name: columns[name][at] for name in names}) for at, prompt in enumerate(prompts)]
        start = 0
        for end in range(1, len(rows) + 1):
            if end < len(rows) and rows[end] == rows[start]:
                continue
            prompt, item = rows[start]
            yield Completed(
                id=f"{batch}-{start}",
                prompt=prompt,
                completions=[_text(completion) for completion in completions[start:end]],
                item=item,
                completion_ids=completion_ids[start:end],
            )
            start = end


def _text(completion: Any) -> str:
    """Return the text of a completion, which is a text or a list of messages that ends with the assistant's message."""
    return completion if isinstance(completion, str) else str(completion[-1]["content"] or "")
