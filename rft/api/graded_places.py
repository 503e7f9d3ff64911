"""Grades the recorded completions of `rft compare` with graders that their runs did not have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from rft.api.calls import pass_on_interrupt
from rft.api.grade import SCORES, grade_completions
from rft.api.measured_places import free_or_finished
from rft.config import GradeConfig
from rft.config.commands import load_grading
from rft.config.like_run import words_of_graders
from rft.config.overrides import to_words
from rft.evidence.measured import Measured, graders_of, read_scores
from rft.grading import load_grader
from rft.metrics.held_out import metric_bounds
from rft.redaction import redacted
from rft.run.inputs.fitting import collect
from rft.run_folder.completions import read_completions
from rft.run_folder.rollout_files import rollout_paths


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedGrading:
    """A grading whose inputs are checked.

    Example:
        PlannedGrading(config=GradeConfig(...), folder=Path("runs/compare/first-graded-1f0c2a9b77d3"),
                       is_finished=False, expected=Measured(...))
    """

    config: GradeConfig
    """The configuration."""
    folder: Path
    """The folder of the grading."""
    is_finished: bool
    """Whether an earlier call graded the same."""
    expected: Measured
    """The recorded measurement with the new graders, which have no values yet."""


def plan_gradings(
    measured: Sequence[Measured], keys: Sequence[str], *, out: Path, problems: list[str]
) -> list[PlannedGrading | None]:
    """Plan the grading of each measurement with the graders of the command line that it lacks; None if it lacks none.

    Args:
        measured: Recorded measurements.
        keys: Keys of the command line.
        out: The folder with the folders of gradings.
        problems: Receives all problems.
    """
    return [collect(problems, partial(_plan, one, keys, out)) for one in measured]


def _plan(one: Measured, keys: Sequence[str], out: Path) -> PlannedGrading | None:
    words = [word for name, own in words_of_graders(keys).items() if name not in one.samples for word in own]
    if not words:
        return None
    source = {"data.completions": str(one.place), "data.phase": one.phase if one.place.is_dir() else None}
    config = load_grading([*words, *to_words([{**source, "output_dir": str(out / "new")}])])
    read_completions(str(one.place), columns={}, phase=config.data.phase)  # refuses what cannot be graded
    code = {name: load_grader(name, spec).sha256 for name, spec in config.graders.items()}
    values = redacted(config.model_dump())
    digest = hashlib.sha256(json.dumps([values["graders"], code, one.phase], sort_keys=True, default=str).encode())
    for file in rollout_paths(one.place) or [one.place]:
        digest.update(file.read_bytes())
    folder, is_finished = free_or_finished(out, f"{one.name}-graded", digest.hexdigest())
    graders = {name: text for name, text in graders_of(values, code).items() if name != "reward"}
    return PlannedGrading(
        config=config.model_copy(update={"output_dir": str(folder), "name": "compare"}),
        folder=folder,
        is_finished=is_finished,
        expected=replace(
            one,
            samples={**one.samples, **{name: {} for name in graders}},
            missing={**one.missing, **dict.fromkeys(graders, 0)},
            bounds={**one.bounds, **{name: metric_bounds(config.graders, name) for name in graders}},
            graders={**one.graders, **graders},
        ),
    )


def grade_planned(planned: PlannedGrading, console: Console) -> Measured:
    """Grade, unless an earlier call has; return the measurement with the new scores.

    Raises:
        RftError: The grading failed.
        KeyboardInterrupt: Ctrl-C ended the grading.
    """
    config, one = planned.config, planned.expected
    if not planned.is_finished:
        _, stopped = grade_completions(config, console)
        if stopped is not None:
            pass_on_interrupt(stopped)
            raise KeyboardInterrupt  # the signal had no effect, and there is nothing to compare
    tasks: Mapping[str, str] = {
        place: group.task.id
        for group in read_completions(str(one.place), columns={}, phase=config.data.phase)
        for place in group.places
    }
    samples, missing = read_scores(planned.folder / SCORES, tasks, [*config.graders])
    return replace(one, samples={**one.samples, **samples}, missing={**one.missing, **missing})
