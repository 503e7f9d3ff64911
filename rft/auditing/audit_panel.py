"""Grades the cases of an audit with the panel of a run: worker processes, deadlines, statuses."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rft.auditing.cases import Case, GradedCase
from rft.errors import GradeError
from rft.grading import LoadedGrader, load_grader
from rft.grading.models.model_grader import model_of
from rft.grading.panel import Panel
from rft.types import Grade, Policy, Rollout, Status, StopReason, Task

MAX_TIMEOUTS = 12
"""Calls that may miss their deadline, outside the cost probe, before the audit is abandoned."""
CHARS_PER_TOKEN = 4
UNKNOWN_TOKEN = -1
"""Token id in completions that no model sampled. Graders of lengths count the tokens."""


class TooManyTimeouts(Exception):
    """The graders miss their deadline on ordinary completions; continuing would take hours."""


class AuditPanel:
    """Grades cases and keeps their grades.

    A sync grader that declares `in_process` runs in a worker process here. A slow call therefore does not block the
    audit; the cost probe reports it.

    Args:
        entries: The graders' entries in the configuration, by name.
        max_concurrency: Maximum number of completions that are graded at the same time.
        num_workers: Number of worker processes; None uses the panel's default.
        worker_memory_mb: Memory in MiB that such a process may use beyond the loaded graders; None sets no limit.
        count: Called after each graded completion.
    """

    def __init__(
        self,
        entries: Mapping[str, Mapping[str, Any]],
        *,
        max_concurrency: int,
        num_workers: int | None,
        worker_memory_mb: int | None = None,
        count: Callable[[], None] = lambda: None,
    ) -> None:
        self.entries = entries
        self.max_concurrency = max_concurrency
        self.declared = tuple(load_grader(name, entry) for name, entry in entries.items())
        """The graders as a run would load them."""
        self.graders = tuple(_in_worker(grader) for grader in self.declared)
        self.seen: list[GradedCase] = []
        """All graded cases, each once."""
        self.of_probe: list[GradedCase] = []
        """The results that the current probe received, also those from earlier probes; `examine` empties the list."""
        self._num_workers = num_workers
        self._worker_memory_mb = worker_memory_mb
        self._count = count
        self._known: dict[tuple[str, str], GradedCase] = {}
        self._timeouts = 0
        self._panel = self._new_panel(num_workers)

    async def grade(self, cases: Sequence[Case]) -> list[GradedCase]:
        """Grade cases. A case that was graded before keeps its grade.

        Raises:
            TooManyTimeouts: Too many calls missed their deadline.
        """
        fresh = {_key(case): case for case in cases if _key(case) not in self._known}
        for case, grade in zip(fresh.values(), await self._run(self._panel, list(fresh.values())), strict=True):
            self._known[_key(case)] = GradedCase(case=case, grade=grade)
            self.seen.append(self._known[_key(case)])
            self._timeouts += any(score.status is Status.TIMEOUT for score in grade.scores.values())
        if self._timeouts > MAX_TIMEOUTS:
            raise TooManyTimeouts(f"{self._timeouts} calls missed their deadline")
        return self._received([replace(self._known[_key(case)], case=case) for case in cases])

    async def regrade(self, cases: Sequence[Case]) -> list[GradedCase]:
        """Grade cases again, in the same worker processes."""
        grades = await self._run(self._panel, cases)
        return self._received([GradedCase(case=case, grade=grade) for case, grade in zip(cases, grades, strict=True)])

    async def grade_apart(
        self, cases: Sequence[Case], *, one_worker: bool = False, entries: Mapping[str, Any] | None = None
    ) -> list[GradedCase]:
        """Grade cases again, in new worker processes.

        Args:
            cases: The cases. One worker grades them in this order.
            one_worker: Whether one process grades all cases, one call at a time.
            entries: The graders' entries, if other graders grade the cases.
        """
        panel = self._new_panel(1 if one_worker else self._num_workers, entries)
        try:
            grades = await self._run(panel, cases, in_turn=one_worker)
        finally:
            panel.close()
        return self._received([GradedCase(case=case, grade=grade) for case, grade in zip(cases, grades, strict=True)])

    def close(self) -> None:
        """End the worker processes."""
        self._panel.close()

    def _received(self, graded: list[GradedCase]) -> list[GradedCase]:
        self.of_probe += graded
        return graded

    def _new_panel(self, num_workers: int | None, entries: Mapping[str, Any] | None = None) -> Panel:
        graders = self.graders
        if entries is not None:
            graders = tuple(_in_worker(load_grader(name, entry)) for name, entry in entries.items())
        return Panel(
            graders,
            max_concurrency=self.max_concurrency,
            max_fault_share=1.0,
            num_workers=num_workers,
            worker_memory_mb=self._worker_memory_mb,
        )

    async def _run(self, panel: Panel, cases: Sequence[Case], *, in_turn: bool = False) -> list[Grade]:
        """Grade each case as a group of one, so that two cases of a task never share a group."""
        grades: list[Grade | None] = [None] * len(cases)
        numbers = iter(range(len(cases)))

        async def grade_remaining() -> None:
            for number in numbers:
                case = cases[number]
                (group,) = await panel.grade([case.task], _stream(as_rollout(case)), rollouts_per_task=1)
                grades[number] = group.grades[0]
                self._count()

        await asyncio.gather(
            *(grade_remaining() for _ in range(1 if in_turn else min(self.max_concurrency, len(cases))))
        )
        if None in grades:
            raise GradeError("a case was not graded")
        return [grade for grade in grades if grade is not None]


def as_rollout(case: Case) -> Rollout:
    """Return a case as a rollout, with one token for every four characters."""
    num_tokens = -(-len(case.completion) // CHARS_PER_TOKEN)
    return Rollout(
        task_id=case.task.id,
        index=0,
        prompt_ids=(),
        completion_ids=(UNKNOWN_TOKEN,) * num_tokens,
        logprobs=(0.0,) * num_tokens,
        text=case.completion,
        stop=StopReason.STOP,
        policy=Policy(version=0, fingerprint="audit"),
    )


def asks_a_service(grader: LoadedGrader) -> bool:
    """Whether a grader calls a service, such as a judge or an endpoint."""
    return grader.in_process and inspect.iscoroutinefunction(grader.call)


def _in_worker(grader: LoadedGrader) -> LoadedGrader:
    stays_here = asks_a_service(grader) or model_of(grader) is not None or grader.entry is None
    return grader if stays_here else replace(grader, in_process=False)


def _key(case: Case) -> tuple[str, str]:
    """Return the identity of a case. A task that a probe changed has another id."""
    return case.task.id, case.completion


async def _stream(rollout: Rollout) -> AsyncIterator[Rollout]:
    yield rollout


def other_task(task: Task, mark: str, **changes: Any) -> Task:
    """Return the task with other columns and a marked id."""
    return replace(task, id=f"{task.id} ({mark})", item={**task.item, **changes})
