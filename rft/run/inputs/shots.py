"""The worked examples of a configuration: those of an adapter's run, or drawn from the training tasks."""

from __future__ import annotations

from pathlib import Path

from rft.config import EvaluateConfig, RunConfig
from rft.config.adapter_settings import run_folder_of
from rft.config.mixture import sources
from rft.data.shots import Shots, draw_shots, read_shots
from rft.data.splits import TaskSets
from rft.errors import UsageError


def recorded_shots(config: RunConfig | EvaluateConfig) -> Shots | None:
    """Return the worked examples that a measured adapter was trained with; None if it had another number of them.

    Raises:
        UsageError: The run's record of them is damaged.
    """
    if not config.data.shots or not isinstance(config, EvaluateConfig) or config.adapter is None:
        return None
    folder = run_folder_of(Path(config.adapter))
    shots = read_shots(folder) if folder is not None else None
    return shots if shots is not None and shots.num == config.data.shots else None


def drawn_shots(config: RunConfig | EvaluateConfig, tasks: TaskSets) -> Shots | None:
    """Draw the worked examples from the training tasks; None without `data.shots`.

    Args:
        config: The configuration.
        tasks: All tasks, also those of an evaluation's `data.train`.

    Raises:
        UsageError: There are no training tasks, or too few with an answer.
    """
    data = config.data
    if not data.shots:
        return None
    if not (named := sources(data, "train")):
        problem = (
            f"data.shots={data.shots}: the run of this adapter has no record of {data.shots} worked examples; give the "
            "training tasks to draw them from in data.train"
        )
        raise UsageError("worked examples", [problem])
    return draw_shots(
        tasks.train,
        num=data.shots,
        seed=config.seed,
        source=", ".join(named.values()),
        column=data.shot_answer,
        held_out=[*tasks.validation, *tasks.test],
        needs_spare=isinstance(config, RunConfig),
        is_raw=data.format == "raw",
    )
