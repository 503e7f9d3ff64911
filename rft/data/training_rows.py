"""Training rows: their readers by kind, and the protocol of those that contain answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from rft.data.demonstration_records import Demonstration
from rft.data.demonstrations import to_answered_task, to_demonstration
from rft.data.labelled_completions import to_labelled_completion
from rft.data.mixture import MixedTasks
from rft.data.order import ShuffledTasks
from rft.data.preferences import to_preference
from rft.data.tasks import read_tasks, read_with, to_episode_task
from rft.types import Task

READERS: Mapping[str, Callable[..., list[Task]]] = {
    "groups": read_tasks,
    "episodes": partial(read_with, to_episode_task),
    "demonstrations": partial(read_with, to_demonstration),
    "preferences": partial(read_with, to_preference),
    "labelled completions": partial(read_with, to_labelled_completion),
}
"""Readers of a source by what the learner takes, or `episodes` of an environment, like `rft.data.tasks.read_tasks`."""

READERS_OF_VALIDATION: Mapping[str, Callable[..., list[Task]]] = {
    "groups": read_tasks,
    "demonstrations": partial(read_with, to_answered_task),
    "preferences": read_tasks,
    "labelled completions": read_tasks,
}
"""Readers of the validation tasks, by what the learner takes."""


class RowOrder(Protocol):
    """The batches of a run, as a pure function of the step."""

    def of_step(self, step: int) -> Sequence[Any]:
        """Return the batch of a step, as the learner receives it."""

    def metrics(self, batch: Sequence[Any]) -> dict[str, float]:
        """Return the sizes of a batch."""


class TrainingRows(Protocol):
    """Renders rows that contain answers: demonstrations, preferences or labelled completions."""

    def length(self, task: Task) -> int:
        """Return the tokens of a row's longest sequence."""

    def trained_text(self, demonstration: Demonstration, tokenizer: Any) -> str:
        """Return the trained tokens of a row as text, with control tokens."""

    def ordered(self, tasks: ShuffledTasks | MixedTasks) -> RowOrder:
        """Return the batches of these rows."""
