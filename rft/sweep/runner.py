"""Runs trials in this process, several at a time. Each trial is a whole run, and its failure affects no other trial."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from rft.config import RunConfig
from rft.errors import RftError
from rft.events import Event, Measured
from rft.metrics.intervals import Estimate
from rft.redaction import hide, hide_in_words, secrets_in
from rft.reliability.durable import writing
from rft.run.inputs.prepare import Prepared
from rft.run.open_folder import open_recorder, start_of
from rft.run.reporting.terminal import Terminal
from rft.run.training import Training
from rft.run_folder.results import nothing_left_to_do
from rft.run_folder.run_lock import RunLock
from rft.sweep.host import Host
from rft.sweep.outcome import Outcome, distinct_overrides, outcome_of
from rft.terminal.interrupt import SweepInterrupt

GoOn = Callable[[int, Estimate], bool]
"""Whether a trial should continue after a step at which its validation tasks had this score."""

LOG = "log.txt"
LOG_COLUMNS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of a sweep, checked.

    Example:
        Trial(number=3, overrides=("seed=3",), run=RunConfig(...), prepared=Prepared(...))
    """

    number: int
    """From 0."""
    overrides: tuple[str, ...]
    """As on the command line."""
    run: RunConfig
    """Configuration of the trial; `output_dir` is its folder."""
    prepared: Prepared
    """Inputs of the trial."""


class Runner:
    """Runs trials in one event loop.

    Args:
        host: Provides samplers and learners.
        searched: The keys that differ between trials.
        say: Shows a progress line.
    """

    def __init__(self, host: Host, searched: Sequence[str], say: Callable[[str], None]) -> None:
        self._host = host
        self._searched = searched
        self._say = say
        self._interrupt = SweepInterrupt(say)

    @property
    def stopped(self) -> int | None:
        """The exit code after a requested stop, or None."""
        return self._interrupt.exit_code

    async def on_host(self, work: Callable[[int], Awaitable[None]]) -> int | None:
        """Open the host and run the work of the sweep; a signal ends it in order.

        Args:
            work: Receives the number of parallel trials.

        Returns:
            The exit code after a requested stop, or None.
        """
        with self._interrupt:
            try:
                async with self._host.open() as parallel:
                    await work(parallel)
            except asyncio.CancelledError:
                if self.stopped is None:
                    raise
        return self.stopped

    async def run_all(self, trials: Sequence[Trial], *, parallel: int) -> None:
        """Run trials in order, `parallel` at a time. After Ctrl-C no further trial starts."""
        turn = asyncio.Semaphore(parallel)

        async def in_turn(trial: Trial) -> None:
            async with turn:
                if self.stopped is None:
                    await self.run(trial)

        await asyncio.gather(*map(in_turn, trials))

    async def run(self, trial: Trial, go_on: GoOn | None = None) -> Outcome:
        """Run one trial to its end, successful or not. Its log.txt receives the output of a single run.

        Args:
            trial: The trial.
            go_on: Called after each validation measurement; False prunes the trial.
        """
        number, folder, started = trial.number, Path(trial.run.output_dir), time.monotonic()
        hidden = hide_in_words(trial.overrides, trial.run.model_dump())
        self._say(f"trial {number} begins: {distinct_overrides(hidden, self._searched)}")

        error = None
        try:
            await self._train(trial, folder, go_on)
        except RftError as failure:
            error = str(failure)
        except Exception as failure:  # no failure stops the other trials; log.txt keeps the traceback
            error = f"{type(failure).__name__}: {failure}\n{''.join(traceback.format_exception(failure))}"
        if error is not None:
            error = hide(error, secrets_in(trial.run.model_dump()))
        outcome = outcome_of(folder, number=number, overrides=hidden, wall_s=time.monotonic() - started, error=error)
        score = f" {outcome.score.text()}" if outcome.score else ""
        why = f": {outcome.error.splitlines()[0]}" if outcome.error else ""
        self._say(f"trial {number} {outcome.status}{score} after {outcome.wall_s:.0f} s{why}")
        return outcome

    async def _train(self, trial: Trial, folder: Path, go_on: GoOn | None) -> None:
        run, prepared = trial.run, trial.prepared
        warnings: list[str] = []
        validation = ValidationSink(lambda text: self._say(f"trial {trial.number}, {text}"), go_on)
        with RunLock(folder):
            start = start_of(run, say=self._say, warn=warnings.append)
            if start.last_step and nothing_left_to_do(run, start.last_step):
                return
            recorder = open_recorder(run, prepared, ["rft", "train", *trial.overrides], start.last_step)
            with writing(folder / LOG):
                log = (folder / LOG).open("a", encoding="utf-8")
            with log:
                training = Training(
                    run=run,
                    prepared=prepared,
                    parts=partial(self._host.open_parts, run, prepared, checkpoint=start.checkpoint),
                    recorder=recorder,
                    sinks=[Terminal(Console(file=log, width=LOG_COLUMNS), folder), validation],
                    should_prune=lambda: validation.is_pruned,
                    last_step=start.last_step or 0,
                    fetched=start.fetched,
                    warnings=warnings,
                )
                await training.train()


class ValidationSink:
    """Shows each validation measurement of a trial, and asks whether to continue the trial.

    Args:
        say: Shows a line.
        go_on: Receives step and measurement; False prunes the trial. None always continues.
    """

    def __init__(self, say: Callable[[str], None], go_on: GoOn | None) -> None:
        self._say = say
        self._go_on = go_on
        self.is_pruned = False

    def event(self, event: Event) -> None:
        """Handle a measurement; ignore other events."""
        if isinstance(event, Measured) and event.phase == "validation":
            self._say(f"step {event.step}: validation {event.estimate.text()}")
            self.is_pruned = self._go_on is not None and not self._go_on(event.step, event.estimate)

    def close(self) -> None:
        """Holds nothing."""
