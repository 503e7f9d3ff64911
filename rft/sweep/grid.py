"""`rft train -m`: checks every trial of a grid, runs them with Hydra's launcher, and compares them."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from rich.console import Console
from rich.text import Text

from rft.api.train import train_run
from rft.config import RunConfig
from rft.config.commands import Job, with_hydra
from rft.config.epochs import with_steps
from rft.config.grid import Grid, check_trials, for_each_trial, read_grid
from rft.errors import ConfigError, OutputError, RftError, UsageError
from rft.models.adapter_folder import whole_model
from rft.models.quantized_folder import QUANTIZED_BASE
from rft.redaction import hide, hide_in_words, secrets_in
from rft.run.forecast.memory import forecast_here, planned_micro_batch
from rft.run.forecast.plan import as_table, run_rows
from rft.run.inputs.fitting import Reuse
from rft.run.inputs.prepare import Prepared, prepare
from rft.run_folder.run_lock import RunLock
from rft.sweep.host import Host
from rft.sweep.outcome import Outcome, distinct_overrides, outcome_of, read_outcomes
from rft.sweep.report import finish_sweep
from rft.sweep.runner import Runner, Trial
from rft.terminal.interrupt import EXIT_CODES
from rft.wording import plural


def run_grid(words: Sequence[str], *, console: Console) -> int:
    """Run a grid.

    Args:
        words: The arguments of `rft train`.
        console: Output of progress and table.

    Returns:
        The exit code: the highest of all trials; 130 or 143 after an interruption.

    Raises:
        UsageError: Contains all problems of all trials; no trial was started.
    """
    grid = read_grid(words)
    runs = check_trials(grid.trials, grid.folder)
    if runs[0].or_resume and not any(word.lstrip("+").startswith("hydra.sweep.dir=") for word in words):
        problem = "or_resume=true: give hydra.sweep.dir=<folder>, too; the default folder is a new one at every start"
        raise ConfigError("configuration", [problem])
    if all(run.dry_run for run in runs):
        prepared = prepare_all(runs)[0]
        first = with_steps(runs[0], len(prepared.tasks.train))
        forecast = forecast_here(first, prepared)
        _tell(console, f"{plural(len(runs), 'trial')} can start; the first would be:")
        rows = run_rows(first, micro_batch=planned_micro_batch(first, forecast))
        console.print(Text("\n".join(as_table(rows))), soft_wrap=True)
        return 0
    if read_outcomes(grid.folder) and not runs[0].or_resume:
        raise OutputError("sweep folder", [f"{grid.folder} already holds a sweep; set another hydra.sweep.dir"])
    sweep = _Sweep(grid, runs, console)
    started = time.monotonic()
    # The folder's name contains the time, so Hydra would compute another one.
    fixed = [word for word in words if not word.lstrip("+").startswith("hydra.sweep.dir=")]
    with RunLock(grid.folder, key="hydra.sweep.dir"):
        try:
            return with_hydra("train", [*fixed, f"hydra.sweep.dir='{grid.folder}'"], sweep.one, sweep.many)
        except KeyboardInterrupt:  # between two trials of hydra/launcher=basic
            return EXIT_CODES[signal.SIGINT]
        finally:
            if sweep.has_begun:
                sweep.finish(wall_s=time.monotonic() - started)


def prepare_all(runs: Sequence[RunConfig], reuse: Reuse | None = None) -> list[Prepared]:
    """Find, read and check the inputs of each run; inputs that several runs share are read once.

    Args:
        runs: The configurations.
        reuse: Inputs of earlier calls, which are not read twice.

    Raises:
        UsageError: Contains all problems of all runs, each once, with the numbers of its trials.
    """
    if merging := next((run for run in runs if run.start_mode == "merge"), None):
        raise UsageError("the sweep cannot start", [_merge_problem(Path(merging.start or ""))])
    shared = reuse or Reuse()
    prepared = for_each_trial(
        runs, lambda number: prepare(runs[number], needs_training_tasks=True, reuse=shared), UsageError
    )
    for run, inputs in zip(runs, prepared, strict=True):
        if run.learner.base is not None and inputs.quantization is None:
            base = f"learner.base={run.learner.base}"
            problem = (
                f"{base}: each trial of a sweep would quantize the same model; quantize it once with rft train ... "
                f"{base} loop.steps=1 output_dir=first, then sweep with model.path=first/{QUANTIZED_BASE} {base}"
            )
            raise UsageError("the sweep cannot start", [problem])
    return prepared


def _merge_problem(start: Path) -> str:
    if (model := whole_model(start)) is not None:
        return (
            f"start_mode=merge: start={start} trained all weights, so there is nothing to merge; set "
            f"model.path={model}, without start"
        )
    return (
        f"start_mode=merge: each trial of a sweep would merge the same model; merge it once: rft merge adapter={start} "
        "output_dir=merged, then model.path=merged without start"
    )


def _in_folder(run: RunConfig, folder: str) -> RunConfig:
    """Return the run in the folder that Hydra chose, which it also continues from if it has begun there."""
    resume = folder if run.resume == run.output_dir else run.resume
    return run.model_copy(update={"output_dir": folder, "resume": resume})


class _Sweep:
    """The trials of a grid, as Hydra's launchers run them."""

    def __init__(self, grid: Grid, runs: Sequence[RunConfig], console: Console) -> None:
        self._grid = grid
        self._prepared = prepare_all(runs)
        self._runs = [
            with_steps(run, len(prepared.tasks.train)) for run, prepared in zip(runs, self._prepared, strict=True)
        ]
        self._console = console
        self._stopped: int | None = None
        self._finished = {outcome.number for outcome in read_outcomes(grid.folder) if outcome.status == "finished"}
        self.has_begun = False
        """Whether there is a trial to report."""

    def one(self, _: list[str], folder: str | None) -> int:
        """Run a single trial for `hydra/launcher=basic`; record a failure and let the next trial continue."""
        self.has_begun = True
        number = int(HydraConfig.get().job.num)
        overrides = self._grid.trials[number]
        if number in self._finished:
            return 0
        if self._stopped is not None:
            return self._stopped
        run = _in_folder(self._runs[number], str(folder))
        hidden = hide_in_words(overrides, run.model_dump())
        _tell(self._console, f"trial {number} of {len(self._runs)}: {distinct_overrides(hidden, self._grid.searched)}")
        started, error, code = time.monotonic(), None, 1
        try:
            code = train_run(run, command=["rft", "train", *overrides], console=self._console)[1]
            self._stopped = code or None
        except RftError as failure:
            error, code = str(failure), failure.exit_code
            print(f"rft: {error}", file=sys.stderr)
        except Exception as failure:  # no failure stops the next trial
            error = f"{type(failure).__name__}: {failure}\n{''.join(traceback.format_exception(failure))}"
            print(f"rft: {error}", file=sys.stderr)
        if error is not None:
            error = hide(error, secrets_in(run.model_dump()))
        outcome_of(
            Path(run.output_dir), number=number, overrides=hidden, wall_s=time.monotonic() - started, error=error
        )
        return code

    def many(self, jobs: Sequence[Job], options: Mapping[str, Any]) -> list[int]:
        """Run trials side by side for `hydra/launcher=shared`."""
        parallel = options["max_parallel_trials"]
        if parallel is not None and (isinstance(parallel, bool) or not isinstance(parallel, int) or parallel < 1):
            raise ConfigError(
                "configuration",
                [f"hydra.launcher.max_parallel_trials={parallel}: must be an integer from 1, or null"],
            )
        self.has_begun = True
        trials = [
            Trial(
                number=job.number,
                overrides=tuple(self._grid.trials[job.number]),
                run=_in_folder(self._runs[job.number], job.folder),
                prepared=self._prepared[job.number],
            )
            for job in jobs
            if job.number not in self._finished
        ]
        if not trials:
            return [0 for _ in jobs]
        host = Host(
            [(trial.run, trial.prepared) for trial in trials],
            parallel=parallel,
            at_most=len(trials),
        )
        stopped, failed = asyncio.run(self._run(host, trials))
        return [stopped or int(job.number in failed) for job in jobs]

    async def _run(self, host: Host, trials: Sequence[Trial]) -> tuple[int | None, set[int]]:
        """Run the trials; return the exit code of a requested stop, and the numbers of failed trials."""
        runner = Runner(host, self._grid.searched, lambda text: _tell(self._console, text))

        async def work(parallel: int) -> None:
            _tell(self._console, f"{plural(len(trials), 'trial')}, {parallel} at a time, in {self._grid.folder}")
            for line in host.explain():
                _tell(self._console, line)
            await runner.run_all(trials, parallel=parallel)

        stopped = await runner.on_host(work)
        failed = {outcome.number for outcome in read_outcomes(self._grid.folder) if outcome.status == "failed"}
        return stopped, failed

    def finish(self, *, wall_s: float) -> None:
        """Compare the trials in files, plots and a table."""
        outcomes = read_outcomes(self._grid.folder)
        known = {outcome.number for outcome in outcomes}
        outcomes += [self._not_started(number) for number in range(len(self._runs)) if number not in known]
        finish_sweep(self._grid.folder, outcomes, searched=self._grid.searched, wall_s=wall_s, console=self._console)

    def _not_started(self, number: int) -> Outcome:
        return Outcome(
            number=number,
            overrides=tuple(hide_in_words(self._grid.trials[number], self._runs[number].model_dump())),
            folder=self._grid.folder / str(number),
            status="not started",
        )


def _tell(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)
