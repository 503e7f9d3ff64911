"""Selects the tasks whose prompts, and the demonstrations whose rows, fit into the model's context."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from rft.config import EvaluateConfig, RunConfig
from rft.data.demonstration_records import Demonstration
from rft.data.rendering import FittingTasks, Renderer, Tell, fit_context, fit_rows
from rft.data.splits import TaskSets
from rft.data.training_rows import TrainingRows
from rft.errors import DataError, UsageError
from rft.run.task_order import mixture_shortages
from rft.types import Task

T = TypeVar("T")

FEW_VALIDATION_TASKS = 20
"""Below this number of validation tasks, `data.validation_share` causes a warning."""


class Reuse:
    """Caches task files, prompt lengths and the base model's fingerprint for other configurations.

    The trials of a sweep share one cache, because they differ in few keys, and large files take long to read and hash.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of a key; compute it if it is missing. Errors are not cached."""
        if key not in self._made:
            self._made[key] = make()
        value: T = self._made[key]
        return value


def collect(problems: list[str], get: Callable[[], T]) -> T | None:
    """Compute a value; collect its problems instead of raising them."""
    try:
        return get()
    except UsageError as error:
        problems += error.problems
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The tasks that fit.

    Example:
        Fitted(tasks=TaskSets(...), num_dropped=2, longest_prompt=120, longest_row=0)
    """

    tasks: TaskSets
    """The tasks that fit, in order."""
    num_dropped: int
    """Number of other tasks."""
    longest_prompt: int
    """Tokens of the longest prompt; 0 without one."""
    longest_row: int
    """Tokens of the longest row of a demonstration; 0 without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitter:
    """Selects the tasks of a run."""

    config: RunConfig | EvaluateConfig
    """The configuration."""
    model: Path
    """Folder of the base model."""
    context_tokens: int
    """Prompt and completion together."""
    renderer: Renderer
    """Renders prompts."""
    rows: TrainingRows | None
    """Renders the training tasks if they are demonstrations."""
    reuse: Reuse
    """Caches the lengths of prompts."""
    tell: Tell | None
    """Receives the number of rendered prompts."""

    def fit(self, tasks: TaskSets) -> Fitted:
        """Select the tasks of all splits.

        Raises:
            DataError: The chat template refuses tasks, or some are too long.
        """
        kept: dict[str, list[Task]] = {}
        dropped, longest = 0, {"prompt": 0, "row": 0}
        problems: list[str] = []
        for split in ("train", "validation", "test"):
            before: list[Task] = getattr(tasks, split)
            kept[split] = before
            if not before:
                continue
            for what in self._checked(split, before):
                fitting = collect(problems, partial(self._fitting, kept[split], self.rows if what == "row" else None))
                if fitting is None:
                    break
                kept[split] = fitting.kept
                dropped += fitting.num_dropped
                longest[what] = max(longest[what], fitting.longest)
        if problems:
            raise DataError("prompts", list(dict.fromkeys(problems)))
        return Fitted(
            tasks=TaskSets(**kept), num_dropped=dropped, longest_prompt=longest["prompt"], longest_row=longest["row"]
        )

    def _checked(self, split: str, tasks: list[Task]) -> tuple[Literal["prompt", "row"], ...]:
        """Return the sequences that must fit: prompts with their completions, rows with their answers, or both."""
        if self.rows is not None and split == "train":
            return ("row",)
        has_loss = isinstance(self.config, RunConfig) and self.config.learner.takes == "demonstrations"
        if has_loss and split == "validation" and any(isinstance(task, Demonstration) for task in tasks):
            return ("prompt", "row")
        return ("prompt",)

    def _fitting(self, tasks: list[Task], rows: TrainingRows | None) -> FittingTasks:
        """Return the tasks of a split that fit."""
        config, on_long = self.config, self.config.data.long_prompts
        max_completion_tokens = config.sampler.max_completion_tokens
        rendering = (
            self.model,
            config.model.chat_template,
            config.data.format,
            repr(config.model.chat_template_kwargs),
            self.renderer.shots and self.renderer.shots.sha256,
        )

        def fit() -> FittingTasks:
            if rows is not None:
                return fit_rows(
                    tasks,
                    lambda task: rows.length(task) if isinstance(task, Demonstration) else 0,
                    context_tokens=self.context_tokens,
                    on_long=on_long,
                    shots=self.renderer.shots,
                    tell=self.tell,
                )
            return fit_context(
                tasks,
                self.renderer,
                context_tokens=self.context_tokens,
                max_completion_tokens=max_completion_tokens,
                on_long=on_long,
                tell=self.tell,
            )

        # `reuse` holds the tasks, too, so no other list can get this id.
        limits = (self.context_tokens, max_completion_tokens, on_long)
        return self.reuse.get(("fitting", id(tasks), rendering, rows is None, *limits), fit)


def check_enough(tasks: Sequence[Task], config: RunConfig | EvaluateConfig) -> None:
    """Refuse steps with more tasks than available.

    Raises:
        DataError: There are too few training tasks.
    """
    if isinstance(config, RunConfig) and len(tasks) < config.loop.prompts_per_step:
        only = f"are only {len(tasks)} training tasks" if len(tasks) != 1 else "is only 1 training task"
        raise DataError(
            "task files",
            [f"loop.prompts_per_step={config.loop.prompts_per_step}: there {only}; lower it or give more tasks"],
        )
    if isinstance(config, RunConfig) and (shortages := mixture_shortages(config, tasks)):
        raise DataError("task files", shortages)


def split_warnings(tasks: TaskSets, config: RunConfig | EvaluateConfig) -> list[str]:
    """Return a warning about a split with few validation tasks."""
    share, num = config.data.validation_share, len(tasks.validation)
    if not num or not share or config.data.validation or num >= FEW_VALIDATION_TASKS:
        return []
    return [
        f"data.validation_share={share:g} splits off {num} of {num + len(tasks.train)} training tasks, too few to tell "
        "whether the model changes; raise it, or give data.validation or data.test"
    ]
