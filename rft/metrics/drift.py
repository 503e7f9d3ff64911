"""Drift: signs that a policy exploits its grader, or that it loses what it needs for learning on.

`drift_metrics` describes the groups of a step. `DriftWatch` compares steps and warns. The watch uses only metrics, so a
resumed run that reads its own metrics again continues like an uninterrupted one.
"""

from __future__ import annotations

import statistics
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rft.metrics.intervals import UNIT
from rft.types import Grade, GradedGroup, Status, StepReport

UNREAD = "drift/unread_share/"
DUPLICATES = "drift/duplicate_share"
NGRAM = "drift/top_ngram_share"
LENGTH = "drift/length_ratio"
TOKENS = "completion/tokens_mean"
REWARD = "reward/mean"
ENTROPY = "learner/entropy"
KL = "learner/kl"
INFORMATIVE = "groups/informative_share"
WATCHED = (TOKENS, REWARD, ENTROPY, KL, INFORMATIVE)
"""Metrics that the watch compares, besides those of `drift_metrics`."""

WORDS_IN_NGRAM = 4
MAX_WORDS = 2_000
"""Number of words per completion that count for n-grams."""
MAX_UNREAD = 0.5
DUPLICATES_JUMP = 0.3
LENGTH_GROWTH = 3.0
ENTROPY_LEFT = 0.2
"""A policy with a smaller share of its first entropy has collapsed, if its groups have become equal as well."""
MIN_INFORMATIVE = 0.2
SOLVED = 0.9
"""Share of the range of the reward above which a policy may well be sure of itself."""
KL_GROWTH = 2.0
MIN_KL = 0.05
"""Nats per token; a policy that is nearer to its start has not moved away."""


def drift_metrics(groups: Sequence[GradedGroup]) -> dict[str, float]:
    """Describe the groups of a step.

    A completion counts as rewarded if its reward is above the mean of its group. Training makes these completions more
    likely.

    Returns:
        `drift/unread_share/<grader>`: share of completions without an answer that the grader could read.
        `drift/duplicate_share`: share of rewarded answers (as extracted by a grader, or else the text; counted once per
        task) that another task of the step rewards as well, and that none scores below the mean of its group. An answer
        such as a letter is right for one task and wrong for another.
        `drift/top_ngram_share`: share of rewarded completions that contain the most frequent sequence of four words.
        Metrics without a value in this step are absent.
    """
    metrics: dict[str, float] = {}
    grades = [grade for group in groups for grade in group.grades]
    for name in {name: None for grade in grades for name in grade.scores}:
        statuses = [grade.scores[name].status for grade in grades if name in grade.scores]
        judged = [status for status in statuses if status.has_value]
        if judged:
            unread = sum(status in (Status.NO_ANSWER, Status.INVALID_OUTPUT) for status in judged)
            metrics[f"{UNREAD}{name}"] = unread / len(judged)
    rewarded = [(group.task.id, text, grade) for group in groups for text, grade in _beside_the_mean(group)]
    answers = {(task, _answer(text, grade)) for task, text, grade in rewarded}
    if len({task for task, _ in answers}) > 1:
        tasks_of = Counter(answer for _, answer in answers)
        rejected = {_answer(text, grade) for group in groups for text, grade in _beside_the_mean(group, above=False)}
        metrics[DUPLICATES] = sum(tasks_of[one] > 1 and one not in rejected for _, one in answers) / len(answers)
    ngrams = Counter(ngram for _, text, _ in rewarded for ngram in _ngrams(text))
    if len(rewarded) > 1 and ngrams:
        metrics[NGRAM] = max(ngrams.values()) / len(rewarded)
    return metrics


class DriftWatch:
    """Warns once when a policy drifts towards a weakness of its grader, and again after a recovery.

    Args:
        steps: Number of first steps to compare with, and number of latest steps to average.
        bounds: Lowest and highest possible reward; None if a teacher gives the rewards. A policy that follows a teacher
            may become sure of itself, so its entropy is then not watched.
    """

    def __init__(self, steps: int = 10, *, bounds: tuple[float, float] | None = UNIT) -> None:
        self._steps = steps
        self._solved = None if bounds is None else bounds[0] + SOLVED * (bounds[1] - bounds[0])
        self._first: dict[str, list[float]] = {}
        self._last: dict[str, deque[float]] = {}
        self._astray: set[str] = set()

    def read(self, lines: Iterable[Mapping[str, Mapping[str, float | None]]]) -> None:
        """Read the step lines of a resumed run's metrics.jsonl."""
        for line in lines:
            self.observe({name: value for name, value in line["metrics"].items() if value is not None})

    def watched(self, report: StepReport, more: Mapping[str, float]) -> tuple[StepReport, list[str]]:
        """Observe a step's report; return the report with drift metrics, and the warnings."""
        metrics = {**report.metrics, **more}
        drift, warnings = self.observe(metrics)
        return replace(report, metrics={**metrics, **drift}), warnings

    def observe(self, metrics: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
        """Observe the metrics of one step, including those of `drift_metrics`.

        Returns:
            `drift/length_ratio` (the mean length divided by that of the first steps, after the first steps), and the
            warnings.
        """
        drift: dict[str, float] = {}
        length = metrics.get(TOKENS)
        if length is not None and (start := self._beginning(TOKENS)):
            drift[LENGTH] = length / start
        for name, value in metrics.items():
            if name.startswith("drift/") or name in WATCHED:
                first = self._first.setdefault(name, [])
                if len(first) < self._steps:
                    first.append(value)
                self._last.setdefault(name, deque(maxlen=3 * self._steps)).append(value)
        checks = {DUPLICATES: self._duplicates(), LENGTH: self._length(), ENTROPY: self._entropy(), KL: self._kl()}
        checks |= {name: self._unread(name) for name in self._last if name.startswith(UNREAD)}
        warnings = [text for name, text in checks.items() if text and name not in self._astray]
        self._astray = {name for name, text in checks.items() if text}
        return drift, warnings

    def _unread(self, name: str) -> str:
        last = list(self._last[name])[-self._steps :]
        if len(last) < self._steps or min(last) <= MAX_UNREAD:
            return ""
        grader = name.removeprefix(UNREAD)
        return (
            f"grader '{grader}' could read no answer in {statistics.fmean(last):.0%} of the completions "
            f"of the last {len(last)} steps. State the answer format in the prompt, raise "
            "sampler.max_completion_tokens if answers are truncated, or extend the formats that the grader reads"
        )

    def _duplicates(self) -> str:
        start, now = self._beginning(DUPLICATES), self._recent(DUPLICATES)
        if start is None or now is None or now <= start + DUPLICATES_JUMP:
            return ""
        return (
            f"{now:.0%} of the rewarded answers of the last {self._steps} steps were also rewarded for another task "
            f"({start:.0%} at the beginning): the model may have discovered an answer that the grader always rewards. "
            "Read such answers in rollouts.jsonl, and test the grader with rft audit or rft grade"
        )

    def _length(self) -> str:
        start, now = self._beginning(TOKENS), self._recent(TOKENS)
        low, high = self._beginning(REWARD), self._recent(REWARD)
        if start is None or now is None or low is None or high is None:
            return ""
        if now < LENGTH_GROWTH * start or high <= low:
            return ""
        return (
            f"completions are {now / start:.1f} times as long as in the first {self._steps} steps, and the reward has "
            "risen: the grader may reward length. Read completions in rollouts.jsonl, run rft audit, or add the "
            "graders length and repetition as penalties"
        )

    def _entropy(self) -> str:
        start, now = self._beginning(ENTROPY), self._recent(ENTROPY)
        reward, informative = self._recent(REWARD), self._recent(INFORMATIVE)
        if start is None or now is None or reward is None or informative is None or self._solved is None:
            return ""
        if now >= ENTROPY_LEFT * start or informative >= MIN_INFORMATIVE or reward >= self._solved:
            return ""
        return (
            f"the entropy of the policy has fallen to {now / start:.0%} of that of the first {self._steps} steps, and "
            f"only {informative:.0%} of the groups have different rewards, at a mean reward of {reward:.2f}: the "
            "policy repeats itself and learns little more. Raise sampler.temperature, lower learner.learning_rate, or "
            "use learner=dapo"
        )

    def _kl(self) -> str:
        now, before = self._recent(KL), self._recent(KL, ago=self._steps)
        reward, earlier = self._recent(REWARD), self._recent(REWARD, ago=self._steps)
        if now is None or before is None or reward is None or earlier is None:
            return ""
        if self._recent(KL, ago=2 * self._steps) is None:  # it begins at 0, so it soon doubles in any run
            return ""
        if now < max(MIN_KL, KL_GROWTH * before) or reward > earlier:
            return ""
        return (
            f"the policy has moved away from its start (KL {now:.2f} nats per token in the last {self._steps} steps, "
            f"{before:.2f} in those before them), and the reward has not risen for it ({earlier:.2f}, then "
            f"{reward:.2f}). Lower learner.learning_rate, or raise learner.beta"
        )

    def _beginning(self, name: str) -> float | None:
        first = self._first.get(name, [])
        return statistics.fmean(first) if len(first) == self._steps else None

    def _recent(self, name: str, *, ago: int = 0) -> float | None:
        """Return the mean of the latest steps, or of as many that ended `ago` steps before."""
        last = list(self._last.get(name, ()))
        window = last[-self._steps - ago : len(last) - ago]
        return statistics.fmean(window) if len(window) == self._steps else None


def _beside_the_mean(group: GradedGroup, *, above: bool = True) -> list[tuple[str, Grade]]:
    """Return the completions whose reward lies above the mean of the group, or below it."""
    rewards = [reward for reward in group.rewards if reward is not None]
    if not rewards:
        return []
    mean, sign = statistics.fmean(rewards), 1 if above else -1
    return [
        (rollout.text, grade)
        for rollout, grade in zip(group.rollouts, group.grades, strict=True)
        if grade.reward is not None and sign * (grade.reward - mean) > 1e-9
    ]


def _answer(text: str, grade: Grade) -> str:
    """Return the answer that a grader extracted, or else the completion."""
    return next((score.answer for score in grade.scores.values() if score.answer is not None), text).strip()


def _ngrams(text: str) -> set[tuple[str, ...]]:
    words = text.split()[:MAX_WORDS]
    return set(zip(*(words[start:] for start in range(WORDS_IN_NGRAM)), strict=False))
