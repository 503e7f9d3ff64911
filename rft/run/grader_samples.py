"""Tests the graders before a start, with a task's reference and with an empty completion."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from rft.config.schema import GradingConfig
from rft.errors import UsageError
from rft.grading import LoadedGrader
from rft.grading.panel import Panel
from rft.terminal.event_loop import run_to_end
from rft.types import Grade, Policy, Rollout, StopReason, Task


def sample_rows(graders: Sequence[LoadedGrader], task: Task, grading: GradingConfig) -> dict[str, str]:
    """Grade two completions of a task: its reference, and an empty completion.

    Raises:
        UsageError: A grader fails on one of them.
    """
    reference = task.item.get("answer")
    text = str(reference) if isinstance(reference, (str, int, float)) and not isinstance(reference, bool) else None
    samples = {"the reference": text, "nothing": ""} if text else {"nothing": ""}
    grades = run_to_end(_graded(graders, task, [text or "" for text in samples.values()], grading))
    problems = [
        f"graders.{name} fails on {what} as the completion of {task.where or task.id}: {score.status}: {score.reason}"
        for what, grade in zip(samples, grades, strict=True)
        for name, score in grade.scores.items()
        if score.status.is_grader_fault
    ]
    if problems:
        raise UsageError("the run cannot start", list(dict.fromkeys(problems)))
    return {
        f"grader {grader.name}{f' of {task.family}' if task.family else ''}": ", ".join(
            f"{_worth(grade.scores[grader.name].value)} for {what}" for what, grade in zip(samples, grades, strict=True)
        )
        + f" ({task.where or task.id})"
        for grader in graders
    }


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
    graders: Sequence[LoadedGrader], task: Task, texts: Sequence[str], grading: GradingConfig
) -> tuple[Grade, ...]:
    panel = Panel(
        graders,
        max_concurrency=grading.max_concurrency,
        max_fault_share=1.0,
        num_workers=2,
        worker_memory_mb=grading.worker_memory_mb,
    )

    async def stream() -> AsyncIterator[Rollout]:
        for index, text in enumerate(texts):
            yield as_rollout(task, index, text)

    try:
        (group,) = await panel.grade([task], stream(), rollouts_per_task=len(texts))
        return group.grades
    finally:
        panel.close()


def _worth(value: float | None) -> str:
    return "no score" if value is None else f"{value:g}"
