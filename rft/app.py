"""The composition root: builds the parts that the configuration names, drives the loop, and closes everything."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from rft import build
from rft.batches import Batcher
from rft.checkpoint import last_checkpoint
from rft.cluster import ray_ahead_for, refuse_early, workplace
from rft.config import RunConfig, audit_problems
from rft.config.schema import EvaluationConfig
from rft.data.order import ShuffledTasks
from rft.drift import DriftWatch, drift_metrics
from rft.errors import StorageError
from rft.evaluation import Evaluation, evaluate, metric_bounds, recorded_by_task
from rft.grading.panel import Panel
from rft.health import SignalWatch
from rft.interrupt import Interrupt
from rft.intervals import Estimate
from rft.learning.remote import RemoteLearner
from rft.loop import train
from rft.metrics import Stopwatch
from rft.pass_rates import filter_by_pass_rate
from rft.preparation import Prepared, read_inputs, render_prompts
from rft.progress import Progress, counted
from rft.recorder import Phase, Recorder, prepare_output, read_metrics, read_rollouts
from rft.report import choose_samples, final_report
from rft.results import nothing_left_to_do, save_weights, summarize
from rft.sampling.fleet import Fleet
from rft.storage import Place
from rft.stored import Copier, State, Store, check_copy, fetch_run
from rft.types import Adapter, FullWeights, Publication, StepReport, Task
from rft.waiting import together


class Parts(NamedTuple):
    """What a run samples, grades and learns with."""

    fleet: Fleet
    panel: Panel
    learner: RemoteLearner


Say = Callable[[str], None]
"""Shows what is going on."""
GoOn = Callable[[int, Estimate], bool]
"""Whether a run is to go on after a step at which the validation tasks scored so."""


def run_training(run: RunConfig, *, command: Sequence[str], console: Console) -> int:
    """Train from a checked configuration, on a Ray of the run's own.

    Args:
        run: The configuration.
        command: What was typed, for the manifest.
        console: Where progress and the final report go.

    Returns:
        The exit code: 0, or 130 or 143 when the run was interrupted.

    Raises:
        RftError: With what went wrong and what to do.
    """
    is_here = run.resume == run.output_dir
    checkpoint, last_step = last_checkpoint(Path(run.output_dir)) if is_here else (None, 0)
    if is_here and run.storage is None and (said := nothing_left_to_do(run, last_step)):
        console.print(Text(said), soft_wrap=True)
        return 0
    refuse_early(run)
    inputs = read_inputs(run, needs_training_tasks=True, output=None if run.resume else Path(run.output_dir))
    with ray_ahead_for(run):
        with counted(console, "checking prompts") as tell:
            prepared = render_prompts(inputs, tell)
        fetched: dict[str, State] = {}
        if run.resume and not is_here:
            console.print(Text(f"bringing the run from {run.resume} to {run.output_dir}"), soft_wrap=True)
            fetched = fetch_run(Place(run.resume), Path(run.output_dir), deadline_s=run.storage_timeout_s)
            checkpoint, last_step = last_checkpoint(Path(run.output_dir))
        training = Training(
            run=run,
            prepared=prepared,
            parts=partial(parts_of_its_own, run, prepared, checkpoint, console),
            recorder=open_recorder(run, prepared, command, last_step if checkpoint else None),
            console=console,
            last_step=last_step,
            fetched=fetched,
        )
        return asyncio.run(training.guarded())


def open_recorder(run: RunConfig, prepared: Prepared, command: Sequence[str], last_step: int | None) -> Recorder:
    """The run folder, made, or cut back to the checkpoint of `last_step`, with its manifest and its configuration.

    Raises:
        OutputError: The folder, or the place of its copy, holds another run or cannot be written.
    """
    if run.storage:
        check_copy(Place(run.storage), last_step)
    folder = Path(run.output_dir)
    if last_step is None:
        prepare_output(folder)
        recorder = Recorder(folder)
        recorder.document("manifest.json", json.dumps(build.manifest_of(run, prepared, command), indent=2) + "\n")
    else:
        recorder = Recorder.resume(folder, last_step=last_step)
    recorder.config(run.model_dump())
    return recorder


@asynccontextmanager
async def parts_of_its_own(
    run: RunConfig, prepared: Prepared, checkpoint: Path | None, console: Console, say: Say
) -> AsyncIterator[Parts]:
    """Ray, the fleet, the panel and the learner of one run, started, and closed at the end."""
    panel = build.panel(run, prepared)
    try:
        say("starting Ray")
        async with workplace(
            run, model=prepared.model, fingerprint=prepared.base.fingerprint, console=console
        ) as place:
            say(f"starting {run.sampler.num_actors} sampler(s) and the learner")

            def warn(text: str) -> None:
                console.print(Text(f"warning: {text}"), soft_wrap=True)

            fleet = build.fleet(
                run, prepared, place, max_lora_rank=run.learner.lora.rank if run.learner.lora else None, warn=warn
            )
            learner = await build.learner(run, prepared, place, checkpoint)
            await together(fleet.start(), learner.start())
            if fleet.serve_reason:
                console.print(Text(f"sampler.serve=auto chose {fleet.serve}: {fleet.serve_reason}"), soft_wrap=True)
            try:
                yield Parts(fleet, panel, learner)
                say("closing")
                await learner.close()
            finally:
                await fleet.end_streams()
    finally:
        panel.close()


@dataclass(kw_only=True)
class Training:
    """One run, from start to end. Several may go on in one event loop."""

    run: RunConfig
    """Its configuration."""
    prepared: Prepared
    """Its inputs."""
    parts: Callable[[Say], AbstractAsyncContextManager[Parts]]
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
        self.published: dict[int, Publication] = {}
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
                    if not interrupt.requested:
                        raise
                    status = "interrupted"
                except BaseException as error:
                    self._summarize("failed", error=str(error) or type(error).__name__)
                    if self.saved_step:
                        error.add_note(f"to go on from step {self.saved_step}: rft train resume={self.recorder.folder}")
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
        async with self.parts(self.progress.phase) as (fleet, panel, learner):
            if self.last_step:
                self.published = {publication.policy.version: publication for publication in await learner.history()}
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
                published=self.published,
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
            self.weights = (await learner.publish()).weights
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
        from rft.plots import plot_rewards  # matplotlib takes half a second, by which a run would start later

        folder = self.recorder.folder
        summary = self._summarize(status)
        paths = {"run": folder, "plot": plot_rewards(folder)}
        if self.weights is not None:
            paths |= save_weights(folder, self.run, summary, self.weights, self.prepared)
        samples = choose_samples(read_rollouts(folder, "before"), read_rollouts(folder, "after"))
        final_report(self.console, summary=summary, samples=samples, paths=paths)
        if status == "interrupted" and (folder / "checkpoints").exists():
            self.console.print(Text(f"\nto go on: rft train resume={folder}"), soft_wrap=True)

    def _summarize(self, status: str, **more: Any) -> dict[str, Any]:
        if self.store is not None:
            told = [line["metrics"].get("storage/failed_copies", 0.0) for line in read_metrics(self.recorder.folder)]
            failed = int(sum(told)) + self.store.failed_copies
            more["storage"] = {"place": self.store.place.address, "failed_copies": failed}
        return summarize(
            self.recorder,
            self.run,
            status=status,
            split="test" if self.prepared.tasks.test else "validation",
            wall_s=time.monotonic() - self.started,
            after_s=self.after_s,
            **more,
        )
