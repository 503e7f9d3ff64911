"""What most graders start with: the answer in a completion, and the reference in a task."""

from __future__ import annotations

from typing import Any

from rft.types import Task


def final_answer(completion: str) -> str:
    """Return what follows the last `</think>` (all of it where there is no thinking), stripped.

    A `<think>` that is never closed means that the model did not get to an answer: the result is empty. Where the
    prompt already opens the thinking, a completion cut before `</think>` cannot be told from an answer; a grader
    that minds looks at `rollout.stop`.
    """
    answer = completion.rpartition("</think>")[2]
    return "" if "<think>" in answer else answer.strip()


def reference(task: Task, column: str) -> Any:
    """Return a task's value in a column; None where the row leaves it empty.

    Raises:
        LookupError: The task has no such column.
    """
    if column not in task.item:
        raise LookupError(f"task {task.id} has no column '{column}'; it has: {', '.join(task.item) or 'none'}")
    return task.item[column]
