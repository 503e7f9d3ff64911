"""Settings of a run that follow from its `start`: the base model, and rank and alpha of a continued adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rft.config.adapter_settings import base_model_of_run, settings_of_run
from rft.config.adapters import MAX_RANK, LoraAdapterConfig, LowRankConfig
from rft.config.compose import check
from rft.config.problems import run_problems, starts_from_whole_model
from rft.config.schema import RunConfig
from rft.errors import ModelError, UsageError
from rft.models.adapter_folder import base_model_of, load_adapter, max_rank
from rft.types import Adapter


def with_start(run: RunConfig) -> RunConfig:
    """Return a run with the settings of the policy that it starts from.

    The base model of the start is used if `model.path` is not given. The method, rank and alpha of a continued adapter
    replace the defaults.

    Raises:
        UsageError: The adapter cannot be read, and should name the base model; or the configuration of its run cannot
            be read.
    """
    return _started(run)[0]


def problems_with_start(run: RunConfig) -> list[str]:
    """Return all problems of a training run, with the settings of its start, one sentence each."""
    try:
        changed, problems = _started(run)
    except UsageError as error:
        return [*(f"start={run.start}: {problem}" for problem in error.problems), *run_problems(run)]
    return [*problems, *run_problems(changed)]


def _started(run: RunConfig) -> tuple[RunConfig, list[str]]:
    """Return a run with the settings of its start, and the settings that contradict the start."""
    if run.start is None:
        return run, []
    path, values = Path(run.start), run.model_dump()
    try:
        adapter = None if starts_from_whole_model(run) else load_adapter(path)
    except ModelError:
        if run.model.path is None:
            raise
        return (
            run,
            [],
        )  # `rft.run.inputs.prepare` reads it again, and reports it together with the problems of all inputs
    if run.model.path is None:
        named = base_model_of_run(path) if adapter is None else base_model_of(adapter, path)
        values["model"]["path"] = settings_of_run(path).get("model.path") or named
    if adapter is None or run.start_mode == "merge":
        return check(RunConfig, values, lambda _: []), []
    given = run.learner.adapter
    if run.start_mode == "continue" and isinstance(given, LowRankConfig):
        if (rank := max_rank(adapter)) > MAX_RANK:
            return run, [
                f"start={path}: the adapter has rank {rank}, and rft trains at most {MAX_RANK}; use start_mode=merge"
            ]
        values["learner"]["adapter"] |= {
            name: value for name, value in _settings(adapter).items() if _is_default(given, name)
        }
    changed = check(RunConfig, values, lambda _: [])
    return changed, _problems(changed, adapter)


def _settings(adapter: Adapter) -> dict[str, Any]:
    """Return the keys of `learner.adapter` that a trained adapter determines."""
    config = adapter.config
    method = "dora" if config.get("use_dora") else "rslora" if config.get("use_rslora") else "lora"
    return {"method": method, "rank": max_rank(adapter), "alpha": float(config["lora_alpha"])}


def _is_default(given: LowRankConfig, name: str) -> bool:
    return bool(getattr(given, name) == LoraAdapterConfig.model_fields[name].default)


def _problems(run: RunConfig, adapter: Adapter) -> list[str]:
    """Return the settings that contradict a continued or stacked adapter, one sentence each."""
    given = run.learner.adapter
    if not isinstance(given, LowRankConfig):
        does = "continues a LoRA adapter" if run.start_mode == "continue" else "adds a LoRA adapter to another"
        return [
            f"learner.adapter={given.method}: start={run.start} {does}; leave learner.adapter out, or train on the "
            "merged model with start_mode=merge"
        ]
    if run.start_mode == "stack":
        return _stack_problems(run, max_rank(adapter), given)
    problems = [
        f"learner.adapter.{name}={_text(getattr(given, name))}: the adapter of start={run.start} has {_text(value)}, "
        f"and the run continues it; leave learner.adapter.{name} out"
        for name, value in _settings(adapter).items()
        if getattr(given, name) != value
    ]
    return problems + [
        f"learner.adapter.{name}={getattr(given, name)}: the run continues the modules that the adapter of "
        f"start={run.start} has; leave learner.adapter.{name} out"
        for name in ("layers", "modules")
        if getattr(given, name) is not None
    ]


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _stack_problems(run: RunConfig, below: int, given: LowRankConfig) -> list[str]:
    """Refuse adapters without a sum, and a sum whose rank the engine cannot serve."""
    if given.needs_merge:
        return [
            f"learner.adapter={given.method}: start_mode=stack adds plain LoRA; use learner.adapter=lora, or "
            "start_mode=merge"
        ]
    limit, rank = run.sampler.max_served_rank, below + given.rank
    if limit is None or rank <= limit:
        return []
    return [
        f"start_mode=stack: the adapter of start={run.start} has rank {below} and the new one learner.adapter.rank="
        f"{given.rank}, so samplers serve rank {rank}, above the limit of {limit}; lower learner.adapter.rank, raise "
        "the limit (sampler.engine.max_lora_rank), or use sampler.serve=merged or start_mode=merge, which need none"
    ]
