"""Renders preferences to groups of two completions, which a learner takes like sampled and graded ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rft.data.demonstration_records import Demonstration, Preference
from rft.data.demonstration_rows import RowRenderer
from rft.data.mixture import MixedTasks
from rft.data.order import ShuffledTasks
from rft.types import Grade, GradedGroup, Policy, Rollout, StopReason, Task

RECORDED = Policy(version=0, fingerprint="recorded")
"""Stands for the unknown policy that wrote recorded answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRenderer:
    """Renders preferences.

    Example:
        PairRenderer(rows=RowRenderer(renderer=renderer, end_ids=frozenset({2}), eos_id=2))
    """

    rows: RowRenderer
    """Renders each of the two chats, so that prompts and answers have the tokens of demonstrations."""

    def group(self, preference: Preference) -> GradedGroup:
        """Return the chosen completion with reward 1, and the rejected one with reward 0.

        Raises:
            TemplateRefusal: The chat template refuses a chat, or writes an answer differently after the prompt.
        """
        chats = (preference, preference.as_rejected())
        rollouts = tuple(recorded_rollout(self.rows, chat, index) for index, chat in enumerate(chats))
        grades = tuple(Grade(scores={}, reward=reward) for reward in (1.0, 0.0))
        return GradedGroup(task=preference, rollouts=rollouts, grades=grades)

    def length(self, task: Task) -> int:
        """Return the tokens of the longer of the two sequences."""
        assert isinstance(task, Preference)  # from `to_preference`
        return max(self.rows.length(chat) for chat in (task, task.as_rejected()))

    def trained_text(self, demonstration: Demonstration, tokenizer: Any) -> str:
        """Return both answers as text, with control tokens."""
        assert isinstance(demonstration, Preference)  # from `to_preference`
        chosen, rejected = (
            self.rows.trained_text(chat, tokenizer) for chat in (demonstration, demonstration.as_rejected())
        )
        return f"{chosen} > {rejected}"

    def ordered(self, tasks: ShuffledTasks | MixedTasks) -> PreferenceOrder:
        """Return the batches of these preferences."""
        return PreferenceOrder(order=tasks, renderer=self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceOrder:
    """The pairs of each step, as a pure function of seed and step."""

    order: ShuffledTasks | MixedTasks
    """The order of the preferences."""
    renderer: PairRenderer
    """Renders them."""

    def of_step(self, step: int) -> list[GradedGroup]:
        """Return the pairs of a step."""
        return [self.renderer.group(task) for task in self.order.of_step(step) if isinstance(task, Preference)]

    def metrics(self, batch: Sequence[GradedGroup]) -> dict[str, float]:
        """Return the numbers of pairs, and of all tokens of their answers."""
        tokens = sum(len(rollout.completion_ids) for group in batch for rollout in group.rollouts)
        return {"preferences/pairs": float(len(batch)), "preferences/answer_tokens": float(tokens)}


def recorded_rollout(rows: RowRenderer, chat: Demonstration, index: int) -> Rollout:
    """Return the last answer of a chat, the only one that is trained, as a completion of an unknown policy."""
    (row,) = rows.rows(chat)
    begin = row.trained.index(True)
    return Rollout(
        task_id=chat.id,
        index=index,
        prompt_ids=row.ids[:begin],
        completion_ids=row.ids[begin:],
        logprobs=(math.nan,) * (len(row.ids) - begin),  # unknown
        text="",
        stop=StopReason.STOP,
        policy=RECORDED,
    )
