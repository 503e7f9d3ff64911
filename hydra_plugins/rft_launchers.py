"""Hydra's way to rft's launcher, `hydra/launcher=shared`: the trials of a grid side by side.

Hydra looks for plugins in packages of this name. The work of the launcher is in `rft/sweep`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from rft.config.commands import Jobs


class SideBySideLauncher(Launcher):  # type: ignore[misc]
    """Hands all jobs of a multirun to rft at once.

    Args:
        max_parallel_trials: How many run at the same time; None lets rft decide.
    """

    def __init__(self, max_parallel_trials: int | None) -> None:
        self._options = {"max_parallel_trials": max_parallel_trials}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra gives."""
        self._context = hydra_context
        self._task = task_function
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        """Run the jobs, and wait for all of them."""
        if not isinstance(self._task, Jobs):
            raise HydraException("hydra/launcher=shared is for rft train; use hydra/launcher=basic")
        configs = [
            self._job_config(overrides, number) for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        jobs = [
            (number, list(config.hydra.overrides.task), self._folder(config))
            for number, config in enumerate(configs, initial_job_idx)
        ]
        codes = self._task.launch(jobs, self._config, self._options)
        # A failed trial is no failure of the sweep: it is in the sweep's own table.
        return [
            JobReturn(
                overrides=list(config.hydra.overrides.task),
                hydra_cfg=config,
                status=JobStatus.COMPLETED,
                _return_value=code,
            )
            for config, code in zip(configs, codes, strict=True)
        ]

    def _job_config(self, overrides: Sequence[str], number: int) -> DictConfig:
        config: DictConfig = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config

    def _folder(self, config: DictConfig) -> str:
        HydraConfig.instance().set_config(config)  # `${hydra:...}` in the folder's name looks there
        sweep = OmegaConf.select(config, "hydra.sweep")
        return os.path.abspath(Path(str(sweep.dir)) / str(sweep.subdir))


ConfigStore.instance().store(
    group="hydra/launcher",
    name="shared",
    node={"_target_": "hydra_plugins.rft_launchers.SideBySideLauncher", "max_parallel_trials": None},
    provider="rft",
)
