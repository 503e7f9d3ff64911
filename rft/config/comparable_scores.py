"""Checks whether the held-out scores of several runs are comparable: the same score, of the same tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rft.config.mixture import sources
from rft.config.schema import RunConfig

NOTHING: Any = object()


def comparison_problems(runs: Sequence[RunConfig]) -> list[str]:
    """Return why held-out scores cannot be compared, with the keys to change; empty if they can.

    Args:
        runs: Checked configurations.
    """
    return [*_different_tasks(runs), *_different_environments(runs), *_different_scores(runs)]


def _different_tasks(runs: Sequence[RunConfig]) -> list[str]:
    """Return the problem of trials that measure the tasks of different files."""
    measured = {tuple(sorted(files.values())): list(files) for files in map(_held_out_files, runs)}
    if len(measured) < 2:
        return []
    keys = dict.fromkeys(key for of_trial in measured.values() for key in of_trial)
    different = "; ".join(", ".join(files) or "none" for files in measured)
    return [
        f"{', '.join(keys)}: the trials measure different held-out tasks ({different}), so their scores cannot be "
        "compared; give all trials the same data.test"
    ]


def _held_out_files(run: RunConfig) -> Mapping[str, str]:
    """Return the sources of the tasks that are measured before and after a run, by key."""
    for split in ("test", "validation"):
        if files := sources(run.data, split):
            return files
    return sources(run.data, "train") if run.data.validation_share else {}


def _different_environments(runs: Sequence[RunConfig]) -> list[str]:
    """Return the problem of trials whose episodes are not the same game, with the same tools."""
    games = [_game(run) for run in runs]
    keys = [key for key in _keys(games) if any(game.get(key, NOTHING) != games[0].get(key, NOTHING) for game in games)]
    if not keys:
        return []
    return [
        f"{', '.join(keys)}: differs between trials, so each measures other episodes, and their held-out scores cannot "
        "be compared; set one value"
    ]


def _game(run: RunConfig) -> dict[str, Any]:
    """Return what the episodes of a run depend on besides the policy and its tasks, by key."""
    shared = {"use", "command", "style", "options", "max_turns", "max_invalid_calls"}
    game = {f"environment.{key}": value for key, value in run.environment.model_dump(include=shared).items()}
    tools = {name: tool.model_dump(exclude={"timeout_s"}) for name, tool in run.tools.items()}
    return game | {f"tools.{name}.{key}": value for name, tool in tools.items() for key, value in tool.items()}


def _keys(games: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for game in games for key in game))


def _different_scores(runs: Sequence[RunConfig]) -> list[str]:
    """Return the problem of scores with different meanings.

    `evaluation.metric=reward` depends on every grader and its weight; the name of a grader depends on that grader only.
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
