"""Cases through the real panel: worker processes, deadlines, statuses. A hang costs its own deadline and no more."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rft.auditing.cases import Case, Graded
from rft.errors import GradeError
from rft.grading import LoadedGrader, load_grader
from rft.grading.panel import Panel
from rft.types import Grade, Policy, Rollout, Status, StopReason, Task

MAX_TIMEOUTS = 12
"""So many calls may miss their deadline, those of the cost probe aside, before the audit gives the grader up."""
CHARS_PER_TOKEN = 4
UNKNOWN_TOKEN = -1
"""Stands for each token of a completion that no model sampled; graders of lengths count them."""


class GivenUp(Exception):
    """The graders miss their deadline on ordinary input; to go on would take hours."""


class Bench:
    """Grades cases, and remembers what it has graded.

    A sync grader that asks to run in this process runs in a worker process here: what it does to an event loop when it
    is slow is for a probe to say, not for the audit to suffer.

    Args:
        entries: The graders' entries in the configuration, by name.
        max_concurrency: Completions graded at the same time.
        num_workers: Worker processes; None leaves it to the panel.
        count: Called for each completion that was graded.
    """

    def __init__(
        self,
        entries: Mapping[str, Mapping[str, Any]],
        *,
        max_concurrency: int,
        num_workers: int | None,
        count: Callable[[], None] = lambda: None,
    ) -> None:
        self.entries = entries
        self.max_concurrency = max_concurrency
        self.declared = tuple(load_grader(name, entry) for name, entry in entries.items())
        """The graders as a run would have them."""
        self.graders = tuple(_in_worker(grader) for grader in self.declared)
        self.seen: list[Graded] = []
        """All that was graded, each case once."""
        self._num_workers = num_workers
        self._count = count
        self._known: dict[tuple[str, str], Graded] = {}
        self._timeouts = 0
        self._panel = self._new_panel(num_workers)

    async def grade(self, cases: Sequence[Case]) -> list[Graded]:
        """Grade cases, each once in the whole audit.

        Raises:
            GivenUp: Too many calls missed their deadline.
        """
        fresh = {_key(case): case for case in cases if _key(case) not in self._known}
        for case, grade in zip(fresh.values(), await self._run(self._panel, list(fresh.values())), strict=True):
            self._known[_key(case)] = Graded(case=case, grade=grade)
            self.seen.append(self._known[_key(case)])
            self._timeouts += any(score.status is Status.TIMEOUT for score in grade.scores.values())
        if self._timeouts > MAX_TIMEOUTS:
            raise GivenUp(f"{self._timeouts} calls missed their deadline")
        return [replace(self._known[_key(case)], case=case) for case in cases]

    async def regrade(self, cases: Sequence[Case]) -> list[Graded]:
        """Grade cases whatever is known of them, in the worker processes that are there."""
        grades = await self._run(self._panel, cases)
        return [Graded(case=case, grade=grade) for case, grade in zip(cases, grades, strict=True)]

    async def grade_apart(
        self, cases: Sequence[Case], *, one_worker: bool = False, entries: Mapping[str, Any] | None = None
    ) -> list[Graded]:
        """Grade cases in worker processes of their own, whatever is known of them.

        Args:
            cases: In this order where there is one worker.
            one_worker: One call at a time, all in one process.
            entries: Other graders to grade with.
        """
        panel = self._new_panel(1 if one_worker else self._num_workers, entries)
        try:
            grades = await self._run(panel, cases, in_turn=one_worker)
        finally:
            panel.close()
        return [Graded(case=case, grade=grade) for case, grade in zip(cases, grades, strict=True)]

    def close(self) -> None:
        """End the worker processes."""
        self._panel.close()

    def _new_panel(self, num_workers: int | None, entries: Mapping[str, Any] | None = None) -> Panel:
        graders = self.graders
        if entries is not None:
            graders = tuple(_in_worker(load_grader(name, entry)) for name, entry in entries.items())
        return Panel(graders, max_concurrency=self.max_concurrency, max_fault_share=1.0, num_workers=num_workers)

    async def _run(self, panel: Panel, cases: Sequence[Case], *, in_turn: bool = False) -> list[Grade]:
        """Each case is a group of one, so that two cases of one task do not meet."""
        grades: list[Grade | None] = [None] * len(cases)
        numbers = iter(range(len(cases)))

        async def some() -> None:
            for number in numbers:
                case = cases[number]
                (group,) = await panel.grade([case.task], _stream(as_rollout(case)), rollouts_per_task=1)
                grades[number] = group.grades[0]
                self._count()

        await asyncio.gather(*(some() for _ in range(1 if in_turn else min(self.max_concurrency, len(cases)))))
        if None in grades:
            raise GradeError("a case was not graded")
        return [grade for grade in grades if grade is not None]


def as_rollout(case: Case) -> Rollout:
    """The case as if a model had sampled it; its tokens are counted at four characters each."""
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
    """Whether a grader waits for somebody else: a judge, an endpoint."""
    return grader.in_process and inspect.iscoroutinefunction(grader.call)


def _in_worker(grader: LoadedGrader) -> LoadedGrader:
    return grader if asks_a_service(grader) or grader.entry is None else replace(grader, in_process=False)


def _key(case: Case) -> tuple[str, str]:
    """Tasks that a probe changed have an id of their own."""
    return case.task.id, case.completion


async def _stream(rollout: Rollout) -> AsyncIterator[Rollout]:
    yield rollout


def other_task(task: Task, mark: str, **changes: Any) -> Task:
    """The task with other columns, and an id that tells."""
    return replace(task, id=f"{task.id} ({mark})", item={**task.item, **changes})
