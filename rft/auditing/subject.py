"""What is audited: graders and tasks, how a right answer must look to them, and what full marks are."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rft.auditing.answers import FORMATS, dressed, is_same, right_answers, short
from rft.auditing.bench import Bench
from rft.auditing.cases import Case, Graded
from rft.types import Rollout, Status, Task

NUM_FORMAT_TASKS = 10
"""On so many tasks all formats are tried, on the others only the best."""
INDIFFERENT = 0.05
"""A grader whose mean score of right and wrong answers differs by less, as a share of its range, is one of style."""
PAID = 0.1
"""More than this share of full marks is pay."""
FULL = 0.95
"""From here on marks are full."""

Recorded = Sequence[tuple[Task, Sequence[Rollout]]]


@dataclass(kw_only=True, eq=False)
class Subject:
    """Graders and tasks. `calibrate` comes before the rest.

    The reward of a run is a weighted sum. Graders of style (length, format) pay a wrong answer as much as a right one,
    as they should; whether wrong answers are paid is therefore asked of the other graders' part of the reward. Where
    there are no others, all of it is.
    """

    bench: Bench
    """Grades."""
    tasks: Sequence[Task]
    """The tasks."""
    gold: str
    """The column with the reference."""
    template: str | None = None
    """How a complete answer looks, with `{answer}` in it, where none of the usual formats will do."""
    recorded: Recorded = ()
    """Completions of the base model by task, if there are any."""
    completions_per_prompt: int = 8
    """How many completions of one task a run compares."""
    completions_per_step: int = 64
    """How many completions a run grades in one step."""
    planned_concurrency: int = 64
    """Completions graded at the same time in a run."""
    format: str = field(default="bare", init=False)
    """The name of the format that the graders pay best."""
    by_format: dict[str, list[Graded]] = field(default_factory=dict, init=False)
    """Right answers in each format, of the first tasks."""
    right: list[Graded] = field(default_factory=list, init=False)
    """A right answer to each task, in the best format."""
    wrong: list[Graded] = field(default_factory=list, init=False)
    """Another task's answer to each task, where it differs."""
    style: frozenset[str] = field(default=frozenset(), init=False)
    """Names of the graders of style."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    """Lowest and highest score of each grader."""
    gives_partial_credit: bool = field(default=False, init=False)
    """Whether a score of the calibration was neither nothing nor full marks."""
    _variant: int = field(default=0, init=False)

    async def calibrate(self) -> None:
        """Find the format, the ranges, and which graders are of style."""
        if self.solved:
            await self._find_format()
            self.right = await self.bench.grade([self.case(task, self.answer(task), "right") for task in self.solved])
            self.wrong = await self.bench.grade(
                [
                    self.case(task, answer, "the answer to another task")
                    for task in self.solved
                    if (answer := self.other_answer(task)) is not None
                ]
            )
        empty = await self.bench.grade([Case(task=task, completion="", note="empty") for task in self.tasks])
        everything = [*empty, *self.right, *self.wrong, *(one for some in self.by_format.values() for one in some)]
        self.ranges = {grader.name: _range(grader.name, grader.range, everything) for grader in self.bench.graders}
        self.style = self._style()
        shares = [self.share(one) for one in everything]
        self.gives_partial_credit = any(share is not None and 0.05 < share < FULL for share in shares)

    @property
    def solved(self) -> list[Task]:
        """The tasks with a reference."""
        return [task for task in self.tasks if task.item.get(self.gold) not in (None, "")]

    @property
    def formats(self) -> Mapping[str, str]:
        """All formats by name."""
        return FORMATS if self.template is None else {"yours": self.template, **FORMATS}

    @property
    def counting(self) -> list[str]:
        """Names of the graders that the question whether wrong answers are paid is put to."""
        weighted = [grader.name for grader in self.bench.graders if grader.weight != 0]
        return [name for name in weighted if name not in self.style] or weighted

    def answer(self, task: Task) -> str:
        """The reference of a task, in the variant that the graders pay."""
        return self._answers(task, self._variant)[-1]

    def other_answer(self, task: Task) -> str | None:
        """The reference of the next task that has another one."""
        solved = self.solved
        start = solved.index(task)
        candidates = (self.answer(other) for other in [*solved[start + 1 :], *solved[:start]])
        return next((one for one in candidates if not self.is_right(task, one)), None)

    def is_right(self, task: Task, answer: str) -> bool:
        """Whether an answer is a task's reference, however it is written."""
        return any(is_same(short(answer), short(right)) for right in right_answers(task, self.gold))

    def other_answers(self, task: Task) -> list[str]:
        """All different answers to other tasks."""
        others = dict.fromkeys(self.answer(other) for other in self.solved)
        return [one for one in others if not self.is_right(task, one)]

    def wrap(self, answer: str) -> str:
        """An answer in the best format."""
        whole = answer if self.format == "bare" else short(answer)
        return dressed(self.formats[self.format], whole)

    def case(self, task: Task, answer: str, note: str) -> Case:
        """An answer to a task, in the best format."""
        return Case(task=task, completion=self.wrap(answer), note=note)

    def share(self, graded: Graded) -> float | None:
        """How much of full marks a case was paid by the graders that are not of style; None without a reward."""
        return self._share(graded, self.counting)

    def total_share(self, graded: Graded) -> float | None:
        """How much of the whole reward's range a case was paid."""
        return self._share(graded, [grader.name for grader in self.bench.graders if grader.weight != 0])

    def paid(self, graded: Sequence[Graded], above: float = PAID) -> list[Graded]:
        """The cases that were paid more than a share of full marks, the best paid first."""
        cases = [(share, one) for one in graded if (share := self.share(one)) is not None and share > above]
        return [one for _, one in sorted(cases, key=lambda pair: -pair[0])]

    def mean(self, graded: Sequence[Graded], share: Callable[[Graded], float | None] | None = None) -> float:
        """The mean share; a case without a reward counts as unpaid."""
        return statistics.fmean((share or self.share)(one) or 0.0 for one in graded)

    def style_share(self) -> float:
        """What part of the whole reward's range graders of style can move."""
        spans = {
            grader.name: abs(grader.weight) * (self.ranges[grader.name][1] - self.ranges[grader.name][0])
            for grader in self.bench.graders
        }
        total = sum(spans.values())
        return sum(spans[name] for name in self.style) / total if total else 0.0

    @property
    def fail_above(self) -> float:
        """More than this share of full marks for what deserves nothing is a failure."""
        return 0.5 if self.gives_partial_credit else PAID

    async def _find_format(self) -> None:
        """Grade right answers in every format; the best one is the graders' own."""
        some = self.solved[:NUM_FORMAT_TASKS]
        best: tuple[float, str, int] | None = None
        for variant in range(max(len(right_answers(task, self.gold)) for task in some)):
            for name, template in self.formats.items():
                cases = []
                for task in some:
                    answer = self._answers(task, variant)[-1]
                    text = dressed(template, answer if name == "bare" else short(answer))
                    cases.append(Case(task=task, completion=text, note=f"right, {name}"))
                graded = await self.bench.grade(cases)
                rewards = [one.grade.reward for one in graded if one.grade.reward is not None]
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
        return right_answers(task, self.gold)[: variant + 1]

    def _style(self) -> frozenset[str]:
        if not self.wrong:
            return frozenset()
        return frozenset(
            grader.name for grader in self.bench.graders if grader.weight != 0 and self._is_indifferent(grader.name)
        )

    def _is_indifferent(self, name: str) -> bool:
        low, high = self.ranges[name]
        means = [
            statistics.fmean(value if (value := one.grade.scores[name].value) is not None else low for one in graded)
            for graded in (self.right, self.wrong)
        ]
        return abs(means[0] - means[1]) < INDIFFERENT * (high - low)

    def _share(self, graded: Graded, names: Sequence[str]) -> float | None:
        low = high = value = 0.0
        for grader in self.bench.graders:
            if grader.name not in names:
                continue
            score = graded.grade.scores[grader.name].value
            if score is None:
                return None
            ends = [grader.weight * end for end in self.ranges[grader.name]]
            low, high, value = low + min(ends), high + max(ends), value + grader.weight * score
        return (value - low) / (high - low)


def _range(name: str, declared: tuple[float, float] | None, graded: Sequence[Graded]) -> tuple[float, float]:
    """A grader's range: as declared, or 0 to 1, stretched by what was seen; -1 to 0 for one of penalties."""
    if declared is not None:
        return declared
    values = [value for one in graded if (value := one.grade.scores[name].value) is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    if low < 0 and high <= 0:
        return min(low, -1.0), 0.0
    return min(low, 0.0), max(high, 1.0) if high <= 1 else high


def without_value(graded: Sequence[Graded]) -> list[Graded]:
    """The cases that the graders, not the model, failed."""
    return [one for one in graded if any(score.status.is_grader_fault for score in one.grade.scores.values())]


def was_skipped(graded: Graded) -> bool:
    """Whether a grader declined the case."""
    return graded.grade.reward is None and all(
        score.status is Status.SKIPPED for score in graded.grade.scores.values() if score.value is None
    )


def named(entries: Mapping[str, Mapping[str, Any]], use: str) -> list[Mapping[str, Any]]:
    """All entries that use a grader, those of a composite's children among them."""
    found = []
    for entry in entries.values():
        if entry.get("use") == use:
            found.append(entry)
        children = dict(entry.get("of") or {}) if isinstance(entry.get("of"), Mapping) else {}
        gate = {"gate": entry["gate"]} if isinstance(entry.get("gate"), Mapping) else {}
        found += named({**children, **gate}, use)
    return found
