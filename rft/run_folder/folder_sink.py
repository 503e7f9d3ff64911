"""The run folder as a sink: rollouts.jsonl, metrics.jsonl and events.jsonl grow with the events of a run."""

from __future__ import annotations

from typing import Any

from rft.events import (
    CheckpointSaved,
    DuplicatesDropped,
    Event,
    FeasibilityMeasured,
    GraderCallRepeated,
    LearnerRestarted,
    LossMeasured,
    Measured,
    Notice,
    PartsStarted,
    PhaseStarted,
    RunEnded,
    RunStarted,
    SamplerJoined,
    SamplerLost,
    SamplerReplaced,
    StepFinished,
    StepTrained,
    Warned,
)
from rft.run_folder.recorder import FEASIBILITY, Recorder


class FolderSink:
    """Writes each event into the run folder immediately.

    Args:
        recorder: Writes the files.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def event(self, event: Event) -> None:
        """Write an event.

        Raises:
            WriteError: The disk is full or cannot be written.
        """
        match event:
            case PartsStarted():
                self._recorder.add_to_manifest(event.facts)
            case StepTrained():
                self._recorder.rollouts(
                    event.groups, step=event.report.step, phase="train", start_logprobs=event.start_logprobs
                )
            case Measured():
                self._recorder.rollouts(event.groups, step=event.step, phase=event.phase)
            case FeasibilityMeasured():
                self._recorder.rollouts(event.groups, step=0, phase="feasibility")
                self._recorder.json(FEASIBILITY, event.report)
            case LossMeasured():
                self._recorder.losses(event.by_task, step=event.step)
            case CheckpointSaved():
                self._recorder.sync()
            case StepFinished():
                self._recorder.metrics(event.report)
        self._recorder.event(*event_line(event))

    def close(self) -> None:
        """Finish the compression of rollouts; every line is already on disk."""
        self._recorder.close()


def event_line(event: Event) -> tuple[str, dict[str, Any]]:
    """Return the kind of an event, such as `step_finished`, and the values of its line in events.jsonl.

    The line omits rollouts, metrics, configuration and summary, which have their own files.
    """
    match event:
        case RunStarted():
            return "run_started", {"name": event.name, "steps": event.steps, "last_step": event.last_step}
        case PhaseStarted():
            return "phase_started", {"text": event.text}
        case Notice():
            return "notice", {"text": event.text}
        case Warned():
            return "warned", {"text": event.text}
        case SamplerLost():
            values = {"sampler": event.sampler, "reason": event.reason, "num_completions": event.num_completions}
            return "sampler_lost", values
        case SamplerReplaced():
            return "sampler_replaced", {"sampler": event.sampler, "seconds": event.seconds}
        case SamplerJoined():
            return "sampler_joined", {"sampler": event.sampler, "seconds": event.seconds}
        case DuplicatesDropped():
            return "duplicates_dropped", {"sampler": event.sampler, "num_completions": event.num_completions}
        case PartsStarted():
            return "parts_started", dict(event.facts)
        case Measured():
            return "measured", {"phase": event.phase, "step": event.step, **event.estimate.to_json()}
        case FeasibilityMeasured():
            return "feasibility_measured", {"verdict": event.report["verdict"]}
        case LossMeasured():
            return "loss_measured", {"step": event.step, "loss": event.loss}
        case StepTrained():
            return "step_trained", {"step": event.report.step}
        case CheckpointSaved():
            return "checkpoint_saved", {"step": event.step}
        case LearnerRestarted():
            return "learner_restarted", {"from_step": event.from_step, "redone_steps": event.redone_steps}
        case GraderCallRepeated():
            return "grader_call_repeated", {"grader": event.grader, "task_id": event.task_id, "reason": event.reason}
        case StepFinished():
            return "step_finished", {"step": event.report.step}
        case RunEnded():
            return "run_ended", {"status": event.status, "last_step": event.last_step, "resume": event.resume}
