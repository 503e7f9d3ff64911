"""Drift: what shows in each step's rewarded completions when a policy has found a hole in its grader.

`drift_metrics` describes a step's groups; `DriftWatch` compares steps, and warns. The watch looks at nothing but
metrics, so that a resumed run, which reads its own lines again, goes on as if it had never stopped.
"""

from __future__ import annotations

import statistics
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rft.types import Grade, GradedGroup, Status, StepReport

UNREAD = "drift/unread_share/"
DUPLICATES = "drift/duplicate_share"
NGRAM = "drift/top_ngram_share"
LENGTH = "drift/length_ratio"

WORDS_IN_NGRAM = 4
MAX_WORDS = 2_000
"""Of each completion, for its n-grams."""
MAX_UNREAD = 0.5
DUPLICATES_JUMP = 0.3
LENGTH_GROWTH = 3.0


def drift_metrics(groups: Sequence[GradedGroup]) -> dict[str, float]:
    """Describe a step's groups.

    A completion is rewarded here where its reward is above the mean of its group: these become more likely.

    Returns:
        `drift/unread_share/<grader>`: share of completions in which the grader found no answer, or none that it could
        read. `drift/duplicate_share`: of the rewarded answers (what a grader took for the answer, or else the text),
        counted once a task, the share that is rewarded for another task of the step as well.
        `drift/top_ngram_share`: share of the rewarded completions that hold the most frequent run of four words. What
        has no value in this step is left out.
    """
    metrics: dict[str, float] = {}
    grades = [grade for group in groups for grade in group.grades]
    for name in {name: None for grade in grades for name in grade.scores}:
        statuses = [grade.scores[name].status for grade in grades if name in grade.scores]
        judged = [status for status in statuses if status.has_value]
        if judged:
            unread = sum(status in (Status.NO_ANSWER, Status.INVALID_OUTPUT) for status in judged)
            metrics[f"{UNREAD}{name}"] = unread / len(judged)
    rewarded = [(group.task.id, text, grade) for group in groups for text, grade in _above_the_mean(group)]
    answers = {(task, _answer(text, grade)) for task, text, grade in rewarded}
    if len({task for task, _ in answers}) > 1:
        tasks_of = Counter(answer for _, answer in answers)
        metrics[DUPLICATES] = sum(tasks_of[answer] > 1 for _, answer in answers) / len(answers)
    ngrams = Counter(ngram for _, text, _ in rewarded for ngram in _ngrams(text))
    if len(rewarded) > 1 and ngrams:
        metrics[NGRAM] = max(ngrams.values()) / len(rewarded)
    return metrics


class DriftWatch:
    """Warns when a policy drifts to where its grader is weak: once, and again only after it came back.

    Args:
        steps: How many steps the beginning is, with which later ones are compared, and how many are looked at together.
    """

    def __init__(self, steps: int = 10) -> None:
        self._steps = steps
        self._first: dict[str, list[float]] = {}
        self._last: dict[str, deque[float]] = {}
        self._astray: set[str] = set()

    def read(self, lines: Iterable[Mapping[str, Mapping[str, float | None]]]) -> None:
        """Take in the lines of a run's metrics.jsonl, those of its steps: a run that is resumed."""
        for line in lines:
            self.observe({name: value for name, value in line["metrics"].items() if value is not None})

    def watched(self, report: StepReport, more: Mapping[str, float]) -> tuple[StepReport, list[str]]:
        """Take in a step's report; return it with `drift_metrics` and what `observe` adds, and the warnings."""
        metrics = {**report.metrics, **more}
        drift, warnings = self.observe(metrics)
        return replace(report, metrics={**metrics, **drift}), warnings

    def observe(self, metrics: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
        """Take in the metrics of one step, those of `drift_metrics` among them.

        Returns:
            `drift/length_ratio`, the mean length over that of the first steps, once these are over; and the warnings.
        """
        drift: dict[str, float] = {}
        length = metrics.get("completion/tokens_mean")
        if length is not None and (start := self._beginning("completion/tokens_mean")):
            drift[LENGTH] = length / start
        for name, value in metrics.items():
            if name.startswith("drift/") or name in ("completion/tokens_mean", "reward/mean"):
                first = self._first.setdefault(name, [])
                if len(first) < self._steps:
                    first.append(value)
                self._last.setdefault(name, deque(maxlen=self._steps)).append(value)
        checks = {DUPLICATES: self._duplicates(), LENGTH: self._length()}
        checks |= {name: self._unread(name) for name in self._last if name.startswith(UNREAD)}
        warnings = [text for name, text in checks.items() if text and name not in self._astray]
        self._astray = {name for name, text in checks.items() if text}
        return drift, warnings

    def _unread(self, name: str) -> str:
        last = self._last[name]
        if len(last) < self._steps or min(last) <= MAX_UNREAD:
            return ""
        grader = name.removeprefix(UNREAD)
        return (
            f"grader '{grader}' found no answer that it could read in {statistics.fmean(last):.0%} of the completions "
            f"of the last {len(last)} steps. Say in the prompt how an answer is to be written, raise "
            "sampler.max_completion_tokens if they are cut, or let the grader read what the model writes"
        )

    def _duplicates(self) -> str:
        start, now = self._beginning(DUPLICATES), self._recent(DUPLICATES)
        if start is None or now is None or now <= start + DUPLICATES_JUMP:
            return ""
        return (
            f"{now:.0%} of the rewarded answers of the last {self._steps} steps were rewarded for another task as "
            f"well, {start:.0%} at the beginning: the model may have found an answer that the grader pays for "
            "anything. Read them in rollouts.jsonl, and put that text to the grader with rft audit or rft grade"
        )

    def _length(self) -> str:
        start, now = self._beginning("completion/tokens_mean"), self._recent("completion/tokens_mean")
        low, high = self._beginning("reward/mean"), self._recent("reward/mean")
        if start is None or now is None or low is None or high is None:
            return ""
        if now < LENGTH_GROWTH * start or high <= low:
            return ""
        return (
            f"completions are {now / start:.1f} times as long as in the first {self._steps} steps, and the reward has "
            "risen: the grader may pay for length. Read some in rollouts.jsonl; rft audit probes it; the graders "
            "length and repetition take something off"
        )

    def _beginning(self, name: str) -> float | None:
        first = self._first.get(name, [])
        return statistics.fmean(first) if len(first) == self._steps else None

    def _recent(self, name: str) -> float | None:
        last = self._last.get(name, ())
        return statistics.fmean(last) if len(last) == self._steps else None


def _above_the_mean(group: GradedGroup) -> list[tuple[str, Grade]]:
    rewards = [reward for reward in group.rewards if reward is not None]
    if not rewards:
        return []
    mean = statistics.fmean(rewards)
    return [
        (rollout.text, grade)
        for rollout, grade in zip(group.rollouts, group.grades, strict=True)
        if grade.reward is not None and grade.reward > mean + 1e-9
    ]


def _answer(text: str, grade: Grade) -> str:
    """What a grader took for the answer, or else the completion."""
    return next((score.answer for score in grade.scores.values() if score.answer is not None), text).strip()


def _ngrams(text: str) -> set[tuple[str, ...]]:
    words = text.split()[:MAX_WORDS]
    return set(zip(*(words[start:] for start in range(WORDS_IN_NGRAM)), strict=False))
