"""Measures whether a run is worth starting: samples training tasks with the policy that it starts from.

The samples have seeds of their own, so they share nothing with the steps or with the measurement before the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rft.config import RunConfig, sequences_per_step
from rft.errors import GradeError, Infeasible
from rft.events import Emit, FeasibilityMeasured, Notice, PhaseStarted
from rft.evidence.feasibility import feasibility_of
from rft.evidence.feasibility_plan import Planned, Timing
from rft.evidence.feasibility_text import feasibility_lines
from rft.evidence.feasibility_verdict import NO_GO
from rft.metrics.drops import count_drops
from rft.metrics.step import Stopwatch
from rft.run.inputs.prepare import Prepared
from rft.run.loop_learners import TurnTaking
from rft.run.parts import Parts
from rft.run.recovery import RecoveringLearner
from rft.run.task_order import first_tasks, some_tasks
from rft.types import GradedGroup, Task
from rft.wording import plural

PURPOSE = "feasibility"
"""Purpose of the samples, part of their seeds."""
NUM_TIMED = 2
"""Batches of the size of a step that are timed, after one that warms the samplers up."""
PREDICTED_STEPS = 20
"""Number of first steps for which the share of informative groups is predicted."""


async def judge_before_training(
    run: RunConfig,
    prepared: Prepared,
    parts: Parts[RecoveringLearner],
    tasks: Sequence[Task],
    emit: Emit,
    *,
    start_s: float,
) -> None:
    """Measure the feasibility of a run before its first step, without its learner.

    Raises:
        GradeError: No completion has a reward.
        Infeasible: The verdict is no-go, with `feasibility=refuse`.
    """
    report, groups = await measure_feasibility(run, prepared, parts, tasks, emit, start_s=start_s, with_learner=False)
    emit(FeasibilityMeasured(report=report, groups=groups))
    emit(Notice(text="\n".join(["feasibility:", *feasibility_lines(report)])))
    if run.feasibility.mode == "refuse" and report["verdict"] == NO_GO:
        reasons = [f"  - {one['text']}; {one['remedy']}: {one['command']}" for one in report["reasons"]]
        how = "feasibility=warn trains nevertheless"
        raise Infeasible("\n".join([f"feasibility=refuse: the run is not worth starting; {how}", *reasons]))


async def measure_feasibility(
    run: RunConfig,
    prepared: Prepared,
    parts: Parts[RecoveringLearner],
    tasks: Sequence[Task],
    emit: Emit,
    *,
    start_s: float,
    with_learner: bool,
) -> tuple[dict[str, Any], tuple[GradedGroup, ...]]:
    """Sample training tasks, and judge the run.

    Args:
        run: The configuration of the run.
        prepared: Its inputs.
        parts: The opened parts.
        tasks: The training tasks.
        emit: Receives the phases.
        start_s: The time until the parts were ready, seconds.
        with_learner: Whether the learner takes two steps, which change the policy, to time it.

    Returns:
        The content of feasibility.json, and the samples.

    Raises:
        GradeError: No completion has a reward.
    """
    chosen = some_tasks(run, tasks, count=max(run.feasibility.max_tasks, run.loop.prompts_per_step))
    each = run.feasibility.num_completions(run.loop.completions_per_prompt)
    emit(PhaseStarted(text=f"sampling for feasibility: {plural(len(chosen), 'task')} x {each}"))
    groups, step_s, completion_s = await _sampled(run, parts, chosen)
    learn_s = sync_s = None
    if with_learner and run.learner.trains_a_model:
        emit(PhaseStarted(text="timing the learner"))
        learn_s, sync_s = await _timed_learner(run, parts, groups)
    timing = Timing(step_s=step_s, completion_s=completion_s, start_s=start_s, learn_s=learn_s, sync_s=sync_s)
    visits = Counter(task.id for task in first_tasks(run, tasks, steps=min(PREDICTED_STEPS, run.loop.steps)))
    planned = Planned(
        visits=visits,
        num_train=len(tasks),
        num_validation=len(prepared.tasks.validation[: run.evaluation.max_validation_tasks]),
        num_held_out=len(prepared.held_out),
    )
    report = feasibility_of(groups, run=run, planned=planned, timing=timing)
    if report is None:
        raise GradeError(f"none of the {plural(len(groups), 'sampled task')} could be graded: {count_drops(groups)}")
    return report, tuple(groups)


async def _sampled(
    run: RunConfig, parts: Parts[RecoveringLearner], tasks: Sequence[Task]
) -> tuple[list[GradedGroup], float, float]:
    """Sample and grade.

    The first batches have the size of a step, to measure its time; the rest is sampled at once.

    Returns:
        The graded groups, the seconds of a step, and the seconds of a completion among many.
    """
    each = run.feasibility.num_completions(run.loop.completions_per_prompt)
    per_step = sequences_per_step(run)
    size = max(1, round(per_step / each))
    batches = [tasks[start : start + size] for start in range(0, (1 + NUM_TIMED) * size, size)]
    batches.append(tasks[(1 + NUM_TIMED) * size :])
    groups: list[GradedGroup] = []
    seconds: list[float] = []
    for batch in filter(None, batches):
        watch = Stopwatch()
        groups += await _graded(run, parts, batch, each, step=0)
        watch.lap(PURPOSE)
        seconds.append(watch.seconds[PURPOSE] / (len(batch) * each))
    timed = seconds[1 : 1 + NUM_TIMED] or seconds
    return groups, per_step * sum(timed) / len(timed), seconds[-1]


async def _graded(
    run: RunConfig, parts: Parts[RecoveringLearner], tasks: Sequence[Task], each: int, step: int
) -> list[GradedGroup]:
    """Sample `each` completions per task, and grade them."""
    rollouts = parts.sampler.sample(
        tasks, completions_per_task=each, temperature=run.sampler.temperature, purpose=PURPOSE, step=step
    )
    return await parts.panel.grade(tasks, rollouts, rollouts_per_task=each)


async def _timed_learner(
    run: RunConfig, parts: Parts[RecoveringLearner], groups: Sequence[GradedGroup]
) -> tuple[float, float]:
    """Return the seconds of the learner's second step, and of its sync. The policy is no longer the start's."""
    learner = TurnTaking(parts.learner, parts.fleet) if parts.samplers_sleep else parts.learner
    number = run.loop.completions_per_prompt
    batch = [
        GradedGroup(task=group.task, rollouts=group.rollouts[:number], grades=group.grades[:number])
        for group in groups[: run.loop.prompts_per_step]
    ]
    seconds: dict[str, float] = {}
    for step in range(2):
        if step > 0:  # the learner refuses what an older policy has sampled
            batch = await _graded(run, parts, [group.task for group in batch], number, step)
        watch = Stopwatch()
        await learner.learn(batch)
        watch.lap("learn")
        await parts.sampler.load(await learner.publish())
        watch.lap("sync")
        seconds = watch.seconds
    return seconds["learn"], seconds["sync"]
