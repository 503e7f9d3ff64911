"""`rft sweep`: searches settings with Optuna by held-out score, never by training reward."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from rft.api.pipeline import train_stage
from rft.config import RunConfig
from rft.config.command_line import quoted
from rft.config.commands import load_training
from rft.config.epochs import with_steps
from rft.config.grid import check_trials
from rft.config.mixture import sources
from rft.config.recorded_words import key_of, resumed_words
from rft.config.recorded_yaml import read_yaml
from rft.config.search import Search
from rft.config.staged_search import read_sweep
from rft.errors import ConfigError, OutputError, UsageError
from rft.pipeline.runner import Train
from rft.redaction import hide, hide_in_words, secrets_in
from rft.reliability.durable import replace_file
from rft.run.inputs.fitting import Reuse
from rft.run.inputs.prepare import prepare
from rft.run_folder.run_lock import RunLock
from rft.sweep.grid import prepare_all
from rft.sweep.host import Host
from rft.sweep.outcome import outcome_of, read_outcomes
from rft.sweep.report import SWEEP, finish_sweep
from rft.sweep.runner import Runner, Trial
from rft.sweep.stages import StagesBefore
from rft.sweep.study import STUDY, Asked, Study
from rft.wording import plural

SEARCH = "search.yaml"
MAY_CHANGE_ON_RESUME = ("sweep.trials", "sweep.parallel", "dry_run", "or_resume")
COUNTED = ("finished", "pruned", "failed")
"""Statuses that count towards `sweep.trials`; other trials are continued."""


def run_search(words: Sequence[str], *, console: Console, train: Train | None = None) -> int:
    """Run a search over runs, or over the last stage of a pipeline, after the stages before it.

    Args:
        words: The arguments of `rft sweep`.
        console: Output of progress and table.
        train: Trains a stage before the trials; by default on a Ray of its own, like `rft train`.

    Returns:
        The exit code: 0, 1 if no trial has a score, 130 or 143 after an interruption.

    Raises:
        UsageError: Contains all problems; nothing was started.
        RftError: A stage failed.
    """
    search = _resumed(words) or read_sweep(words)
    if search.config.or_resume and search.config.output_dir is None:
        problem = "or_resume=true: give output_dir=<folder>, too; the default folder is a new one at every start"
        raise ConfigError("configuration", [problem])
    folder = _folder(search)
    stages = StagesBefore(search, folder, console)
    if not stages.are_done():
        runs = stages.check()
        _check_held_out(runs)
        if search.config.dry_run:
            stages.print_plans()
            _print_plan(search, folder, console)
            return 0
        with _locked(search, folder):
            _begin_or_continue(search, folder, hide_in_words(words, runs[0].model_dump()))
            code = stages.run(train or partial(train_stage, console=console))
        if code or not stages.are_done():
            _print_how_to_continue(folder, console)
            return code
    return _run_trials(stages, words, folder, console)


def _run_trials(stages: StagesBefore, words: Sequence[str], folder: Path, console: Console) -> int:
    """Check and run the trials, after the stages before them; return the exit code."""
    search = stages.started()
    runs = check_trials(search.corners(), folder)
    _check_held_out(runs)
    reuse = Reuse()
    prepared = prepare_all(runs, reuse)
    if search.config.dry_run:
        _print_plan(search, folder, console)
        return 0
    host = Host(
        list(zip(runs, prepared, strict=True)),
        parallel=search.config.sweep.parallel,
        at_most=search.config.sweep.trials,
        are_all=False,
    )
    with _locked(search, folder):
        _begin_or_continue(search, folder, hide_in_words(words, runs[0].model_dump()))
        started = time.monotonic()
        searching = _Searching(search, folder, host, console, runs[0].model_dump(), reuse)
        try:
            code = asyncio.run(searching.run())
        finally:
            sweep = finish_sweep(
                folder,
                read_outcomes(folder),
                searched=list(search.space),
                wall_s=time.monotonic() - started,
                console=console,
                direction=search.config.sweep.direction,
                stages=stages.entries(),
            )
    if code:
        _print_how_to_continue(folder, console)
    return code or int(sweep["winner"] is None)


class _Searching:
    """A running search; `values` is the configuration of one trial, for its secrets."""

    def __init__(
        self, search: Search, folder: Path, host: Host, console: Console, values: dict[str, Any], reuse: Reuse
    ) -> None:
        self._search = search
        self._folder = folder
        self._console = console
        self._values = values
        self._reuse = reuse
        self._study = Study(folder, search.config.sweep, search.space)
        self._unfinished = self._catch_up()
        self._num_done = sum(outcome.status in COUNTED for outcome in read_outcomes(folder))
        self._to_begin = search.config.sweep.trials - self._num_done
        self._runner = Runner(host, list(search.space), self._tell)

    def _catch_up(self) -> list[Asked]:
        """Report outcomes to the study that were missing when the sweep was killed; return the trials to continue."""
        ended = {outcome.number: outcome for outcome in read_outcomes(self._folder) if outcome.status in COUNTED}
        unfinished = []
        for asked in self._study.running():
            if asked.number in ended:
                self._study.tell(ended[asked.number])
            else:
                unfinished.append(asked)
        return unfinished

    async def run(self) -> int:
        """Run trials up to their number; return the exit code."""

        async def work(parallel: int) -> None:
            self._tell(f"{_plan(self._search, self._folder)}, {parallel} at a time")
            if self._num_done:
                self._tell(f"{self._num_done} of them have ended before and are not run again")
            await asyncio.gather(*(self._one_after_another() for _ in range(parallel)))

        return (await self._runner.on_host(work) if self._to_begin > 0 else None) or 0

    async def _one_after_another(self) -> None:
        while self._to_begin > 0 and self._runner.stopped is None:
            self._to_begin -= 1
            if self._unfinished:
                await self._one(self._unfinished.pop(0), has_begun=True)
            else:
                await self._one(self._study.ask())

    async def _one(self, asked: Asked, *, has_begun: bool = False) -> None:
        """Run a trial; one that has begun before continues from its last checkpoint."""
        overrides = self._search.overrides(asked.settings)
        folder = self._folder / str(asked.number)
        try:
            run = load_training([*overrides, f"or_resume={str(has_begun).lower()}"], quoted(folder))
            prepared = prepare(run, needs_training_tasks=True, reuse=self._reuse)
            run = with_steps(run, len(prepared.tasks.train))
        except UsageError as error:  # settings that are valid individually, but not together
            hidden = hide_in_words(overrides, self._values)
            why = hide("; ".join(error.problems), secrets_in(self._values))
            outcome = outcome_of(folder, number=asked.number, overrides=hidden, wall_s=0.0, error=why)
            self._tell(f"trial {asked.number} cannot run: {why}")
        else:
            trial = Trial(number=asked.number, overrides=tuple(overrides), run=run, prepared=prepared)
            outcome = await self._runner.run(trial, asked.go_on)
        if outcome.status in COUNTED:  # an interrupted trial continues when the sweep does
            self._study.tell(outcome)

    def _tell(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def _folder(search: Search) -> Path:
    given = search.config.resume or search.config.output_dir
    if given is not None:
        return Path(given).absolute()
    name = load_training(search.corners()[0]).name
    return Path("runs", name, f"sweep_{datetime.now():%Y-%m-%d_%H-%M-%S}").absolute()


def _is_begun(folder: Path, words: Sequence[str]) -> bool:
    """Whether the folder contains the same sweep, which then continues; the number of trials may differ."""
    file = folder / SEARCH
    if not file.is_file():
        return False
    before = read_yaml(file, what="sweep")["words"]
    return _fixed(before) == _fixed(words)


def _fixed(words: Sequence[str]) -> list[str]:
    return sorted(word for word in words if key_of(word) not in MAY_CHANGE_ON_RESUME)


def _begin_or_continue(search: Search, folder: Path, words: Sequence[str]) -> None:
    """Store the command line without secrets for a resume, unless the folder has the same sweep.

    Raises:
        OutputError: The folder contains another sweep.
        WriteError: The folder cannot be written.
    """
    if search.config.resume is not None or _is_begun(folder, words):
        return
    if any((folder / name).exists() for name in (SEARCH, SWEEP, STUDY)):
        raise OutputError(
            "output folder",
            [f"{folder} holds another sweep; continue that sweep with resume={folder}, or use another output_dir"],
        )
    replace_file(folder / SEARCH, [yaml.safe_dump({"words": list(words)}).encode()])


def _locked(search: Search, folder: Path) -> RunLock:
    return RunLock(folder, key="resume" if search.config.resume else "output_dir")


def _print_plan(search: Search, folder: Path, console: Console) -> None:
    console.print(Text(f"no problems; the search would be: {_plan(search, folder)}"), soft_wrap=True)


def _print_how_to_continue(folder: Path, console: Console) -> None:
    console.print(Text(f"\nto continue: rft sweep resume={folder}"), soft_wrap=True)


def _resumed(words: Sequence[str]) -> Search | None:
    """Return the search to resume, with a new number of trials if given; None without `resume`.

    Raises:
        ConfigError: Another setting would change.
        OutputError: The folder contains no sweep.
    """
    given = {key_of(word): word.partition("=")[2].strip("'\"") for word in words}
    if (resume := given.get("resume", "null")) in ("", "null"):
        return None
    folder = Path(resume)
    if not (folder / SEARCH).is_file():
        raise OutputError("resume", [f"resume={folder}: the folder contains no sweep of rft sweep"])
    before = read_yaml(folder / SEARCH, what="sweep")["words"]
    return read_sweep(resumed_words(before, words, may_change=MAY_CHANGE_ON_RESUME, file=SEARCH))


def _check_held_out(runs: Sequence[RunConfig]) -> None:
    """Refuse a search without held-out tasks.

    Raises:
        ConfigError: A configuration has neither test nor validation tasks.
    """
    if all(sources(run.data, "test") or sources(run.data, "validation") or run.data.validation_share for run in runs):
        return
    raise ConfigError(
        "configuration",
        ["a search needs held-out tasks; set data.test, data.validation or both, or those of a family in data.mixture"],
    )


def _plan(search: Search, folder: Path) -> str:
    return f"{plural(search.config.sweep.trials, 'trial')} over {', '.join(search.space)}, in {folder}"
