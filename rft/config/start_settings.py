"""Settings of a run that follow from the adapter of `start`: the base model, and rank and alpha of the adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rft.config.adapter_settings import settings_of_run
from rft.config.compose import check
from rft.config.learners.base import LoraConfig
from rft.config.problems import run_problems
from rft.config.schema import RunConfig
from rft.models.adapter_folder import base_model_of, load_adapter, max_rank
from rft.types import Adapter


def with_start(run: RunConfig) -> RunConfig:
    """Return a run with the settings of the adapter that it starts from.

    The adapter's rank and alpha replace the defaults. Its base model is used if `model.path` is not given.

    Raises:
        ConfigError: Settings contradict the adapter.
        UsageError: The adapter, or the configuration of its run, cannot be read.
    """
    if run.start is None:
        return run
    path = Path(run.start)
    adapter = load_adapter(path)
    values = run.model_dump()
    if run.model.path is None:
        values["model"]["path"] = settings_of_run(path).get("model.path") or base_model_of(adapter, path)
    if run.learner.lora is not None:
        values["learner"]["lora"] |= {
            name: value for name, value in _sizes(adapter).items() if _is_default(run.learner.lora, name)
        }
    return check(RunConfig, values, lambda changed: [*_problems(changed, adapter), *run_problems(changed)])


def _sizes(adapter: Adapter) -> dict[str, Any]:
    return {"rank": max_rank(adapter), "alpha": float(adapter.config["lora_alpha"])}


def _is_default(lora: LoraConfig, name: str) -> bool:
    return bool(getattr(lora, name) == LoraConfig.model_fields[name].default)


def _problems(run: RunConfig, adapter: Adapter) -> list[str]:
    """Return the settings that contradict the adapter, one sentence each."""
    lora = run.learner.lora
    if lora is None:
        return [
            f"learner.lora=null: start={run.start} continues an adapter, and this learner trains all weights; leave "
            f"learner.lora out, or train the merged model: rft merge adapter={run.start} output_dir=merged, then "
            "model.path=merged without start"
        ]
    return [
        f"learner.lora.{name}={getattr(lora, name):g}: the adapter of start={run.start} has {value:g}, and the run "
        f"continues it; leave learner.lora.{name} out"
        for name, value in _sizes(adapter).items()
        if getattr(lora, name) != value
    ]
