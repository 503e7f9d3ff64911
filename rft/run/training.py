"""A training run from its start to its end: opens its parts, trains, and leaves a summary however it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rft.config import RunConfig, audit_problems, audit_warnings
from rft.errors import RftError, StorageError, WriteError
from rft.events import Emit, Notice, PhaseStarted, RunEnded, RunStarted, Sink
from rft.health.heartbeat import Heartbeat
from rft.health.prometheus import metrics_served
from rft.imports import missing_packages, prepare_bitsandbytes
from rft.metrics.retention_report import guard_warnings
from rft.redaction import hide, redacted, secrets_in
from rft.run.build import canaries
from rft.run.inputs.prepare import Prepared
from rft.run.machine_notice import watched
from rft.run.open_folder import code_changes
from rft.run.parts import Parts
from rft.run.recovery import RecoveringLearner
from rft.run.recovery_counts import RecoveryCounts
from rft.run.reporting.emitter import Emitter
from rft.run.reporting.sinks import optional_sinks
from rft.run.steps import Steps
from rft.run.timeouts import StackWriter
from rft.run_folder.copies import Copier, State, Store
from rft.run_folder.find_checkpoint import can_be_resumed
from rft.run_folder.folder_sink import FolderSink
from rft.run_folder.recorder import Recorder, read_metrics
from rft.run_folder.results import save_weights, summarize
from rft.storage import Place
from rft.terminal.interrupt import Interrupt
from rft.types import Adapter
from rft.waiting import blocking, timeouts_observed


@dataclass(kw_only=True)
class Training:
    """One run. An event loop may have several."""

    run: RunConfig
    """The configuration."""
    prepared: Prepared
    """The inputs."""
    parts: Callable[[Emit], AbstractAsyncContextManager[Parts[RecoveringLearner]]]
    """Opens the parts that the run samples, grades and learns with, and closes them at the end."""
    recorder: Recorder
    """Writes the run folder."""
    sinks: Sequence[Sink] = ()
    """Further receivers of the run's events besides folder, trackers and copies, such as the terminal."""
    last_step: int = 0
    """The step of the checkpoint that the run continues from; 0 for a new run."""
    fetched: Mapping[str, State] = field(default_factory=dict)
    """Files of the run folder that were fetched from its copy in storage, by their path in the folder."""
    should_prune: Callable[[], bool] = lambda: False
    """Asked after each step; a run that should be pruned saves and ends as `pruned`."""
    warnings: Sequence[str] = ()
    """Warnings about the start, such as a damaged checkpoint."""
    started: float = field(default_factory=time.monotonic)
    """`time.monotonic()` at the start."""

    def __post_init__(self) -> None:
        self._store: Store | None = None
        if self.run.storage:
            copier = Copier(self.recorder.folder, Place(self.run.storage), self.fetched)
            self._store = Store(copier, timeout_s=self.run.storage_timeout_s, warn=self._warn)
        secrets = secrets_in(self.run.model_dump())
        self._recoveries = RecoveryCounts()
        self._compared: dict[str, Any] | None = None
        self._hide = partial(hide, secrets=secrets)
        self._heartbeat = Heartbeat(self.recorder.folder, hide=self._hide)
        # The folder is the first sink, since other sinks and the copies may rely on its content.
        required: list[Sink] = [
            FolderSink(self.recorder),
            self._recoveries,
            self._heartbeat,
            *self.sinks,
            *([self._store] if self._store else []),
        ]
        optional = optional_sinks(self.run, self.prepared.sinks)
        self._emitter = Emitter(required, optional, secrets=secrets)

    async def train(self) -> int:
        """Train to the end, and leave a summary however the run ends.

        Returns:
            The exit code: 0, or one of `rft.terminal.interrupt` when a signal or a notice stopped the run.

        Raises:
            asyncio.CancelledError: The task was cancelled. The summary says `interrupted`.
            RftError: The run failed. The summary says `failed`, and the error's notes say how to continue.
        """
        try:
            limit_s = self.run.loop.stop_timeout_s
            with self._observed() as metrics_at, Interrupt(self._warn, step_timeout_s=limit_s) as interrupt:
                self._emit_start(metrics_at)
                steps = self._steps(interrupt)
                try:
                    async with watched(self.run.loop.notice, self._warn):
                        status = await self._train(steps, interrupt)
                except BaseException as error:
                    await self._end_early(error, steps, interrupt)
                    raise
            await self._finish(status, steps)
            return interrupt.exit_code or 0
        finally:
            self._emitter.close()

    def _warn(self, text: str) -> None:
        self._emitter.warn(text)

    def _tell(self, text: str) -> None:
        self._emitter.emit(Notice(text=text))

    @contextmanager
    def _observed(self) -> Iterator[str | None]:
        """Write stacks at timeouts during the block. Serve metrics, if configured; yield their address."""
        port = self.run.logging.prometheus_port
        with ExitStack() as stack:
            stack.enter_context(timeouts_observed(StackWriter(self.recorder.folder, self._tell, self._hide).write))
            address = None if port is None else stack.enter_context(metrics_served(self._heartbeat, port))
            self._heartbeat.add(metrics_at=address)
            yield address

    def _emit_start(self, metrics_at: str | None = None) -> None:
        run = self.run
        self._emitter.emit(
            RunStarted(
                name=run.name,
                folder=self.recorder.folder,
                config=redacted(run.model_dump()),
                steps=run.loop.steps,
                last_step=self.last_step,
            )
        )
        audit = [*(audit_problems(run) if run.audit == "warn" else ()), *audit_warnings(run)]
        changes = code_changes(run, self.prepared, self.recorder.folder) if self.last_step else []
        damage = self.recorder.damage
        for problem in [*self.warnings, *damage, *self.prepared.warnings, *audit, *changes]:
            self._warn(problem)
        if metrics_at is not None:
            self._tell(f"metrics for Prometheus: {metrics_at}")

    def _steps(self, interrupt: Interrupt) -> Steps:
        steps = Steps(
            run=self.run,
            prepared=self.prepared,
            folder=self.recorder.folder,
            emit=self._emitter.emit,
            last_step=self.last_step,
            started=self.started,
            should_end=lambda: interrupt.requested or self.should_prune(),
            more_metrics=self._more_metrics,
            has_dropped_step=lambda: interrupt.has_dropped_step,
        )
        interrupt.can_drop_step = lambda: not steps.is_past_sampling
        interrupt.is_learner_restarting = lambda: steps.is_learner_restarting
        interrupt.on_request = steps.stop_measuring
        return steps

    def _more_metrics(self) -> dict[str, float]:
        """Return the metrics of a step that its own parts do not know."""
        return self._recoveries.take_metrics() | (self._store.metrics() if self._store else {})

    async def _train(self, steps: Steps, interrupt: Interrupt) -> str:
        """Open the parts and train; return the status of the run. A signal may end this at once."""

        def on_interruptible(can_wait: bool) -> None:
            interrupt.can_wait = can_wait

        try:
            async with self.parts(self._emitter.emit) as parts:
                await steps.train(parts, on_interruptible=on_interruptible)
        except asyncio.CancelledError:
            if not interrupt.requested:
                raise
        return "interrupted" if interrupt.requested else "pruned" if self.should_prune() else "finished"

    async def _end_early(self, error: BaseException, steps: Steps, interrupt: Interrupt) -> None:
        """Leave a summary of a run that failed, or whose task was cancelled, and say how to continue it."""
        if isinstance(error, asyncio.CancelledError):
            await self._emit_end(self._summarize("interrupted", steps), steps)
            return
        if resume := self._resume_command(steps):
            error.add_note(f"to continue from step {steps.saved_step}: {resume}")
        try:
            text = self._hide(str(error) or type(error).__name__)
            await self._emit_end(self._summarize("failed", steps, error=text), steps)
            if self._store is not None:
                self._emitter.emit(Notice(text=f"copying the run to {self._store.place}"))
        except (WriteError, OSError) as also:  # still no space or no file handle; the run reports its first error
            error.add_note(str(also))
        if self._store is not None and isinstance(error, Exception):
            interrupt.can_wait = False
            if (why := await self._store.finish(steps.last_step)) is not None:
                error.add_note(f"the copy of the run is not complete: {why}")

    async def _finish(self, status: str, steps: Steps) -> None:
        """Write summary, plots and weights, and make the last copy.

        Raises:
            StorageError: The copy is not complete.
        """
        folder = self.recorder.folder
        await self._compare_on_original(status, steps)
        summary = self._summarize(status, steps)
        for warning in guard_warnings(summary.get("retention")):
            self._warn(warning)
        paths = {"run": folder}
        if problem := missing_packages(f"{folder}/plots", "matplotlib"):
            self._warn(problem)
        else:
            from rft.run_folder.plots import plot_rewards  # the import of matplotlib would delay a run's start

            paths["plot"] = plot_rewards(folder)
        if steps.weights is not None:
            paths |= save_weights(
                folder,
                self.run,
                summary,
                steps.weights,
                base_model=self.prepared.model_name,
                model=self.prepared.model,
                tokenizer=self.prepared.tokenizer,
            )
        await self._emit_end(summary, steps, paths)
        if self._store is None:
            return
        if (why := await self._copy(self._store, steps)) is not None:
            self._summarize(status, steps)
            raise StorageError(
                f"the copy of the run is not complete: {why}\n{folder} holds the whole run. When the storage is right "
                f"again, rft train resume={folder} copies what is missing; storage=null goes without"
            )
        if status == "interrupted":
            self._emitter.emit(Notice(text=f"to continue elsewhere: rft train resume={self._store.place}"))

    async def _compare_on_original(self, status: str, steps: Steps) -> None:
        """Compare the result of a run with a quantized base model on the original model."""
        quantization, adapter = self.prepared.quantization, steps.weights
        if quantization is None or not isinstance(adapter, Adapter):
            return
        if status != "finished":
            self._compared = {"source": quantization.source, "not_measured": f"the run was {status}"}
            return
        prepare_bitsandbytes(is_used=False)
        from rft.run.base_models.original_base import compare_on_original, completions_of  # torch and PEFT

        texts = completions_of(steps.after.groups if steps.after else ())
        texts = texts or [(canary, len(canary) - 1) for canary in canaries(self.run, self.prepared)]
        what = "scoring text with the adapter on the original base model"
        self._emitter.emit(PhaseStarted(text=what))
        try:
            self._compared = await blocking(
                lambda: compare_on_original(quantization, self.prepared.model, adapter, texts),
                what=what,
                deadline_s=self.run.learner.step_timeout_s,
            )
        except RftError as error:  # the comparison must not take the result with it
            self._compared = {"source": quantization.source, "not_measured": str(error)}

    async def _emit_end(self, summary: dict[str, Any], steps: Steps, paths: Mapping[str, Path] | None = None) -> None:
        """Emit the end of the run, and wait for the sinks that have not handled all events yet."""
        self._emitter.emit(
            RunEnded(
                status=summary["status"],
                last_step=steps.last_step,
                summary=summary,
                paths=paths or {"run": self.recorder.folder},
                resume=summary.get("resume"),
            )
        )
        await self._emitter.close_optional()
        if failures := self._emitter.failures():
            self.recorder.summary(summary | {"failed_sinks": failures})

    async def _copy(self, store: Store, steps: Steps) -> str | None:
        """Make the last copy; return why it is not complete, None if it is."""
        self._emitter.emit(Notice(text=f"copying the run to {store.place}"))
        self.recorder.close()  # a segment that is still being compressed would be copied in both forms
        return await store.finish(steps.last_step)

    def _resume_command(self, steps: Steps) -> str | None:
        """The command that continues the run; None where it has no checkpoint yet."""
        folder = self.recorder.folder
        try:
            has_checkpoint = can_be_resumed(folder)
        except OSError:  # no file handle is left to read the folder
            has_checkpoint = steps.saved_step > 0
        return f"rft train resume={folder}" if has_checkpoint else None

    def _summarize(self, status: str, steps: Steps, **more: Any) -> dict[str, Any]:
        folder = self.recorder.folder
        if self._store is not None:
            counted = [line["metrics"].get("storage/failed_copies", 0.0) for line in read_metrics(folder)]
            failed = int(sum(counted)) + self._store.failed_copies
            more["storage"] = {"place": self._store.place.address, "failed_copies": failed}
        if self._compared is not None:
            more["original_base"] = self._compared
        if steps.best.step is not None:
            more["best"] = {"step": steps.best.step, "stopped_early": steps.best.is_over}
        if steps.guard.is_over:
            more["guard"] = {"stopped_at_step": steps.last_step}
        if recoveries := self._recoveries.totals(read_metrics(folder)):
            more["recovery"] = recoveries
        if status != "finished":
            more["resume"] = self._resume_command(steps)
        wall_s = time.monotonic() - self.started
        if self.prepared.grounded is not None:
            more["retrieval"] = self.prepared.grounded.time_share(wall_s)
        return summarize(
            self.recorder,
            self.run,
            status=status,
            split="test" if self.prepared.tasks.test else "validation",
            wall_s=wall_s,
            after_s=steps.after_s,
            checkpoint_s=steps.checkpoint_s,
            **more,
        )
