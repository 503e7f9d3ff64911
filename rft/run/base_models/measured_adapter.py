"""The adapter that an evaluation measures: its base model, and whether the two fit."""

from __future__ import annotations

from pathlib import Path

from rft.config import EvaluateConfig
from rft.config.adapter_settings import run_folder_of
from rft.models.adapter_folder import base_model_of, load_adapter
from rft.models.adapter_tensors import base_problem
from rft.models.weight_files import read_weights
from rft.run_folder.lineage import base_fingerprint
from rft.types import Adapter


def with_base_model(config: EvaluateConfig) -> tuple[EvaluateConfig, Adapter | None]:
    """Return the adapter, and the configuration with the adapter's base model if it names none.

    Samplers merge an adapter that they could not serve otherwise.

    Raises:
        ModelError: The adapter cannot be read.
    """
    adapter = load_adapter(Path(config.adapter)) if config.adapter else None
    if adapter is None:
        return config, None
    if config.model.path is None:
        model = config.model.model_copy(update={"path": base_model_of(adapter, Path(config.adapter or ""))})
        config = config.model_copy(update={"model": model})
    return config.model_copy(update={"sampler": config.sampler.suited_to(adapter.config)}), adapter


def measured_adapter_problems(config: EvaluateConfig, adapter: Adapter | None, model: Path) -> list[str]:
    """Return the reasons why an evaluation cannot measure its adapter, one sentence each.

    Args:
        config: The configuration.
        adapter: From `with_base_model`.
        model: Folder of the base model.
    """
    if adapter is None or not config.sampler.has_model:
        return []
    problems = config.sampler.adapter_problems(adapter.config)
    if problem := base_problem(adapter.tensors, read_weights(model).tensors):
        problems.append(f"{problem}; give the adapter's base model in model.path")
    return [f"adapter={config.adapter}: {problem}" for problem in problems]


def measured_adapter_warning(config: EvaluateConfig, fingerprint: str) -> str:
    """Return a warning if an adapter is measured on another base model than that of its run; else an empty text.

    Args:
        config: The configuration.
        fingerprint: Fingerprint of the base model.
    """
    folder = run_folder_of(Path(config.adapter)) if config.adapter is not None else None
    trained_on = base_fingerprint(folder) if folder is not None else None
    if trained_on in (None, fingerprint):
        return ""
    return (
        f"adapter={config.adapter}: it was trained on a base model with the fingerprint {trained_on}, and model.path="
        f"{config.model.path} has {fingerprint}"
    )
