"""The configurations of `rft train` and `rft evaluate`, from the words of the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rft.config.compose import check, conf_dir, load, register, usable_overrides
from rft.config.problems import evaluate_problems, run_problems
from rft.config.schema import EvaluateConfig, RunConfig
from rft.errors import ConfigError, OutputError, UsageError

MAY_CHANGE_ON_RESUME = (
    "dry_run",
    "loop.steps",
    "loop.checkpoint_every_steps",
    "loop.keep_checkpoints",
    "evaluation.",
    "logging.",
    "cluster.",
)
"""Keys that may be given together with `resume`; the others would make it another run."""


def load_training(overrides: Sequence[str], output_dir: str | None = None) -> RunConfig:
    """The configuration of a training run; with `resume=<run folder>`, the one that run was started with.

    Args:
        overrides: As on the command line.
        output_dir: The run folder, where something else than the configuration decides it.

    Raises:
        ConfigError: With every problem found.
        OutputError: `resume` names no run.
    """
    resumed = [word.removeprefix("resume=") for word in overrides if word.startswith("resume=")]
    if resumed and resumed[-1] not in ("", "null"):
        others = [word for word in overrides if not word.startswith("resume=")]
        return _load_resumed(Path(resumed[-1]), others)
    words = [*overrides, *([f"output_dir={output_dir}"] if output_dir else [])]
    return load(RunConfig, "train", words, run_problems)


def load_evaluation(overrides: Sequence[str], output_dir: str | None = None) -> EvaluateConfig:
    """The configuration of a measurement.

    Raises:
        ConfigError: With every problem found.
    """
    words = [*overrides, *([f"output_dir={output_dir}"] if output_dir else [])]
    return load(EvaluateConfig, "evaluate", words, evaluate_problems)


def with_hydra(config_name: str, words: Sequence[str], job: Callable[[list[str], str | None], int]) -> int:
    """Let Hydra handle its own options: `--help`, `--cfg job`, `--multirun`, ...

    Args:
        config_name: The primary file in `conf/`, without `.yaml`.
        words: The command line.
        job: Runs one configuration, given as overrides, into the folder that Hydra chose for it in a multirun.

    Returns:
        The exit code; in a multirun the highest of all jobs.
    """
    options = [word for word in words if word.startswith("-")]
    usable, found = usable_overrides([word for word in words if not word.startswith("-")])
    if found:
        raise ConfigError("configuration", found)
    codes = [0]

    def task(_: DictConfig) -> None:
        in_multirun = HydraConfig.get().mode is RunMode.MULTIRUN
        folder = str(HydraConfig.get().runtime.output_dir) if in_multirun else None
        codes.append(job([_plain(word) for word in HydraConfig.get().overrides.task], folder))

    register()
    sys.argv = [f"rft {config_name}", *options, *usable]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(task)()
    return max(codes)


def _plain(override: str) -> str:
    return override.lstrip("+")


def _load_resumed(folder: Path, overrides: Sequence[str]) -> RunConfig:
    refused = [
        f"{word}: cannot be changed on resume; allowed are {', '.join(key.rstrip('.') for key in MAY_CHANGE_ON_RESUME)}"
        for word in overrides
        if not word.lstrip("+").startswith(MAY_CHANGE_ON_RESUME)
    ]
    file = folder / "config.yaml"
    if not file.is_file():
        raise OutputError("resume", [f"resume={folder}: there is no run in that folder (no config.yaml)"])
    try:
        values: Any = OmegaConf.create(yaml.safe_load(file.read_text(encoding="utf-8")))
        for word in overrides:
            key, _, value = word.lstrip("+").partition("=")
            OmegaConf.update(values, key, yaml.safe_load(value), force_add=True)
    except (yaml.YAMLError, OSError) as error:
        raise UsageError("resume", [f"{file} cannot be read: {error}"]) from error
    values["resume"], values["output_dir"] = str(folder), str(folder)
    return check(RunConfig, OmegaConf.to_container(values), run_problems, refused)
