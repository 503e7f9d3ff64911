"""Turns rows into labelled completions, and renders them to groups of one completion for the learner.

A row is a demonstration (`rft.data.demonstrations`) with `label`: whether its last answer is desirable. It is TRL's
format for unpaired preferences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rft.data.demonstration_records import Demonstration, LabelledCompletion
from rft.data.demonstration_rows import RowRenderer
from rft.data.demonstrations import to_demonstration
from rft.data.messages import BadRow, type_name
from rft.data.mixture import MixedTasks
from rft.data.order import ShuffledTasks
from rft.data.preference_rows import recorded_rollout
from rft.types import Grade, GradedGroup, Split, Task


def to_labelled_completion(
    content: Mapping[str, Any],
    *,
    split: Split,
    system: str | None,
    where: str = "",
    format: Literal["chat", "raw"] = "chat",
) -> LabelledCompletion:
    """Turn a row, read at `where`, into a labelled completion.

    Raises:
        BadRow: The row is not a demonstration, or has no label.
    """
    label = content.get("label")
    if label is None:
        raise BadRow(
            'no "label": learner=kto needs to know whether the completion is desirable; add true or false, or map a '
            "column with data.columns.label=<column>"
        )
    if label not in (True, False):  # also 1 and 0
        given = repr(label) if isinstance(label, str | int | float) else type_name(label)
        raise BadRow(f'"label" must be true or false, not {given}')
    row = to_demonstration(content, split=split, system=system, where=where, format=format)
    return LabelledCompletion(
        id=row.id,
        messages=row.messages,
        item={name: value for name, value in row.item.items() if name != "label"},
        split=split,
        where=where,
        chat=row.chat,
        trained=(*[False] * (len(row.chat) - 1), True),
        desirable=bool(label),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRenderer:
    """Renders labelled completions.

    Example:
        LabelRenderer(rows=RowRenderer(renderer=renderer, end_ids=frozenset({2}), eos_id=2))
    """

    rows: RowRenderer
    """Renders the chats, so that prompts and answers have the tokens of demonstrations."""

    def group(self, completion: LabelledCompletion) -> GradedGroup:
        """Return the completion with reward 1 if it is desirable, else with reward 0.

        Raises:
            TemplateRefusal: The chat template refuses the chat, or writes the answer differently after the prompt.
        """
        grade = Grade(scores={}, reward=float(completion.desirable))
        return GradedGroup(task=completion, rollouts=(recorded_rollout(self.rows, completion, 0),), grades=(grade,))

    def length(self, task: Task) -> int:
        """Return the tokens of the sequence."""
        return self.rows.length(task)

    def trained_text(self, demonstration: Demonstration, tokenizer: Any) -> str:
        """Return the answer as text, with control tokens, and its label."""
        assert isinstance(demonstration, LabelledCompletion)  # from `to_labelled_completion`
        label = "desirable" if demonstration.desirable else "undesirable"
        return f"{self.rows.trained_text(demonstration, tokenizer)} ({label})"

    def ordered(self, tasks: ShuffledTasks | MixedTasks) -> LabelOrder:
        """Return the batches of these completions."""
        return LabelOrder(order=tasks, renderer=self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOrder:
    """The labelled completions of each step, as a pure function of seed and step."""

    order: ShuffledTasks | MixedTasks
    """The order of the rows."""
    renderer: LabelRenderer
    """Renders them."""

    def of_step(self, step: int) -> list[GradedGroup]:
        """Return the completions of a step."""
        return [self.renderer.group(task) for task in self.order.of_step(step) if isinstance(task, LabelledCompletion)]

    def metrics(self, batch: Sequence[GradedGroup]) -> dict[str, float]:
        """Return the numbers of completions, and of all their tokens."""
        tokens = sum(len(rollout.completion_ids) for group in batch for rollout in group.rollouts)
        return {"labelled/completions": float(len(batch)), "labelled/tokens": float(tokens)}
