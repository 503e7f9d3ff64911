"""Checks whether the feasibility of a run can be measured."""

from __future__ import annotations

from rft.config.schema import RunConfig


def feasibility_problems(run: RunConfig) -> list[str]:
    """Return the problems of measuring the feasibility of a run, one sentence each; none if it is off."""
    return [] if run.feasibility.mode == "off" else measured_problems(run, f"feasibility={run.feasibility.mode}")


def measured_problems(run: RunConfig, what: str) -> list[str]:
    """Return the problems of measuring the feasibility of a run, one sentence each.

    Args:
        run: The configuration.
        what: What asks for it, such as `rft feasibility`.
    """
    given, group_size = run.feasibility.completions_per_task, run.loop.completions_per_prompt
    problems = []
    if run.learner.takes != "groups" or run.learner.has_teacher:
        signal = "a teacher" if run.learner.has_teacher else run.learner.takes
        problems.append(
            f"{what}: learner={run.learner.kind} learns from {signal}, not from rewards of its own completions; "
            "feasibility is about such rewards, so choose another learner, such as learner=grpo"
        )
    if given is not None and given < group_size:
        problems.append(
            f"feasibility.completions_per_task={given}: a group of the run has {group_size} "
            f"(loop.completions_per_prompt); give at least {group_size}"
        )
    return problems
