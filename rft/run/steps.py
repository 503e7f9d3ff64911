"""The steps of a run on opened parts: measure, train step by step, measure in between, save, measure again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from rft.batches import Batch, Batcher
from rft.config import RunConfig
from rft.config.evaluation import EvaluationConfig
from rft.config.mixture import graders_by_family
from rft.data.training_rows import TrainingRows
from rft.errors import SamplersLost
from rft.events import CheckpointSaved, Emit, Measured, Notice, Phase, PhaseStarted, StepFinished, StepTrained, Warned
from rft.loop import train
from rft.metrics.micro_batch_watch import HalvingWatch
from rft.metrics.step import Stopwatch
from rft.run.demonstration_loop import demonstrations_of, train_on_demonstrations
from rft.run.evaluation import Evaluation, evaluate
from rft.run.feasibility import judge_before_training
from rft.run.inputs.demonstration_check import graded_demonstrations
from rft.run.inputs.kept_tasks import kept_tasks
from rft.run.inputs.prepare import Prepared
from rft.run.loop_learners import AnnouncedRowSteps, AnnouncedSteps, TurnTaking, start_logprobs
from rft.run.parts import Parts
from rft.run.recovery import RecoveringLearner, RenewingSampler
from rft.run.task_order import task_order
from rft.run.validation_loss import ValidationLoss
from rft.run.watches import MeasurementWatch, StepWatches
from rft.run_folder.best_step import LOSS, BestStep
from rft.run_folder.recorded_scores import recorded_by_task
from rft.run_folder.recorder import read_metrics, read_rollouts
from rft.run_folder.results import guard_of
from rft.types import Adapter, FullWeights, StepReport, StoredWeights, Task
from rft.wording import plural

PURPOSES = {"reference": "validation"} | dict.fromkeys(
    ("before", "before without passages", "after", "after without passages"), "held-out"
)
"""Measurements that are compared use the same random numbers, so that only the policy differs."""


@dataclass(kw_only=True)
class Steps:
    """Runs the steps of one training run and keeps their state."""

    run: RunConfig
    """The configuration."""
    prepared: Prepared
    """The inputs."""
    folder: Path
    """The run folder. A sink writes it; a resumed run reads its earlier steps from it."""
    emit: Emit
    """Receives the events."""
    last_step: int
    """The last complete step. At the start, it is the step of the checkpoint, or 0."""
    started: float
    """`time.monotonic()` at the start of the run."""
    should_end: Callable[[], bool]
    """Called after each step; True ends the run after a checkpoint."""
    more_metrics: Callable[[], dict[str, float]]
    """Returns further metrics of a step, such as the failed copies to storage."""
    has_dropped_step: Callable[[], bool] = lambda: False
    """Whether this task was cancelled to drop a step that is still being sampled. The step before it is saved."""

    def __post_init__(self) -> None:
        self.saved_step = self.last_step
        """The step of the newest checkpoint, or 0."""
        self.weights: Adapter | FullWeights | None = None
        """The trained weights; None until the last step is complete."""
        self.after: Evaluation | None = None
        """The measurement after the last step."""
        self.after_s = 0.0
        """Duration of the measurement after the last step, seconds."""
        self.is_past_sampling = False
        """Whether the learner is ahead of `last_step`: it learns the current step, or the step is not recorded yet."""
        self.checkpoint_s = 0.0
        """Duration of the last checkpoint in seconds, until the line of the next step records it."""
        self.best = BestStep(self.folder, self.run.evaluation)
        """The step that was measured best, if the run may end early."""
        self.guard = guard_of(self.run)
        """Watches the families of `evaluation.guard`."""
        self.guard.read(read_metrics(self.folder) if self.guard.families and self.last_step else ())
        self._measurements = MeasurementWatch(self.run, self.folder)
        self._learner: RecoveringLearner | None = None
        self._validation: asyncio.Timeout | None = None
        """The measurement of the current step, if one is in progress."""

    @property
    def is_learner_restarting(self) -> bool:
        """Whether the learner starts again after the loss of a process."""
        return self._learner is not None and self._learner.is_restarting

    async def train(self, parts: Parts[RecoveringLearner], *, on_interruptible: Callable[[bool], None]) -> None:
        """Train from the step after `last_step` to the end.

        Args:
            parts: The opened parts.
            on_interruptible: Receives whether an interrupted run can now wait for the end of a step.
        """
        self._learner = learner = parts.learner
        tasks = await self._before_the_first_step(parts)
        self.emit(PhaseStarted(text="training"))
        on_interruptible(True)
        try:
            await self._train_steps(parts, tasks)
        except asyncio.CancelledError:
            if not self.has_dropped_step():
                raise
            cast("asyncio.Task[object]", asyncio.current_task()).uncancel()
        except SamplersLost:
            if not self.is_past_sampling and self.saved_step != self.last_step:
                await self._save(learner)
            raise
        on_interruptible(False)
        if self.saved_step != self.last_step:
            await self._save(learner)
        self.weights = await learner.weights()  # here already: who interrupts the measurement keeps the adapter
        await self._return_to_best(parts)
        if self.prepared.held_out and not self.should_end():
            watch = Stopwatch()
            self.after = await self._measure(parts, "after", self.prepared.held_out)
            await self._measure_without_passages(parts, "after without passages")
            watch.lap("evaluate")
            self.after_s = watch.seconds["evaluate"]

    async def _train_steps(self, parts: Parts[RecoveringLearner], tasks: Sequence[Task]) -> None:
        """Train step by step, until the last step or until the run should end."""
        if self.prepared.rows is not None:
            await self._train_on_demonstrations(parts, self.prepared.rows)
            return
        # A teacher gives every token an advantage, even if all completions score the same.
        watches = StepWatches(self.run, has_teacher=parts.training_panel is not None)
        watches.read(read_metrics(self.folder) if self.last_step else ())
        async with aclosing(await self._loop(parts, tasks)) as steps:
            async for done, batch in steps:
                report, warnings = watches.observe(done, batch.sampled)
                of_start = await start_logprobs(self.run, parts.learner)
                self.emit(StepTrained(report=report, groups=batch.sampled, start_logprobs=of_start))
                self._warn(warnings)
                await self._finish_step(report, parts)
                if self.should_end() or self._is_over:
                    break

    async def _train_on_demonstrations(self, parts: Parts[RecoveringLearner], rows: TrainingRows) -> None:
        """Train like `_train_steps`, on demonstrations or preferences."""
        halving = HalvingWatch()
        learner = TurnTaking(parts.learner, parts.fleet) if parts.samplers_sleep else parts.learner
        validation_loss = ValidationLoss(rows, self._validation_tasks)

        async def validate(step: int) -> dict[str, float]:
            if not (validation_loss and self._is_validated(step)):
                return {}
            measured = await validation_loss.measure(parts.learner, step=step)
            self.emit(measured)
            return {LOSS: measured.loss}

        loop = train_on_demonstrations(
            demonstrations_of(self.run, self.prepared.tasks.train, rows),
            AnnouncedRowSteps(learner, self._begin_learning),
            RenewingSampler(sampler=parts.fleet, learner=parts.learner),
            steps=self._remaining,
            is_measured=lambda step: step == self.run.loop.steps or self._is_validated(step),
            validate=validate,
        )
        async with aclosing(loop) as steps:
            async for report in steps:
                self.emit(StepTrained(report=report, groups=()))
                if warning := halving.observe(report.metrics):
                    self.emit(Warned(text=warning))
                await self._finish_step(report, parts)
                if self.should_end() or self._is_over:
                    break

    @property
    def _is_over(self) -> bool:
        """Whether patience or guard end the run before its last step."""
        return self.best.is_over or self.guard.is_over

    @property
    def _remaining(self) -> range:
        """The steps that are left; none for a resumed run that is over."""
        last = self.last_step if self._is_over else self.run.loop.steps
        return range(self.last_step + 1, last + 1)

    @property
    def _validation_tasks(self) -> Sequence[Task]:
        """The validation tasks that are measured during the run; none without such measurements."""
        how = self.run.evaluation
        return self.prepared.tasks.validation[: how.max_validation_tasks] if how.every_steps else []

    def _is_validated(self, step: int) -> bool:
        """Whether the validation tasks are measured after a step."""
        every = self.run.evaluation.every_steps
        return bool(self.prepared.tasks.validation) and every is not None and step % every == 0

    async def _loop(
        self, parts: Parts[RecoveringLearner], tasks: Sequence[Task]
    ) -> AsyncGenerator[tuple[StepReport, Batch]]:
        loop = self.run.loop
        published = await parts.learner.history() if self.last_step else []
        learner = TurnTaking(parts.learner, parts.fleet) if parts.samplers_sleep else parts.learner
        batcher = Batcher(
            sampler=RenewingSampler(sampler=parts.sampler, learner=parts.learner),
            panel=parts.training_panel or parts.panel,
            order=task_order(self.run, tasks),
            completions_per_prompt=loop.completions_per_prompt,
            temperature=self.run.sampler.temperature,
            refill_rounds=loop.refill_rounds,
        )
        return train(
            batcher,
            AnnouncedSteps(learner, self._begin_learning),
            steps=self._remaining,
            staleness=loop.staleness,
            published={publication.policy.version: publication for publication in published},
        )

    def _begin_learning(self) -> None:
        self.is_past_sampling = True

    async def _before_the_first_step(self, parts: Parts[RecoveringLearner]) -> Sequence[Task]:
        """Measure the base model and return the training tasks. The line of step 0 marks this as complete."""
        if self.last_step:
            reference = read_rollouts(self.folder, "reference") if self.guard.families else ()
            self.guard.refer_to(recorded_by_task(reference, self.run.evaluation.metric))
            self._measurements.read()
            return kept_tasks(self.run, self.prepared.tasks.train, self.folder)[0]
        watch = Stopwatch()
        seconds = {"start": time.monotonic() - self.started}
        metrics: dict[str, float] = {}
        if (bounds := self.run.loop.pass_rate) is not None:
            how = EvaluationConfig(
                completions_per_task=bounds.completions_per_task, temperature=self.run.sampler.temperature
            )
            await self._measure(parts, "pass rate", self.prepared.tasks.train, how=how)
            watch.lap("pass_rate")
        tasks, counts = kept_tasks(self.run, self.prepared.tasks.train, self.folder)
        if self.run.feasibility.mode != "off":  # a run that is refused has not paid for the measurement before it
            await judge_before_training(self.run, self.prepared, parts, tasks, self.emit, start_s=seconds["start"])
            watch.lap("feasibility")
        if self.run.data.check_demonstrations:
            await self._check_demonstrations(parts)
            watch.lap("demonstrations")
        if held_out := self.prepared.held_out:
            metrics = (await self._measure(parts, "before", held_out)).to_metrics("before")
            await self._measure_without_passages(parts, "before without passages")
            watch.lap("evaluate")
        if guarded := [task for task in self._validation_tasks if task.family in self.guard.families]:
            self.guard.refer_to((await self._measure(parts, "reference", guarded)).by_task)
            watch.lap("reference")
        policy = parts.fleet.policy
        report = StepReport(step=0, policy=policy, metrics=metrics | counts, seconds=seconds | watch.seconds)
        self.emit(StepFinished(report=report))
        return tasks

    async def _check_demonstrations(self, parts: Parts[RecoveringLearner]) -> None:
        """Grade the demonstrations themselves."""
        tasks = self.prepared.tasks.train
        self.emit(PhaseStarted(text=f"grading demonstrations: {len(tasks)}"))
        measured, warning = await graded_demonstrations(
            parts.panel, tasks, self.run.graders, graders_by_family(self.run.data)
        )
        self.emit(measured)
        if warning:
            self.emit(Warned(text=warning))

    async def _finish_step(self, report: StepReport, parts: Parts[RecoveringLearner]) -> None:
        """Measure if this step is due for it, emit the complete step, and save if it is due for that.

        The line of a step precedes its checkpoint: if the run is killed between the two, the older checkpoint counts,
        and the step is done again. The time of a checkpoint is in the line of the next step.
        """
        step = report.step
        watch = Stopwatch()
        extra: dict[str, float] = {}
        seconds = dict(report.seconds)
        if self.checkpoint_s:
            seconds["checkpoint"], self.checkpoint_s = self.checkpoint_s, 0.0
        is_validated = self._is_validated(step) and not self.should_end()
        if is_validated:
            extra = await self._validate(parts, self._validation_tasks, step=step)
        if self.best.observe(step, {**report.metrics, **extra}):
            await self._keep_best(parts.learner, step)
        if is_validated:
            watch.lap("evaluate")
        metrics = {**report.metrics, **extra, **self.more_metrics()}
        self._warn(self._measurements.warnings(step, metrics))
        self.emit(StepFinished(report=replace(report, metrics=metrics, seconds=seconds | watch.seconds)))
        self.last_step = step
        if step % self.run.loop.checkpoint_every_steps == 0:
            await self._save(parts.learner)
        self.is_past_sampling = False

    def stop_measuring(self) -> None:
        """End the measurement of the current step, if one is in progress. The step completes without its metrics."""
        if self._validation is not None:
            self._validation.reschedule(asyncio.get_running_loop().time())

    async def _validate(self, parts: Parts[RecoveringLearner], tasks: Sequence[Task], *, step: int) -> dict[str, float]:
        """Return the metrics of a measurement; none if `stop_measuring` ends it."""
        try:
            async with asyncio.timeout(None) as self._validation:
                measured = await self._measure(parts, "validation", tasks, step=step)
        except TimeoutError:
            if self._validation is None or not self._validation.expired():  # raised by the measurement itself
                raise
            return {}
        finally:
            self._validation = None
        drops, warnings = self.guard.observe(measured.by_task)
        self._warn(warnings)
        return measured.to_metrics("eval") | drops | self._measurements.metrics(measured)

    def _warn(self, warnings: Sequence[str]) -> None:
        for warning in warnings:
            self.emit(Warned(text=warning))

    async def _keep_best(self, learner: RecoveringLearner, step: int) -> None:
        """Write the current policy into the run folder as the best one so far."""
        publication = await learner.publish()
        self.best.keep(step, replace(publication, weights=await learner.weights()))

    async def _return_to_best(self, parts: Parts[RecoveringLearner]) -> None:
        """Let the result be the policy of the best step, and let the samplers serve it; an interrupted run goes on."""
        best = None if self.should_end() else self.best.publication()
        if best is None or best.policy.version == self.last_step:
            return
        assert not isinstance(best.weights, StoredWeights)  # read from the run folder
        self.emit(Notice(text=f"the result is the policy of step {self.best.step}, which was measured best"))
        self.weights = best.weights
        await parts.fleet.load(best)

    async def _save(self, learner: RecoveringLearner) -> None:
        watch = Stopwatch()
        await learner.save()
        watch.lap("checkpoint")
        self.checkpoint_s = watch.seconds["checkpoint"]
        self.saved_step = self.last_step
        self.best.forget_others()
        self.emit(CheckpointSaved(step=self.saved_step))

    async def _measure_without_passages(self, parts: Parts[RecoveringLearner], phase: Phase) -> None:
        """Measure the held-out tasks with their own prompts, for `evaluation.arms`."""
        if self.run.evaluation.arms and (grounded := self.prepared.grounded) is not None:
            await self._measure(parts, phase, grounded.without_passages(self.prepared.held_out))

    async def _measure(
        self,
        parts: Parts[RecoveringLearner],
        phase: Phase,
        tasks: Sequence[Task],
        *,
        step: int | None = None,
        how: EvaluationConfig | None = None,
    ) -> Evaluation:
        """Measure tasks under the current policy."""
        how = how or self.run.evaluation
        self.emit(PhaseStarted(text=f"measuring {phase}: {plural(len(tasks), 'task')}"))
        evaluation = await evaluate(
            parts.sampler,
            parts.panel,
            tasks,
            policy=parts.fleet.policy,
            how=how,
            graders=self.run.graders,
            families=graders_by_family(self.run.data),
            purpose=PURPOSES.get(phase, phase),
        )
        self.emit(
            Measured(
                phase=phase,
                step=self.last_step if step is None else step,
                estimate=evaluation.estimate,
                groups=evaluation.groups,
            )
        )
        return evaluation
