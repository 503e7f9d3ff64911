"""Whether the held-out scores of several runs mean the same, so that the runs can be compared by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rft.config.schema import RunConfig

NOTHING: Any = object()


def comparison_problems(runs: Sequence[RunConfig]) -> list[str]:
    """Why the held-out scores of these runs cannot be compared, and which keys to change; empty where they can.

    `evaluation.metric=reward` depends on every grader and its weight, the name of a grader on that grader alone.

    Args:
        runs: Checked configurations.
    """
    metrics = list(dict.fromkeys(run.evaluation.metric for run in runs))
    if len(metrics) > 1:
        return [
            f"evaluation.metric: the trials have {', '.join(metrics)}, and scores of different metrics cannot be "
            "compared; give it one value"
        ]
    (metric,) = metrics or ["reward"]
    if metric == "reward":
        keys = _different(run.graders for run in runs)
    else:
        keys = _different({metric: _without_weight(run.graders[metric])} for run in runs)
    if not keys:
        return []
    first = runs[0].graders
    alike = [
        name
        for name in first
        if not _different({name: _without_weight(run.graders[name])} if name in run.graders else {} for run in runs)
    ]
    remedy = (
        f"set evaluation.metric to a grader that all trials have alike: {', '.join(alike)}"
        if alike
        else "give all trials one grader more to be compared by, as graders.held_out.use=<grader> "
        "graders.held_out.weight=0 evaluation.metric=held_out"
    )
    return [
        f"{', '.join(keys)}: not the same in all trials, so evaluation.metric={metric} means something else in each, "
        f"and their held-out scores cannot be compared; {remedy}"
    ]


def _different(graders_of_runs: Iterator[Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The keys, as `graders.correct.use`, that do not have the same value in all runs."""
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
