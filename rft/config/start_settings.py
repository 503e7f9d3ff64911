"""Settings of a run that follow from its `start`: the base model, and rank and alpha of a continued adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rft.config.adapter_settings import base_model_of_run, settings_of_run
from rft.config.compose import check
from rft.config.learners.base import LoraConfig
from rft.config.problems import run_problems, starts_from_whole_model
from rft.config.schema import RunConfig
from rft.models.adapter_folder import base_model_of, load_adapter, max_rank
from rft.types import Adapter


def with_start(run: RunConfig) -> RunConfig:
    """Return a run with the settings of the policy that it starts from.

    The base model of the start is used if `model.path` is not given. The rank and alpha of a continued adapter replace
    the defaults.

    Raises:
        ConfigError: Settings contradict the adapter.
        UsageError: The adapter, or the configuration of its run, cannot be read.
    """
    if run.start is None:
        return run
    path, values = Path(run.start), run.model_dump()
    adapter = None if starts_from_whole_model(run) else load_adapter(path)
    if run.model.path is None:
        named = base_model_of_run(path) if adapter is None else base_model_of(adapter, path)
        values["model"]["path"] = settings_of_run(path).get("model.path") or named
    if adapter is None or run.start_mode == "merge":
        return check(RunConfig, values, run_problems)
    if run.start_mode == "continue" and run.learner.lora is not None:
        values["learner"]["lora"] |= {
            name: value for name, value in _sizes(adapter).items() if _is_default(run.learner.lora, name)
        }
    return check(RunConfig, values, lambda changed: [*_problems(changed, adapter), *run_problems(changed)])


def _sizes(adapter: Adapter) -> dict[str, Any]:
    return {"rank": max_rank(adapter), "alpha": float(adapter.config["lora_alpha"])}


def _is_default(lora: LoraConfig, name: str) -> bool:
    return bool(getattr(lora, name) == LoraConfig.model_fields[name].default)


def _problems(run: RunConfig, adapter: Adapter) -> list[str]:
    """Return the settings that contradict a continued or stacked adapter, one sentence each."""
    lora = run.learner.lora
    if lora is None:
        does = "continues an adapter" if run.start_mode == "continue" else "trains an adapter on top of another"
        return [
            f"learner.lora=null: start={run.start} {does}, and this learner trains all weights; leave learner.lora "
            "out, or train the merged model with start_mode=merge"
        ]
    if run.start_mode == "stack":
        return _rank_problems(run, max_rank(adapter), lora.rank)
    return [
        f"learner.lora.{name}={getattr(lora, name):g}: the adapter of start={run.start} has {value:g}, and the run "
        f"continues it; leave learner.lora.{name} out"
        for name, value in _sizes(adapter).items()
        if getattr(lora, name) != value
    ]


def _rank_problems(run: RunConfig, below: int, own: int) -> list[str]:
    """Refuse a sum of two adapters whose rank the engine cannot serve."""
    limit, rank = run.sampler.max_served_rank, below + own
    if limit is None or rank <= limit:
        return []
    return [
        f"start_mode=stack: the adapter of start={run.start} has rank {below} and the new one learner.lora.rank={own}, "
        f"so samplers serve rank {rank}, above the limit of {limit}; lower learner.lora.rank, raise the limit "
        "(sampler.engine.max_lora_rank), or use sampler.serve=merged or start_mode=merge, which need none"
    ]
