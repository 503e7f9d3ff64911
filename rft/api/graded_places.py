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
from rft.evidence.measured import Measured, grader_versions, read_scores
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


def with_added_graders(one: Measured, keys: Sequence[str], *, out: Path, problems: list[str]) -> Measured:
    """Return a measurement that is not made yet with the graders that will grade it. Arguments like `plan_gradings`."""
    config = collect(problems, lambda: _config_of(one, keys, out))
    return one if config is None else collect(problems, lambda: _expected(one, config)) or one


def _plan(one: Measured, keys: Sequence[str], out: Path) -> PlannedGrading | None:
    config = _config_of(one, keys, out)
    if config is None:
        return None
    read_completions(str(one.place), columns={}, phase=config.data.phase)  # refuses what cannot be graded
    expected = _expected(one, config)
    graders = {name: expected.graders[name] for name in config.graders}
    digest = hashlib.sha256(json.dumps([graders, one.phase], sort_keys=True).encode())
    for file in rollout_paths(one.place) or [one.place]:
        digest.update(file.read_bytes())
    folder, is_finished = free_or_finished(out, f"{one.name}-graded", digest.hexdigest())
    config = config.model_copy(update={"output_dir": str(folder), "name": "compare"})
    return PlannedGrading(config=config, folder=folder, is_finished=is_finished, expected=expected)


def _config_of(one: Measured, keys: Sequence[str], out: Path) -> GradeConfig | None:
    """Return the grading of a measurement with the graders that it lacks; None if it lacks none."""
    words = [word for name, own in words_of_graders(keys).items() if name not in one.samples for word in own]
    source = {"data.completions": str(one.place), "data.phase": one.phase if one.place.is_dir() else None}
    return load_grading([*words, *to_words([{**source, "output_dir": str(out / "new")}])]) if words else None


def _expected(one: Measured, config: GradeConfig) -> Measured:
    code = {name: load_grader(name, spec).sha256 for name, spec in config.graders.items()}
    graders = grader_versions(redacted(config.model_dump()), code)
    return replace(
        one,
        samples={**one.samples, **{name: {} for name in code}},
        missing={**one.missing, **dict.fromkeys(code, 0)},
        bounds={**one.bounds, **{name: metric_bounds(config.graders, name) for name in code}},
        graders={**one.graders, **{name: graders[name] for name in code}},
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
