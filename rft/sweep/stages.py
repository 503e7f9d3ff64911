"""The stages of a pipeline before the one that a search varies. They run once; every trial starts from their result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from rft.cluster.versions import require_packages_here
from rft.config import RunConfig
from rft.config.command_line import quoted
from rft.config.comparable_scores import comparison_problems
from rft.config.search import Search
from rft.errors import ConfigError, RftError
from rft.models.adapter_folder import whole_model
from rft.pipeline.record import entry_of, print_stages
from rft.pipeline.runner import Train, run_stages
from rft.pipeline.stages import PlacedStage, check_stages, placed
from rft.run.check import plan_training
from rft.run.forecast.plan import Plan
from rft.run.inputs.fitting import Reuse
from rft.run.inputs.prepare import prepare


class StagesBefore:
    """The stages that run before the trials of a search; none for a search over runs.

    Args:
        search: The search.
        folder: The sweep folder, which has the run folders of the stages.
        console: Output of progress and results.
    """

    def __init__(self, search: Search, folder: Path, console: Console) -> None:
        self._search = search
        self._folder = folder
        self._console = console
        self._stages = placed(search.before, folder)
        self._plans: list[Plan] = []

    def are_done(self) -> bool:
        """Whether all stages have finished."""
        return all(stage.is_done() for stage in self._stages)

    def check(self) -> list[RunConfig]:
        """Check the stages and examples of the trials, as far as that is possible before the first stage.

        Returns:
            The configurations of the examples, without their start.

        Raises:
            ConfigError: Contains the problems of all stages and trials.
        """
        examples, reuse = self._examples(), Reuse()

        def check(run: RunConfig) -> None:
            if not self._search.config.dry_run:
                require_packages_here(run)
            if Path(run.output_dir) == examples[0].folder:
                prepare(run, needs_training_tasks=True, reuse=reuse)
            else:
                self._plans.append(plan_training(run, self._console))

        try:
            check_stages([*self._stages, *examples], check)
        except ConfigError as error:
            raise ConfigError("sweep not started", error.problems) from error
        runs = [example.expected_configuration() for example in examples]
        if incomparable := comparison_problems(runs):
            raise ConfigError("sweep not started", incomparable)
        return runs

    def print_plans(self) -> None:
        """Print the plan of each stage that is not done. They must be checked."""
        waiting = [stage for stage in self._stages if not stage.is_done()]
        for stage, plan in zip(waiting, self._plans, strict=True):
            self._console.print(Text(f"stage {stage.stage.number}, {stage.stage.name}:\n{plan}\n"), soft_wrap=True)

    def run(self, train: Train) -> int:
        """Run the stages that are not done, and print their results; return the exit code.

        Raises:
            RftError: A stage failed. The notes of the error say how to continue.
        """
        try:
            code = run_stages(self._stages, num_stages=len(self._stages) + 1, console=self._console, train=train)
        except RftError as error:
            error.add_note(f"to continue the sweep: rft sweep resume={self._folder}")
            raise
        print_stages(self._console, self.entries())
        return code

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries of the stages for sweep.json."""
        return [entry_of(stage) for stage in self._stages]

    def started(self) -> Search:
        """Return the search over runs that start from the result of the last of these stages, which is done."""
        if not self._stages:
            return self._search
        parent = self._stages[-1].folder
        if (model := whole_model(parent)) is not None:  # the base model of every trial, which needs no merge
            words = [*self._search.words, f"model.path={quoted(model)}"]
        else:
            words = self._last(self._search.words).command
        return replace(self._search, words=tuple(words), before=())

    def _examples(self) -> list[PlacedStage]:
        """Return the last stage with each combination of settings to check."""
        return [self._last(words) for words in self._search.corners()]

    def _last(self, words: Sequence[str]) -> PlacedStage:
        """Return the last stage with these arguments, in a folder that no trial uses."""
        assert self._search.stage is not None  # a search with stages before has it
        stage = replace(self._search.stage, words=tuple(words))
        return PlacedStage(stage=stage, folder=self._folder / stage.folder_name, parent=self._stages[-1].folder)
