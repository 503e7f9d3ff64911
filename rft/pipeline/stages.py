"""The stages of a pipeline in their run folders: which of them are done, and how each one starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft.config import RunConfig
from rft.config.adapter_settings import START_MODEL
from rft.config.adapters import LoraAdapterConfig, LowRankConfig
from rft.config.command_line import quoted
from rft.config.commands import load_training
from rft.config.explain import shown
from rft.config.pipeline_arguments import Stage
from rft.config.recorded_words import key_of
from rft.errors import ConfigError, UsageError
from rft.models.adapter_folder import whole_model
from rft.run_folder.recorder import SUMMARY
from rft.run_folder.results import RESULTS

MODE = "start_mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedStage:
    """A stage and its run folder.

    Example:
        PlacedStage(stage=Stage(...), folder=Path("/runs/pipeline_1/02-grpo"), parent=Path("/runs/pipeline_1/01-sft"))
    """

    stage: Stage
    """The stage."""
    folder: Path
    """Its run folder, absolute."""
    parent: Path | None
    """Run folder of the stage before; None for the first stage."""

    @property
    def summary(self) -> dict[str, Any]:
        """The run's summary.json; empty before its first end."""
        file = self.folder / SUMMARY
        summary: dict[str, Any] = json.loads(file.read_text(encoding="ascii")) if file.is_file() else {}
        return summary

    def is_done(self) -> bool:
        """Whether the run has finished and written its result."""
        return self.summary.get("status") == "finished" and any((self.folder / name).is_dir() for name in RESULTS)

    @property
    def command(self) -> list[str]:
        """The arguments of `rft train` for the stage, once the stage before is done."""
        if self.parent is None:
            return [*self.stage.words]
        words = [*self.stage.words, f"start={quoted(self.parent)}"]
        # A stage that trained all weights leaves no adapter to continue.
        words += ["start_mode=merge"] if whole_model(self.parent) is not None else []
        # A stage that merged its start trained on the merged model.
        words += ["model.path=null"] if (self.parent / START_MODEL).is_dir() else []
        return words

    @property
    def mode(self) -> str:
        """`start_mode` of the stage."""
        return next((word.partition("=")[2] for word in reversed(self.stage.words) if key_of(word) == MODE), "continue")

    def configuration(self) -> RunConfig:
        """Return the configuration of the run, which continues if it has begun.

        Raises:
            UsageError: Contains all problems.
        """
        return load_training([*self.command, "or_resume=true"], quoted(self.folder))

    def expected_configuration(self) -> RunConfig:
        """Return the configuration as far as it is known before the stage before is done.

        Raises:
            UsageError: Contains all problems.
        """
        return load_training([word for word in self.stage.words if key_of(word) != MODE], quoted(self.folder))


def placed(stages: Sequence[Stage], folder: Path) -> list[PlacedStage]:
    """Return the stages with their run folders in the pipeline's folder."""
    folders = [folder / stage.folder_name for stage in stages]
    parents = [None, *folders]
    return [
        PlacedStage(stage=stage, folder=own, parent=parent)
        for stage, own, parent in zip(stages, folders, parents, strict=False)
    ]


def check_stages(stages: Sequence[PlacedStage], check: Callable[[RunConfig], object]) -> None:
    """Check every stage that is not done, as far as that is possible before the first one starts.

    Args:
        stages: All stages, in order; several with one number are alternatives.
        check: Checks a configuration; raises `UsageError`.

    Raises:
        ConfigError: Contains the problems of all stages.
    """
    problems: list[str] = []
    done = {stage.stage.number for stage in stages if stage.is_done()}
    expected: dict[int, RunConfig] = {}
    """The configuration of each stage that is not done, by number."""
    for stage in stages:
        number = stage.stage.number
        if number in done:
            continue
        is_ready = stage.parent is None or number - 1 in done
        before = expected.get(number - 1)
        of_stage: list[str] = []
        try:
            run = stage.configuration() if is_ready else stage.expected_configuration()
            if not is_ready and before is not None:
                of_stage += _continuation_problems(before, run, stage.mode)
                run = run if stage.mode != "continue" else _continued(before, run)
            expected[number] = run
            check(run)
        except UsageError as error:
            of_stage += error.problems
        problems += [f"stage {stage.stage.name}: {problem}" for problem in of_stage]
    if problems:
        raise ConfigError("pipeline not started", list(dict.fromkeys(problems)))


def _continuation_problems(before: RunConfig, run: RunConfig, mode: str) -> list[str]:
    """Return the reasons why a run could not start from the result of another one, one sentence each."""
    problems = []
    if before.model.path != run.model.path:
        problems.append(
            f"model.path={run.model.path}: the stage before trains on {before.model.path}; use the same base model"
        )
    earlier, given = before.learner.adapter, run.learner.adapter
    if mode == "merge" or earlier.publishes == "model":
        return problems
    if mode == "stack" and earlier.needs_merge:
        problems.append(
            f"start_mode=stack: the stage before trains {earlier.label}, and only plain LoRA can be added to; use "
            "start_mode=merge"
        )
    if not isinstance(given, LowRankConfig):
        problems.append(
            f"learner.adapter={given.method}: the stage before trains a LoRA adapter; train one, too, or set "
            "start_mode=merge"
        )
    elif mode == "continue":
        problems += [
            f"learner.adapter.{name}={shown(value)}: the stage before trains an adapter with "
            f"{shown(getattr(earlier, name))}; leave it out"
            for name in ("method", "rank", "alpha")
            if (value := getattr(given, name))
            not in (LoraAdapterConfig.model_fields[name].default, getattr(earlier, name))
        ]
    return problems


def _continued(before: RunConfig, run: RunConfig) -> RunConfig:
    """Return the run with the adapter's method, rank and alpha, which come from the stage before."""
    adapters = (before.learner.adapter, run.learner.adapter)
    if not all(isinstance(adapter, LowRankConfig) for adapter in adapters):
        return run
    learner = run.learner.model_copy(update={"adapter": before.learner.adapter})
    return run.model_copy(update={"learner": learner})
