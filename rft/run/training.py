"""The composition root: builds the parts that the configuration names, drives the loop, and closes everything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.text import Text

from rft.batches import Batcher
from rft.config import RunConfig, audit_problems
from rft.config.schema import EvaluationConfig
from rft.data.order import ShuffledTasks
from rft.errors import StorageError
from rft.events import Emit, Phase
from rft.grading.panel import Panel
from rft.learning.remote import RemoteLearner
from rft.learning.spec import COMPLETE
from rft.loop import train
from rft.metrics.drift import DriftWatch, drift_metrics
from rft.metrics.held_out import metric_bounds
from rft.metrics.intervals import Estimate
from rft.metrics.pass_rates import filter_by_pass_rate
from rft.metrics.signal import SignalWatch
from rft.metrics.step import Stopwatch
from rft.run.evaluation import Evaluation, evaluate
from rft.run.inputs import Prepared
from rft.run.parts import Parts
from rft.run_folder.copies import Copier, State, Store
from rft.run_folder.recorder import Recorder, read_metrics, read_rollouts
from rft.run_folder.results import recorded_by_task, save_weights, summarize
from rft.sampling.fleet import Fleet
from rft.storage import Place
from rft.terminal.final_report import choose_samples, final_report
from rft.terminal.interrupt import Interrupt
from rft.terminal.progress import Progress
from rft.types import Adapter, FullWeights, StepReport, Task

GoOn = Callable[[int, Estimate], bool]
"""Whether a run is to go on after a step at which the validation tasks scored so."""


@dataclass(kw_only=True)
class Training:
    """One run, from start to end. Several may go on in one event loop."""

    run: RunConfig
    """Its configuration."""
    prepared: Prepared
    """Its inputs."""
    parts: Callable[[Emit], AbstractAsyncContextManager[Parts[RemoteLearner]]]
    """Starts what it samples, grades and learns with, and closes that at the end."""
    recorder: Recorder
    """Its folder."""
    console: Console
    """Where progress and the final report go."""
    last_step: int = 0
    """The step that it goes on from."""
    fetched: Mapping[str, State] = field(default_factory=dict)
    """Files of its folder that were brought from its copy in storage, by their path in the folder."""
    go_on: GoOn | None = None
    """Asked after each measurement of the validation tasks; a run that is not to go on ends as `pruned`."""
    started: float = field(default_factory=time.monotonic)
    """`time.monotonic()` at its start."""

    def __post_init__(self) -> None:
        self.progress = Progress(self.console)
        for problem in [*self.prepared.warnings, *(audit_problems(self.run) if self.run.audit == "warn" else ())]:
            self.progress.warn(problem)
        self.store: Store | None = None
        if self.run.storage:
            copier = Copier(self.recorder.folder, Place(self.run.storage), self.fetched)
            self.store = Store(copier, timeout_s=self.run.storage_timeout_s, warn=self.progress.warn)
        self.held_out = self.prepared.held_out
        self.weights: Adapter | FullWeights | None = None
        self.saved_step = self.last_step
        self.after_s = 0.0
        self.is_pruned = False

    async def guarded(self) -> int:
        """Train, and leave a summary behind however it ends. Returns the exit code."""
        self.progress.start(self.run.loop.steps)
        try:
            with Interrupt(self.progress.warn) as interrupt:
                try:
                    await self._train(interrupt)
                    status = "interrupted" if interrupt.requested else "pruned" if self.is_pruned else "finished"
                except asyncio.CancelledError:
                    status = "interrupted"
                    if not interrupt.requested:  # whoever runs this task cancelled it, and is waiting for its end
                        self._summarize(status)
                        self._say_how_to_go_on()
                        raise
                except BaseException as error:
                    self._summarize("failed", error=str(error) or type(error).__name__)
                    if resume := self._resume_command():
                        error.add_note(f"to go on from step {self.saved_step}: {resume}")
                    if self.store is not None and isinstance(error, Exception):
                        interrupt.can_wait = False
                        await self._copy_what_there_is(self.store)
                    raise
        finally:
            self.progress.close()
        self._finish(status)
        if self.store is not None:
            await self._copy_at_the_end(self.store, status)
        return interrupt.exit_code or 0

    async def _copy_what_there_is(self, store: Store) -> None:
        """The last copy of a run that failed: why it failed is told, whatever becomes of the copy."""
        self.progress.phase(f"copying the run to {store.place}")
        if (why := await store.finish(self.last_step)) is not None:
            self.progress.warn(f"the copy of the run is not complete: {why}")

    async def _copy_at_the_end(self, store: Store, status: str) -> None:
        """The last copy of a run that ended as it should.

        Raises:
            StorageError: The copy is not complete.
        """
        folder = self.recorder.folder
        self.console.print(Text(f"\ncopying the run to {store.place}"), soft_wrap=True)
        if (why := await store.finish(self.last_step)) is not None:
            self._summarize(status)
            raise StorageError(
                f"the copy of the run is not complete: {why}\n{folder} holds the whole run. When the storage is right "
                f"again, rft train resume={folder} copies what is missing; storage=null goes without"
            )
        if status == "interrupted":
            self.console.print(Text(f"to go on elsewhere: rft train resume={store.place}"), soft_wrap=True)

    async def _train(self, interrupt: Interrupt) -> None:
        run = self.run
        signal, drift = SignalWatch(), DriftWatch()
        drift.read(line for line in read_metrics(self.recorder.folder) if line["step"] > 0)
        async with self.parts(self.progress.event) as (fleet, panel, learner):
            published = {
                publication.policy.version: publication
                for publication in (await learner.history() if self.last_step else ())
            }
            tasks = await self._before_the_first_step(fleet, panel)
            self.progress.phase("training")
            interrupt.can_wait = True
            batcher = Batcher(
                sampler=fleet,
                panel=panel,
                order=ShuffledTasks(tasks, run.loop.prompts_per_step, run.seed),
                completions_per_prompt=run.loop.completions_per_prompt,
                temperature=run.sampler.temperature,
                refill_rounds=run.loop.refill_rounds,
            )
            steps = train(
                batcher,
                learner,
                steps=range(self.last_step + 1, run.loop.steps + 1),
                staleness=run.loop.staleness,
                published=published,
            )
            async with aclosing(steps):
                async for done, batch in steps:
                    report, warnings = drift.watched(done, drift_metrics(batch.sampled))
                    self.progress.step(report)
                    for warning in (signal.observe(batch.sampled), *warnings):
                        if warning:
                            self.progress.warn(warning)
                    self.recorder.rollouts(batch.sampled, step=report.step, phase="train")
                    await self._after_step(report, fleet, panel, learner, interrupt)
                    if interrupt.requested or self.is_pruned:
                        break
            interrupt.can_wait = False
            if self.saved_step != self.last_step:
                await learner.save()
            self.weights = await learner.weights()  # here already: who interrupts the measurement keeps the adapter
            if self.held_out and not (interrupt.requested or self.is_pruned):
                watch = Stopwatch()
                await self._measure("after", self.held_out, fleet, panel)
                watch.lap("evaluate")
                self.after_s = watch.seconds["evaluate"]

    async def _before_the_first_step(self, fleet: Fleet, panel: Panel) -> Sequence[Task]:
        """Measure the base model, and return the tasks to train on. The line of step 0 says that this is complete."""
        if self.last_step:
            return self._training_tasks()[0]
        watch = Stopwatch()
        seconds = {"start": time.monotonic() - self.started}
        metrics: dict[str, float] = {}
        if self.held_out:
            metrics = (await self._measure("before", self.held_out, fleet, panel)).estimate.to_metrics("before")
            watch.lap("evaluate")
        if (bounds := self.run.loop.pass_rate) is not None:
            how = EvaluationConfig(
                completions_per_task=bounds.completions_per_task, temperature=self.run.sampler.temperature
            )
            await self._measure("pass rate", self.prepared.tasks.train, fleet, panel, how=how)
            watch.lap("pass_rate")
        tasks, counts = self._training_tasks()
        self.recorder.metrics(
            StepReport(step=0, policy=fleet.policy, metrics=metrics | counts, seconds=seconds | watch.seconds)
        )
        return tasks

    def _training_tasks(self) -> tuple[Sequence[Task], dict[str, float]]:
        """The tasks to train on, by the pass rates on disk where that is asked for, and how many were left out."""
        bounds, tasks = self.run.loop.pass_rate, self.prepared.tasks.train
        if bounds is None:
            return tasks, {}
        recorded = read_rollouts(self.recorder.folder, "pass rate")
        filtered = filter_by_pass_rate(
            tasks,
            recorded_by_task(recorded, "reward"),
            min=bounds.min,
            max=bounds.max,
            at_least=self.run.loop.prompts_per_step,
        )
        return filtered.tasks, dict(filtered.metrics)

    async def _after_step(
        self, report: StepReport, fleet: Fleet, panel: Panel, learner: RemoteLearner, interrupt: Interrupt
    ) -> None:
        """Measure and save when it is time to, then write the step's line."""
        run, step = self.run, report.step
        watch = Stopwatch()
        extra: dict[str, float] = {}
        validation = self.prepared.tasks.validation[: run.evaluation.max_validation_tasks]
        is_time = run.evaluation.every_steps is not None and step % run.evaluation.every_steps == 0
        if validation and is_time and not interrupt.requested:
            measured = (await self._measure("validation", validation, fleet, panel, step=step)).estimate
            extra = measured.to_metrics("eval")
            self.is_pruned = self.go_on is not None and not self.go_on(step, measured)
            watch.lap("evaluate")
        await learner.log(dict(report.metrics) | extra)
        if step % run.loop.checkpoint_every_steps == 0:
            await learner.save()
            watch.lap("checkpoint")
            self.saved_step = step
        if self.store is not None:
            extra["storage/failed_copies"] = float(self.store.take_failed_copies())
        self.recorder.metrics(replace(report, seconds={**report.seconds, **watch.seconds}), extra)
        self.last_step = step
        if self.store is not None and self.saved_step == step:
            self.store.ask(step)

    async def _measure(
        self,
        phase: Phase,
        tasks: Sequence[Task],
        fleet: Fleet,
        panel: Panel,
        *,
        step: int | None = None,
        how: EvaluationConfig | None = None,
    ) -> Evaluation:
        """Measure tasks under the policy that is served, and keep every rollout."""
        how = how or self.run.evaluation
        step = self.last_step if step is None else step
        self.progress.phase(f"measuring {phase}: {len(tasks)} tasks")
        evaluation = await evaluate(
            fleet,
            panel,
            tasks,
            policy=fleet.policy,
            metric=how.metric,
            completions_per_task=how.completions_per_task,
            temperature=how.temperature,
            # The same random numbers before and after: what differs is the policy.
            purpose="held-out" if phase in ("before", "after") else phase,
            bounds=metric_bounds(self.run.graders, how.metric),
        )
        self.recorder.rollouts(evaluation.groups, step=step, phase=phase)
        self.progress.evaluated(phase, evaluation.estimate, step)
        return evaluation

    def _finish(self, status: str) -> None:
        """Write summary, plots and weights, and print the report."""
        from rft.run_folder.plots import (
            plot_rewards,  # matplotlib takes half a second, by which a run would start later
        )

        folder = self.recorder.folder
        summary = self._summarize(status)
        paths = {"run": folder, "plot": plot_rewards(folder)}
        if self.weights is not None:
            paths |= save_weights(
                folder,
                self.run,
                summary,
                self.weights,
                base_model=self.prepared.model_name,
                model=self.prepared.model,
                tokenizer=self.prepared.tokenizer,
            )
        samples = choose_samples(read_rollouts(folder, "before"), read_rollouts(folder, "after"))
        final_report(self.console, summary=summary, samples=samples, paths=paths)
        if status == "interrupted":
            self._say_how_to_go_on()

    def _say_how_to_go_on(self) -> None:
        if resume := self._resume_command():
            self.console.print(Text(f"\nto go on: {resume}"), soft_wrap=True)

    def _resume_command(self) -> str | None:
        """The command that continues the run; None where it has no checkpoint yet."""
        folder = self.recorder.folder
        return f"rft train resume={folder}" if any((folder / "checkpoints").glob(f"*/{COMPLETE}")) else None

    def _summarize(self, status: str, **more: Any) -> dict[str, Any]:
        if self.store is not None:
            told = [line["metrics"].get("storage/failed_copies", 0.0) for line in read_metrics(self.recorder.folder)]
            failed = int(sum(told)) + self.store.failed_copies
            more["storage"] = {"place": self.store.place.address, "failed_copies": failed}
        if status != "finished":
            more["resume"] = self._resume_command()
        return summarize(
            self.recorder,
            self.run,
            status=status,
            split="test" if self.prepared.tasks.test else "validation",
            wall_s=time.monotonic() - self.started,
            after_s=self.after_s,
            **more,
        )
