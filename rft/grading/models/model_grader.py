"""Base of graders with a model, which has a process and a GPU share of its own in a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rft.grading.contract import LoadedGrader
from rft.grading.models.batches import ScoreRows
from rft.grading.models.reward_scorer import ScorerSettings

USES = ("reward_model",)
"""Values of `use` whose graders have a model."""


class ModelGrader:
    """Base of graders with a model. A run starts the model in a Ray actor; other commands load it in their process."""

    num_gpus: float | None
    """GPUs of the model's process, or its share of one; None divides the GPUs among all processes of a run."""
    start_timeout_s: float
    """Deadline for loading the model."""

    @property
    def settings(self) -> ScorerSettings:
        """The settings of the model."""
        raise NotImplementedError

    @property
    def model_fingerprint(self) -> str:
        """Hash of the model's files."""
        raise NotImplementedError

    def memory(self, *, on_gpu: bool) -> Mapping[str, int]:
        """Return the bytes of the model's process by part: weights and one batch."""
        raise NotImplementedError

    def connect(self, score_rows: ScoreRows) -> None:
        """Score with a model that is loaded elsewhere."""
        raise NotImplementedError

    def load_here(self) -> None:
        """Load the model in this process, unless it is loaded here or a run has started it. Blocks."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the model."""
        raise NotImplementedError


def model_graders(graders: Iterable[LoadedGrader]) -> dict[str, ModelGrader]:
    """Return the graders whose model a run starts in an actor, by name; users' own subclasses load theirs."""
    return {grader.name: model for grader in graders if grader.use in USES and (model := model_of(grader)) is not None}


def model_of(grader: LoadedGrader) -> ModelGrader | None:
    """Return a grader as a grader with a model; None if it has none."""
    target = getattr(grader.call, "__self__", None)
    return target if isinstance(target, ModelGrader) else None


def model_problem(grader: LoadedGrader) -> str | None:
    """Look for the files of a grader's model, and download them if they are on the hub.

    Returns:
        The reason why the model cannot be loaded; None if it can, or if the grader has no model.
    """
    model = model_of(grader)
    try:
        if model is not None:
            model.memory(on_gpu=False)
    except (OSError, ValueError) as error:
        return f"graders.{grader.name}: the model cannot be read: {str(error).partition(chr(10))[0]}"
    return None


def requested_gpus(entries: Mapping[str, Any]) -> list[float | None]:
    """Return the configured `num_gpus` of each grader with a model, in the order of the entries."""
    return [entry.get("num_gpus") for entry in entries.values() if entry.get("use") in USES]
