"""Checks whether the held-out scores of several runs are comparable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rft.config.schema import RunConfig

NOTHING: Any = object()


def comparison_problems(runs: Sequence[RunConfig]) -> list[str]:
    """Return why held-out scores cannot be compared, with the keys to change; empty if they can.

    `evaluation.metric=reward` depends on every grader and its weight; the name of a grader depends on that grader only.

    Args:
        runs: Checked configurations.
    """
    metrics = list(dict.fromkeys(run.evaluation.metric for run in runs))
    if len(metrics) > 1:
        return [
            f"evaluation.metric: the trials use {', '.join(metrics)}, and scores of different metrics cannot be "
            "compared; set one value"
        ]
    (metric,) = metrics or ["reward"]
    if metric == "reward":
        keys = _different(run.graders for run in runs)
    else:
        keys = _different({metric: _without_weight(run.graders[metric])} for run in runs)
    if not keys:
        return []
    first = runs[0].graders
    shared = [
        name
        for name in first
        if not _different({name: _without_weight(run.graders[name])} if name in run.graders else {} for run in runs)
    ]
    remedy = (
        f"set evaluation.metric to a grader that all trials share: {', '.join(shared)}"
        if shared
        else "add one more grader to all trials for the comparison, such as graders.held_out.use=<grader> "
        "graders.held_out.weight=0 evaluation.metric=held_out"
    )
    return [
        f"{', '.join(keys)}: differs between trials, so evaluation.metric={metric} has a different meaning in each, "
        f"and their held-out scores cannot be compared; {remedy}"
    ]


def _different(graders_of_runs: Iterator[Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Return the keys, such as `graders.correct.use`, whose values differ between runs."""
    flat = [
        {f"graders.{name}.{key}": value for name, spec in graders.items() for key, value in _weighted(spec).items()}
        for graders in graders_of_runs
    ]
    keys = dict.fromkeys(key for values in flat for key in values)
    return [key for key in keys if any(values.get(key, NOTHING) != flat[0].get(key, NOTHING) for values in flat)]


def _weighted(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"weight": 1.0, **spec}


def _without_weight(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {**spec, "weight": None}
