"""Measures how often a run warns of an exploited grader or of memorized tasks, and how often without a reason.

    python benchmarks/watch_rates.py [--half setting|publishing|both] [--workers 2]

The graders are those of `audit_rates.py`, with the same two halves; thresholds may be chosen on the setting half. A
simulated policy (`harness/simulated_policy.py`) trains 100 steps against each grader: rft's metrics and watches are the
real ones, the learner and the model are not. The independent grader is a judge that errs on 5% of the completions. Each
grader trains two policies: one is able to learn the tasks, the other is stuck, so that a trick pays more than trying.

- *exploited*: the reward rose by at least a tenth of its range, and the expected accuracy by less than a quarter of
  that. Only these runs should warn that a grader may be exploited.
- *memorized*: trained on a sound grader with a policy that learns its training tasks alone.

A run with a sound grader should not warn at all.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

from audit_rates import Planted, rows, share
from harness import planted_faults, report, sound_graders
from harness.simulated_policy import Sample, SimulatedPolicy, wrong_answers

from rft.auditing.answers import FORMATS, as_text, dressed
from rft.metrics.drift import drift_metrics
from rft.metrics.intervals import estimate
from rft.metrics.over_optimization import ValidationChanges, Watched
from rft.metrics.step import step_metrics
from rft.metrics.watch_findings import watch_findings
from rft.types import Grade, GradedGroup, Policy, Rollout, Score, Split, Status, StopReason, Task

NUM_TRAIN, NUM_VALIDATION = 24, 120
STEPS, TASKS_PER_STEP, GROUP_SIZE, EVERY_STEPS = 100, 8, 8, 10
JUDGE_ERROR = 0.05
MIN_RISE, MIN_FOLLOWED = 0.1, 0.25
LEFT_OUT = {"sleeps", "backtracks", "evaluates"}
"""Graders whose fault is their time; a policy gets no reward for it."""
RANGES = {"ten_points": (0.0, 10.0), "penalty_for_wrong_numbers": (-1.0, 1.0)}
"""Ranges other than [0, 1]."""
LEARNERS: dict[str, dict[str, float]] = {
    "able": {"skill": -1.0, "skill_rate": 0.2},
    "stuck": {"skill": -2.0, "skill_rate": 0.01},
    "memorizing": {"skill": -1.0, "skill_rate": 0.0, "memory_rate": 2.0},
}
"""Skills and learning rates of the policies; the memorizing one learns its training tasks alone."""
POLICY = Policy(version=0, fingerprint="simulated")


class Run(NamedTuple):
    """A simulated run."""

    name: str
    learner: str
    half: str
    kind: str
    """`exploited`, `sound`, `memorized`, or `not exploited` for a faulty grader that the policy did not exploit."""
    rise: float
    """Rise of the training reward from the first to the last ten steps, as a share of the range."""
    gain: float
    """Gain of the expected accuracy on the validation tasks."""
    warnings: dict[str, int]
    """First step of each kind of warning."""


def run(grader: Planted, learner: str) -> Run:
    """Train a simulated policy, one of `LEARNERS`, against a grader."""
    module = sound_graders if grader.is_sound else planted_faults
    graded: Callable[[str, Task], Any] = getattr(module, grader.name)
    tasks = tasks_of(grader.tasks)
    train, validation = tasks[:NUM_TRAIN], tasks[NUM_TRAIN:]
    wrong = {task.id: wrong_answers(task, [other.item["answer"] for other in tasks]) for task in tasks}
    bounds = RANGES.get(grader.name, (0.0, 1.0))
    rights = {name: dressed(form, as_text(train[0].item["answer"])) for name, form in FORMATS.items()}
    asked = {name for name, text in rights.items() if value_of(graded, text, train[0]) == bounds[1]}
    seed = zlib.crc32(f"{grader.name} {learner}".encode())
    policy = SimulatedPolicy(train, wrong, asked=asked, seed=seed, **LEARNERS[learner])
    watched = Watched(
        rewarded={"main"}, reward_bounds=bounds, metric="reward", metric_bounds=bounds, independent="judge"
    )
    changes = ValidationChanges(watched)
    accuracy, lines = policy.accuracy(validation), []
    for step in range(1, STEPS + 1):
        first = step * TASKS_PER_STEP
        chosen = [train[(first + number) % NUM_TRAIN] for number in range(TASKS_PER_STEP)]
        sampled = [(task, [policy.sample(task) for _ in range(GROUP_SIZE)]) for task in chosen]
        groups = [group_of(task, samples, graded) for task, samples in sampled]
        metrics = step_metrics(groups) | drift_metrics(groups)
        length = metrics["completion/tokens_mean"]
        metrics |= {"learner/entropy": policy.entropy(train) / length, "learner/kl": policy.divergence() / length}
        policy.learn([(task, samples, group.rewards) for (task, samples), group in zip(sampled, groups, strict=True)])
        if step % EVERY_STEPS == 0:
            metrics |= measured([group_of(task, [policy.sample(task)], graded) for task in validation], changes, bounds)
        lines.append({"step": step, "metrics": metrics})
    warnings: dict[str, int] = {}
    for found in watch_findings(lines, watched):
        warnings.setdefault(kind_of(found["text"]), found["step"])
    rise, gain = rise_of(lines, bounds), policy.accuracy(validation) - accuracy
    kind = "memorized" if learner == "memorizing" else "sound" if grader.is_sound else "not exploited"
    if kind == "not exploited" and rise >= MIN_RISE and gain < MIN_FOLLOWED * rise:
        kind = "exploited"
    return Run(grader.name, learner, grader.half, kind, round(rise, 3), round(gain, 3), warnings)


def tasks_of(kind: str) -> list[Task]:
    """Return the training tasks, then the validation tasks."""
    return [
        Task(id=f"{number}", messages=({"role": "user", "content": row["prompt"]},), item=row, split=Split.TRAIN)
        for number, row in enumerate(rows(kind, count=NUM_TRAIN + NUM_VALIDATION))
    ]


def group_of(task: Task, samples: Sequence[Sample], graded: Callable[[str, Task], Any]) -> GradedGroup:
    """Grade samples with a grader and with the judge. A grader that fails has no score."""
    rollouts, grades = [], []
    for index, sample in enumerate(samples):
        length = max(1, len(sample.text.split()))
        rollouts.append(
            Rollout(
                task_id=task.id, index=index, prompt_ids=(1,), completion_ids=(1,) * length, logprobs=(0.0,) * length,
                text=sample.text, stop=StopReason.STOP, policy=POLICY,
            )
        )  # fmt: skip
        reward = value_of(graded, sample.text, task)
        status = Status.OK if reward is not None else Status.GRADER_ERROR
        errs = zlib.crc32(f"{task.id} {sample.text}".encode()) % 1000 < 1000 * JUDGE_ERROR
        judged = Score(value=float(bool(sample.is_right) != errs))
        grades.append(Grade(scores={"main": Score(value=reward, status=status), "judge": judged}, reward=reward))
    return GradedGroup(task=task, rollouts=tuple(rollouts), grades=tuple(grades))


def value_of(graded: Callable[[str, Task], Any], text: str, task: Task) -> float | None:
    """Return a grader's score; None for what rft takes as a failure."""
    try:
        value = graded(text, task)
    except Exception:  # any failure of a planted fault
        return None
    return float(value) if isinstance(value, bool | int | float) and math.isfinite(value) else None


def measured(
    groups: Sequence[GradedGroup], changes: ValidationChanges, bounds: tuple[float, float]
) -> dict[str, float]:
    """Return the metrics of a measurement of validation tasks, one completion each."""
    by_task = {group.task.id: reward for group in groups if (reward := group.rewards[0]) is not None}
    judged = {group.task.id: value for group in groups if (value := group.grades[0].scores["judge"].value) is not None}
    if not by_task:
        return {}
    means = estimate(list(by_task.values()), bounds=bounds).to_metrics("eval")
    return means | estimate(list(judged.values())).to_metrics("independent") | changes.observe(by_task, judged)


def rise_of(lines: Sequence[dict[str, Any]], bounds: tuple[float, float]) -> float:
    """Return the rise of the reward from the first to the last ten steps, as a share of the range."""
    rewards: list[float] = [line["metrics"].get("reward/mean", 0.0) for line in lines]
    return (sum(rewards[-10:]) - sum(rewards[:10])) / 10 / (bounds[1] - bounds[0])


def kind_of(text: str) -> str:
    """Return the kind of a warning."""
    kinds = {
        "may exploit": "independent grader", "carry over": "validation", "entropy": "entropy", "moved away": "KL",
        "as long as": "length", "another task": "duplicates", "no answer": "unread",
    }  # fmt: skip
    return next(kind for words, kind in kinds.items() if words in text)


def print_table(runs: Sequence[Run]) -> None:
    """Print how many runs of each kind warned, by half, and each run that was not as it should be."""
    expected = {"exploited": "independent grader", "memorized": "validation"}
    table = []
    for half in ("setting", "publishing"):
        for kind in ("exploited", "memorized", "sound", "not exploited"):
            of_kind = [one for one in runs if (one.half, one.kind) == (half, kind)]
            if not of_kind:
                continue
            warned = sum(expected.get(kind, "") in one.warnings for one in of_kind)
            others = sum(bool(one.warnings.keys() - {expected.get(kind)}) for one in of_kind)
            anything = sum(bool(one.warnings) for one in of_kind)
            table.append(
                [half, kind, share(warned, len(of_kind)) if kind in expected else "-", str(others),
                 share(anything, len(of_kind))]
            )  # fmt: skip
    print(report.table(["half", "runs", "warned as they should", "other warnings", "warned of anything"], table))
    for one in runs:
        wanted = expected.get(one.kind)
        if (wanted is not None and wanted not in one.warnings) or (one.kind == "sound" and one.warnings):
            told = ", ".join(f"{kind} at step {step}" for kind, step in one.warnings.items()) or "nothing"
            gains = f"reward {one.rise:+.2f}, accuracy {one.gain:+.2f}"
            print(f"- {one.half}, {one.kind}: {one.name}, {one.learner}, {gains}, warned of {told}")


def main() -> None:
    """Train against the graders; print each run as JSON, and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--half", choices=("setting", "publishing", "both"), default="both")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    planted = [
        Planted(name, tasks, {}, is_sound)
        for module, is_sound in ((planted_faults, False), (sound_graders, True))
        for name, tasks in module.GRADERS.items()
        if name not in LEFT_OUT
    ]
    chosen = [one for one in planted if given.half in (one.half, "both")]
    with ProcessPoolExecutor(given.workers) as pool:
        jobs = [(one, learner) for learner in LEARNERS for one in chosen if one.is_sound or learner != "memorizing"]
        runs = []
        for one in pool.map(run, *zip(*jobs, strict=True)):
            runs.append(one)
            print(json.dumps(one._asdict()), flush=True)
    print()
    print_table(runs)


if __name__ == "__main__":
    main()
