"""Profile of the graders under audit: the answer format they accept, their ranges, and the graders of style."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rft.auditing.answers import FORMATS, dressed, is_same, right_answers, short
from rft.auditing.audit_panel import AuditPanel
from rft.auditing.cases import Case, GradedCase
from rft.types import Rollout, Status, Task

NUM_FORMAT_TASKS = 10
"""Number of tasks on which all formats are tried."""
INDIFFERENT = 0.05
"""A grader whose mean scores of right and wrong answers differ by a smaller share of its range grades style."""
PAID = 0.1
"""A completion is paid if it earns more than this share of full marks."""
FULL = 0.95
"""A completion gets full marks from this share on."""

Recorded = Sequence[tuple[Task, Sequence[Rollout]]]


@dataclass(kw_only=True, eq=False)
class GraderProfile:
    """The graders and tasks of an audit. Call `calibrate` before any other method.

    The reward of a run is a weighted sum. Graders of style (length, format) rightly pay a wrong answer as much as a
    right one, so the probes measure the other graders' part of the reward. If all graders grade style, the probes
    measure the whole reward.
    """

    panel: AuditPanel
    """Grades the cases."""
    tasks: Sequence[Task]
    """The tasks."""
    gold: str
    """The column with the reference."""
    template: str | None = None
    """Format of a complete answer, with `{answer}` in it, if the graders accept none of the usual formats."""
    relevant: str = "relevant"
    """The column with the ids of the passages that hold the answer."""
    recorded: Recorded = ()
    """Recorded completions of the base model, by task."""
    completions_per_prompt: int = 8
    """Completions of one task that a run compares."""
    completions_per_step: int = 64
    """Completions that a run grades in one step."""
    planned_concurrency: int = 64
    """Completions that a run grades at the same time."""
    format: str = field(default="bare", init=False)
    """Name of the format with the highest reward."""
    by_format: dict[str, list[GradedCase]] = field(default_factory=dict, init=False)
    """Right answers to the first tasks, in each format."""
    right: list[GradedCase] = field(default_factory=list, init=False)
    """A right answer to each task, in the best format."""
    wrong: list[GradedCase] = field(default_factory=list, init=False)
    """A different answer, of another task, to each task."""
    style: frozenset[str] = field(default=frozenset(), init=False)
    """Names of the graders of style."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    """Lowest and highest score of each grader."""
    gives_partial_credit: bool = field(default=False, init=False)
    """Whether the calibration gave any completion partial credit."""
    _variant: int = field(default=0, init=False)

    async def calibrate(self) -> None:
        """Measure the format, the ranges and the graders of style."""
        if self.solved:
            await self._find_format()
            self.right = await self.panel.grade([self.case(task, self.answer(task), "right") for task in self.solved])
            self.wrong = await self.panel.grade(
                [
                    self.case(task, answer, "the answer to another task")
                    for task in self.solved
                    if (answer := self.other_answer(task)) is not None
                ]
            )
        empty = await self.panel.grade([Case(task=task, completion="", note="empty") for task in self.tasks])
        everything = [
            *empty,
            *self.right,
            *self.wrong,
            *(result for graded in self.by_format.values() for result in graded),
        ]
        self.ranges = {grader.name: _range(grader.name, grader.range, everything) for grader in self.panel.graders}
        self.style = self._style()
        shares = [self.share(result) for result in everything]
        self.gives_partial_credit = any(share is not None and 0.05 < share < FULL for share in shares)

    @property
    def solved(self) -> list[Task]:
        """The tasks with a reference."""
        return [task for task in self.tasks if task.item.get(self.gold) not in (None, "")]

    @property
    def formats(self) -> Mapping[str, str]:
        """All formats, by name."""
        return FORMATS if self.template is None else {"yours": self.template, **FORMATS}

    @property
    def counting(self) -> list[str]:
        """Names of the graders whose part of the reward the probes measure."""
        weighted = [grader.name for grader in self.panel.graders if grader.weight != 0]
        return [name for name in weighted if name not in self.style] or weighted

    def answer(self, task: Task) -> str:
        """Return the reference of a task, in the variant that the graders pay."""
        return self._answers(task, self._variant)[-1]

    def other_answer(self, task: Task) -> str | None:
        """Return the reference of the next task with a different reference; None if all are the same."""
        solved = self.solved
        start = solved.index(task)
        candidates = (self.answer(other) for other in [*solved[start + 1 :], *solved[:start]])
        return next((answer for answer in candidates if not self.is_right(task, answer)), None)

    def is_right(self, task: Task, answer: str) -> bool:
        """Whether an answer equals a task's reference, in any notation."""
        return any(is_same(short(answer), short(right)) for right in right_answers(task, self.gold, self.relevant))

    def other_answers(self, task: Task) -> list[str]:
        """Return the different answers to other tasks, each once."""
        others = dict.fromkeys(self.answer(other) for other in self.solved)
        return [answer for answer in others if not self.is_right(task, answer)]

    def wrap(self, answer: str) -> str:
        """Return an answer in the best format."""
        whole = answer if self.format == "bare" else short(answer)
        return dressed(self.formats[self.format], whole)

    def case(self, task: Task, answer: str, note: str) -> Case:
        """Return a case: an answer to a task, in the best format."""
        return Case(task=task, completion=self.wrap(answer), note=note)

    def share(self, graded: GradedCase) -> float | None:
        """Return the share of full marks that a case earned, graders of style excluded; None without a reward."""
        return self._share(graded, self.counting)

    def total_share(self, graded: GradedCase) -> float | None:
        """Return the share of the whole reward's range that a case earned; None without a reward."""
        return self._share(graded, [grader.name for grader in self.panel.graders if grader.weight != 0])

    def paid(self, graded: Sequence[GradedCase], above: float = PAID) -> list[GradedCase]:
        """Return the cases that earned more than a share of full marks, the highest first."""
        cases = [(share, result) for result in graded if (share := self.share(result)) is not None and share > above]
        return [result for _, result in sorted(cases, key=lambda pair: -pair[0])]

    def mean(self, graded: Sequence[GradedCase], share: Callable[[GradedCase], float | None] | None = None) -> float:
        """Return the mean share. A case without a reward counts as 0."""
        return statistics.fmean((share or self.share)(result) or 0.0 for result in graded)

    def style_share(self) -> float:
        """Return the part of the whole reward's range that graders of style determine."""
        spans = {
            grader.name: abs(grader.weight) * (self.ranges[grader.name][1] - self.ranges[grader.name][0])
            for grader in self.panel.graders
        }
        total = sum(spans.values())
        return sum(spans[name] for name in self.style) / total if total else 0.0

    @property
    def fail_above(self) -> float:
        """The share of full marks above which a completion that deserves no reward is a failure."""
        return 0.5 if self.gives_partial_credit else PAID

    async def _find_format(self) -> None:
        """Grade right answers in every format and keep the best format."""
        sampled = self.solved[:NUM_FORMAT_TASKS]
        best: tuple[float, str, int] | None = None
        for variant in range(max(len(right_answers(task, self.gold, self.relevant)) for task in sampled)):
            for name, template in self.formats.items():
                cases = []
                for task in sampled:
                    answer = self._answers(task, variant)[-1]
                    text = dressed(template, answer if name == "bare" else short(answer))
                    cases.append(Case(task=task, completion=text, note=f"right, {name}"))
                graded = await self.panel.grade(cases)
                rewards = [result.grade.reward for result in graded if result.grade.reward is not None]
                mean = sum(rewards) / len(graded) if rewards else float("-inf")
                if best is None or mean > best[0] + 1e-9:
                    best = (mean, name, variant)
                self.by_format[name if not variant else f"{name} (variant {variant})"] = graded
        assert best is not None
        _, self.format, self._variant = best
        mark = f" (variant {self._variant})"
        self.by_format = {
            name.removesuffix(mark): graded
            for name, graded in self.by_format.items()
            if (name.endswith(mark) if self._variant else "(variant" not in name)
        }

    def _answers(self, task: Task, variant: int) -> list[str]:
        return right_answers(task, self.gold, self.relevant)[: variant + 1]

    def _style(self) -> frozenset[str]:
        if not self.wrong:
            return frozenset()
        return frozenset(
            grader.name for grader in self.panel.graders if grader.weight != 0 and self._is_indifferent(grader.name)
        )

    def _is_indifferent(self, name: str) -> bool:
        if all(result.grade.scores[name].value is None for result in self.right):
            return False  # a grader that fails on every completion judges neither content nor style
        low, high = self.ranges[name]
        means = [
            statistics.fmean(
                value if (value := result.grade.scores[name].value) is not None else low for result in graded
            )
            for graded in (self.right, self.wrong)
        ]
        return abs(means[0] - means[1]) < INDIFFERENT * (high - low)

    def _share(self, graded: GradedCase, names: Sequence[str]) -> float | None:
        low = high = value = 0.0
        for grader in self.panel.graders:
            if grader.name not in names:
                continue
            score = graded.grade.scores[grader.name].value
            if score is None:
                return None
            ends = [grader.weight * end for end in self.ranges[grader.name]]
            low, high, value = low + min(ends), high + max(ends), value + grader.weight * score
        return (value - low) / (high - low)


def _range(name: str, declared: tuple[float, float] | None, graded: Sequence[GradedCase]) -> tuple[float, float]:
    """Return a grader's range: as declared; otherwise 0 to 1, or -1 to 0 for penalties, widened by the scores."""
    if declared is not None:
        return declared
    values = [value for result in graded if (value := result.grade.scores[name].value) is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    if low < 0 and high <= 0:
        return min(low, -1.0), 0.0
    return min(low, 0.0), max(high, 1.0) if high <= 1 else high


def without_value(graded: Sequence[GradedCase]) -> list[GradedCase]:
    """Return the cases on which a grader failed."""
    return [result for result in graded if any(score.status.is_grader_fault for score in result.grade.scores.values())]


def first_per_reason(graded: Sequence[GradedCase]) -> list[GradedCase]:
    """Return the first case for each reason of a failure."""
    first: dict[str, GradedCase] = {}
    for result in graded:
        reasons = (score.reason or "" for score in result.grade.scores.values() if score.status.is_grader_fault)
        first.setdefault(next(reasons, "")[:40], result)
    return list(first.values())


def was_skipped(graded: GradedCase) -> bool:
    """Whether a grader declined the case."""
    return graded.grade.reward is None and all(
        score.status is Status.SKIPPED for score in graded.grade.scores.values() if score.value is None
    )


def named(entries: Mapping[str, Mapping[str, Any]], use: str) -> list[Mapping[str, Any]]:
    """Return all entries that use a grader, including the children of composites."""
    matches = []
    for entry in entries.values():
        if entry.get("use") == use:
            matches.append(entry)
        children = dict(entry.get("of") or {}) if isinstance(entry.get("of"), Mapping) else {}
        gate = {"gate": entry["gate"]} if isinstance(entry.get("gate"), Mapping) else {}
        matches += named({**children, **gate}, use)
    return matches
