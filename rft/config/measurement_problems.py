"""Checks of the measurements of a run: settings that cannot take effect."""

from __future__ import annotations

from collections.abc import Iterator

from rft.config.mixture import sources
from rft.config.schema import RunConfig
from rft.wording import listed


def measurement_problems(run: RunConfig) -> list[str]:
    """Refuse settings of measurements that cannot take effect."""
    data, how = run.data, run.evaluation
    problems = list(_independent_grader_problems(run))
    is_measured = how.every_steps and (sources(data, "validation") or data.validation_share)
    if how.patience is not None and not is_measured:
        problems.append(
            f"evaluation.patience={how.patience}: nothing is measured during the run; give validation tasks in "
            "data.validation or data.validation_share, and evaluation.every_steps"
        )
    if how.best_metric == "loss":
        if run.learner.takes != "demonstrations":
            problems.append(
                f"evaluation.best_metric=loss: learner={run.learner.kind} does not learn from demonstrations, so there "
                "is no loss to measure; use learner=sft, or leave it out"
            )
        elif how.patience is None:
            problems.append(
                "evaluation.best_metric=loss: no measurement is selected; set evaluation.patience, or leave it out"
            )
    if data.check_demonstrations and run.learner.takes != "demonstrations":
        problems.append(
            f"data.check_demonstrations=true: learner={run.learner.kind} does not learn from demonstrations; use "
            "learner=sft, or leave it out"
        )
    return problems


def _independent_grader_problems(run: RunConfig) -> Iterator[str]:
    """Refuse an independent grader that is unknown, or that enters the reward."""
    name = run.evaluation.independent_grader
    if name is None:
        return
    key = f"evaluation.independent_grader={name}"
    outside = [other for other, spec in run.graders.items() if spec.get("weight", 1.0) == 0]
    allowed = f"graders with weight 0: {listed(outside)}" if outside else "no grader has weight 0"
    if name not in run.graders:
        yield f"{key}: there is no such grader; {allowed}"
    elif name not in outside:
        yield (
            f"{key}: it enters the reward, so it cannot tell whether the reward is being exploited; set "
            f"graders.{name}.weight=0, or name another one ({allowed})"
        )
    elif run.data.mixture and not any(name in family.graders for family in run.data.mixture.values()):
        yield f"{key}: no family of data.mixture is scored by it; add it to the graders of a family"
