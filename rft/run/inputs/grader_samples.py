"""Tests the graders before a start, with a task's reference and with an empty completion."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from rft.config.schema import GradingConfig
from rft.errors import UsageError
from rft.grading import LoadedGrader
from rft.grading.panel import Panel
from rft.terminal.event_loop import run_to_end
from rft.types import Grade, Policy, Rollout, StopReason, Task


def sample_rows(graders: Sequence[LoadedGrader], tasks: Sequence[Task], grading: GradingConfig) -> dict[str, str]:
    """Grade two completions of each task: its reference, and an empty completion.

    Raises:
        UsageError: A grader fails on one of them.
    """
    samples = [_samples(task) for task in tasks]
    grades = run_to_end(_graded(graders, tasks, [list(texts.values()) for texts in samples], grading))
    problems = [
        f"graders.{name} fails on {what} as the completion of {task.where or task.id}: {score.status}: {score.reason}"
        for task, texts, of_task in zip(tasks, samples, grades, strict=True)
        for what, grade in zip(texts, of_task, strict=True)
        for name, score in grade.scores.items()
        if score.status.is_grader_fault
    ]
    if problems:
        raise UsageError("the run cannot start", list(dict.fromkeys(problems)))
    return {
        f"grader {grader.name}{f' of {task.family}' if task.family else ''}": ", ".join(
            f"{_worth(grade.scores[grader.name].value)} for {what}" for what, grade in zip(texts, of_task, strict=True)
        )
        + f" ({task.where or task.id})"
        for task, texts, of_task in zip(tasks, samples, grades, strict=True)
        for grader in graders
    }


def _samples(task: Task) -> dict[str, str]:
    """Return the completions of a task, by what they are."""
    reference = task.item.get("answer")
    text = str(reference) if isinstance(reference, (str, int, float)) and not isinstance(reference, bool) else ""
    return {"the reference": text, "nothing": ""} if text else {"nothing": ""}


def as_rollout(task: Task, index: int, text: str) -> Rollout:
    """Return a text as a completion that no policy sampled. For graders of length, four characters are one token."""
    num_tokens = len(text) // 4 + 1
    return Rollout(
        task_id=task.id,
        index=index,
        prompt_ids=(),
        completion_ids=(-1,) * num_tokens,
        logprobs=(0.0,) * num_tokens,
        text=text,
        stop=StopReason.STOP,
        policy=Policy(version=0, fingerprint="none"),
    )


async def _graded(
    graders: Sequence[LoadedGrader], tasks: Sequence[Task], texts: Sequence[Sequence[str]], grading: GradingConfig
) -> list[tuple[Grade, ...]]:
    panel = Panel(
        graders,
        max_concurrency=grading.max_concurrency,
        max_fault_share=1.0,
        num_workers=2,
        worker_memory_mb=grading.worker_memory_mb,
    )

    async def stream(task: Task, of_task: Sequence[str]) -> AsyncIterator[Rollout]:
        for index, text in enumerate(of_task):
            yield as_rollout(task, index, text)

    grades = []
    try:
        for task, of_task in zip(tasks, texts, strict=True):
            (group,) = await panel.grade([task], stream(task, of_task), rollouts_per_task=len(of_task))
            grades.append(group.grades)
        return grades
    finally:
        panel.close()


def _worth(value: float | None) -> str:
    return "no score" if value is None else f"{value:g}"
