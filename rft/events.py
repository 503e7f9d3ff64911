"""The events of a run, in the order in which it emits them, and the sinks that receive them.

    RunStarted                          once
    PhaseStarted, Notice, Warned        at any time
    SamplerLost, SamplerReplaced,       at any time
    SamplerJoined,
    DuplicatesDropped
    PartsStarted                        when samplers and learner are ready
    Measured                            held-out tasks: before, during and after the run
    FeasibilityMeasured                 before the first step, with feasibility=warn or refuse
    LossMeasured                        before the StepTrained of its step, if the run learns from demonstrations
    StepTrained ... StepFinished        for each step; Measured comes between the two
    CheckpointSaved                     after the StepFinished of its step
    LearnerRestarted                    after the loss of a process of the learner
    GraderCallRepeated                  after the loss of a worker process of graders
    RunEnded                            once, for every outcome

A sink is any object with the two methods of `Sink`. Events are frozen; a sink must not change what they refer to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rft.config.phases import Phase as Phase
from rft.metrics.intervals import Estimate
from rft.sampling.sampler_events import DuplicatesDropped as DuplicatesDropped
from rft.sampling.sampler_events import SamplerJoined as SamplerJoined
from rft.sampling.sampler_events import SamplerLost as SamplerLost
from rft.sampling.sampler_events import SamplerReplaced as SamplerReplaced
from rft.types import GradedGroup, StepReport


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run starts, or a resumed run continues."""

    name: str
    """`name` of the configuration."""
    folder: Path
    """The run folder."""
    config: Mapping[str, Any]
    """The resolved configuration as plain values, without secrets."""
    steps: int
    """Steps of the whole run, including those before a resume."""
    last_step: int = 0
    """The step of the checkpoint from which the run continues; 0 for a new run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted:
    """The run enters a phase, such as `starting Ray` or `measuring before: 250 tasks`."""

    text: str
    """The phase. Text after a colon is detail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Information for the user, such as the nodes on which the run's processes are placed."""

    text: str
    """One or more lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """A warning for the user, which does not end the run."""

    text: str
    """One sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsStarted:
    """Samplers and learner are ready."""

    facts: Mapping[str, Any]
    """Entries of manifest.json that are known only now, as JSON values: `samplers`, for example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Tasks were sampled and graded under the policy that the samplers serve."""

    phase: Phase
    """The purpose of the measurement."""
    step: int
    """The last step that the policy was trained on; 0 for the base model."""
    estimate: Estimate
    """Mean of the metric over tasks, with its 95% interval."""
    groups: tuple[GradedGroup, ...]
    """All rollouts with their grades."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeasibilityMeasured:
    """Training tasks were sampled before the first step, to judge whether the run is worth its time."""

    report: Mapping[str, Any]
    """The content of feasibility.json."""
    groups: tuple[GradedGroup, ...]
    """All rollouts with their grades."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossMeasured:
    """The learner scored the answers of validation tasks, after a step on demonstrations."""

    step: int
    """The step."""
    loss: float
    """Mean negative log-likelihood of the answers' tokens."""
    by_task: Mapping[str, float]
    """Mean over the tokens of each task's answers, by task id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTrained:
    """A step is sampled, graded and learned, and its policy is synced."""

    report: StepReport
    """The step's numbers."""
    groups: tuple[GradedGroup, ...]
    """All rollouts of the step with their grades, including those of replaced groups."""
    start_logprobs: Sequence[Sequence[float] | None] = ()
    """`[..][C]` log-probabilities of the first completions under the start of the run, at the sampler's temperature;
    None for a completion that the learner did not compare. Empty if it compared none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved:
    """A checkpoint is complete on disk."""

    step: int
    """The step from which the checkpoint continues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerRestarted:
    """The learner starts again after the loss of a process; a warning states the reason."""

    from_step: int
    """The step of the checkpoint from which it continues; 0 for the base model."""
    redone_steps: int
    """Number of steps that it takes again from recorded batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraderCallRepeated:
    """A call of a grader is repeated, because its worker process was killed or suspended from outside."""

    grader: str
    """The grader's name."""
    task_id: str
    """The task of the graded completions."""
    reason: str
    """The end of the worker process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished:
    """A step is complete, including its measurement. Step 0 covers the work before the first step."""

    report: StepReport
    """The step's line in metrics.jsonl."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The run ended, and its summary is on disk. Only notices about its copy in storage may follow."""

    status: str
    """`finished`, `interrupted`, `pruned` or `failed`."""
    last_step: int
    """The last complete step."""
    summary: Mapping[str, Any]
    """The content of summary.json."""
    paths: Mapping[str, Path]
    """Paths of the results by name: `run`, `plot`, `adapter` or `model`."""
    resume: str | None
    """The command that continues the run; None for a run that finished, or that has no checkpoint."""


Event = (
    RunStarted
    | PhaseStarted
    | Notice
    | Warned
    | SamplerLost
    | SamplerReplaced
    | SamplerJoined
    | DuplicatesDropped
    | PartsStarted
    | Measured
    | FeasibilityMeasured
    | LossMeasured
    | StepTrained
    | CheckpointSaved
    | LearnerRestarted
    | GraderCallRepeated
    | StepFinished
    | RunEnded
)
"""Any event of a run."""

Emit = Callable[[Event], None]
"""Passes an event to the sinks."""


class Sink(Protocol):
    """Receives the events of a run, one at a time and in order."""

    def event(self, event: Event) -> None:
        """Handle one event. New kinds of events may be added; ignore those that you do not know."""

    def close(self) -> None:
        """Release resources; no event follows."""
