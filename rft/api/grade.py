"""`rft.grade`: grades recorded completions."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from rft.api.calls import configuration, make_console, pass_on_interrupt
from rft.config import GradeConfig
from rft.config.commands import load_grading
from rft.config.overrides import Overrides
from rft.grading import LoadedGrader, load_grader
from rft.grading.panel import Panel
from rft.grading.report import Graded, grading_summary, score_lines
from rft.run.forecast.plan import Plan
from rft.run.inputs.grader_samples import sample_rows
from rft.run_folder.completions import RecordedGroup, read_completions
from rft.run_folder.recorder import Recorder, prepare_output, refuse_output
from rft.terminal.event_loop import run_to_end
from rft.terminal.interrupt import Interrupt
from rft.types import GradedGroup, Rollout
from rft.wording import plural

SCORES = "scores.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Grading:
    """Recorded completions with their new grades.

    Example:
        Grading(folder=Path("runs/grade/..."), summary={"num_completions": 64, ...}, scores=({"reward": 1.0, ...}, ...))
    """

    folder: Path
    """Folder with scores.jsonl, summary.json and config.yaml."""
    summary: Mapping[str, Any]
    """Distributions of the rewards and of each grader's scores, as in summary.json."""
    scores: tuple[Mapping[str, Any], ...]
    """For each completion: `where` (file and line), `reward` and `scores` by grader, as in scores.jsonl."""

    def __repr__(self) -> str:
        reward = self.summary["reward"]
        mean = f"mean reward {reward['mean']:.3f}" if reward["n"] else "no rewards"
        return f"<rft.Grading {self.folder}: {plural(len(self.scores), 'completion')}, {mean}>"


def grade(*overrides: Overrides, quiet: bool = False) -> Grading:
    """Grade recorded completions, such as those of a run, with the graders of the configuration.

    Args:
        overrides: As on the command line of `rft grade`: `"data=completions.jsonl"`, or mappings.
        quiet: Print nothing.

    Raises:
        ConfigError: Contains all problems of the configuration.
        DataError: Contains all flaws of the completions.
        GradeError: A grader failed too often.
        KeyboardInterrupt: Ctrl-C ended the grading. The folder contains the grades so far.

    Example:
        grading = rft.grade({"data": run.folder, "graders.correct.use": "exact"})
        grading.summary["reward"]["mean"]
    """
    grading, exit_code = grade_completions(configuration(load_grading, overrides), make_console(quiet=quiet))
    pass_on_interrupt(exit_code)
    return grading


def grade_completions(config: GradeConfig, console: Console) -> tuple[Grading, int | None]:
    """Grade with a checked configuration, and write scores.jsonl and summary.json.

    Args:
        config: The configuration.
        console: Shows the progress.

    Returns:
        The grades, and the exit code if a signal ended the grading.

    Raises:
        RftError: The grading failed; the message gives reason and remedy.
    """
    source = config.data.completions or ""
    groups = read_completions(source, columns=config.data.columns, phase=config.data.phase)
    graders = [load_grader(name, spec) for name, spec in config.graders.items()]
    folder = Path(config.output_dir)
    prepare_output(folder)
    recorder = Recorder(folder)
    recorder.config(config.model_dump())
    _warn_of_unknown_lengths(groups, graders, console)
    grading = _Grading(config, groups, graders)
    total = sum(len(group.rollouts) for group in groups)
    columns = (TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("grading", total=total)
        try:
            stopped = run_to_end(grading.run(lambda count: progress.advance(bar, count), progress.console.print))
        finally:
            graded = grading.graded()
            scores = score_lines(graded)
            recorder.document(SCORES, "".join(json.dumps(line) + "\n" for line in scores))
    summary = {
        "status": "finished" if stopped is None else "interrupted",
        "data": source,
        **grading_summary(graded, graders, grading.panel.counters, wall_s=grading.wall_s),
    }
    recorder.summary(summary)
    return Grading(folder=folder, summary=summary, scores=tuple(scores)), stopped


def plan_grading(config: GradeConfig) -> Plan:
    """Read recorded completions and load the graders, to plan the grading.

    Raises:
        UsageError: Contains all problems.
    """
    refuse_output(Path(config.output_dir))
    source = config.data.completions or ""
    groups = read_completions(source, columns=config.data.columns, phase=config.data.phase)
    graders = [load_grader(name, spec) for name, spec in config.graders.items()]
    num_completions = sum(len(group.rollouts) for group in groups)
    rows = {
        "completions": f"{num_completions:,} of {plural(len(groups), 'prompt')}, from {source}",
        "output folder": f"{config.output_dir} (free)",
    }
    rows |= sample_rows(graders, [groups[0].task], config.grading)
    return Plan(title="the grading can start with these settings:", rows=rows)


class _Grading:
    """Grades groups side by side, and keeps finished groups."""

    def __init__(self, config: GradeConfig, groups: Sequence[RecordedGroup], graders: Sequence[LoadedGrader]) -> None:
        self._config = config.grading
        self._output_dir = config.output_dir
        self._groups = groups
        self._graders = graders
        self._done: dict[int, GradedGroup] = {}
        self.panel: Panel
        self.wall_s = 0.0

    async def run(self, advance: Callable[[int], None], say: Callable[[str], None]) -> int | None:
        """Grade all groups; return the exit code after an interruption.

        Raises:
            GradeError: A grader failed too often.
        """
        how = self._config
        self.panel = Panel(
            self._graders,
            max_concurrency=how.max_concurrency,
            max_fault_share=how.max_fault_share,
            fault_window=how.fault_window_completions,
            num_workers=how.num_workers,
            worker_memory_mb=how.worker_memory_mb,
            cache_folder=Path(how.cache_folder).expanduser() if how.cache_folder else None,
            log_folder=Path(self._output_dir),
        )
        started = time.monotonic()
        numbers = iter(range(len(self._groups)))

        async def grade_some() -> None:
            for number in numbers:
                group = self._groups[number]
                (self._done[number],) = await self.panel.grade(
                    [group.task], _stream(group.rollouts), rollouts_per_task=len(group.rollouts)
                )
                advance(len(group.rollouts))

        with Interrupt(say) as interrupt:
            try:
                async with asyncio.TaskGroup() as several:
                    for _ in range(min(how.max_concurrency, len(self._groups))):
                        several.create_task(grade_some())
            except BaseExceptionGroup as errors:
                first = errors.exceptions[0]  # the error that made the task group cancel the rest
            except asyncio.CancelledError:
                if interrupt.exit_code is None:
                    raise
                return interrupt.exit_code
            else:
                return None
            finally:
                self.wall_s = time.monotonic() - started
                self.panel.close()
        raise first

    def graded(self) -> list[Graded]:
        """Return finished groups, in order."""
        return [
            (place, rollout.text, grade)
            for number, done in sorted(self._done.items())
            for place, rollout, grade in zip(self._groups[number].places, done.rollouts, done.grades, strict=True)
        ]


async def _stream(rollouts: Sequence[Rollout]) -> AsyncIterator[Rollout]:
    for rollout in rollouts:
        yield rollout


def _warn_of_unknown_lengths(groups: Sequence[RecordedGroup], graders: Sequence[LoadedGrader], to: Console) -> None:
    """Warn if the number of tokens is not recorded, because a grader of length would see none."""
    unknown = [
        group.places[0] for group in groups if any(one.text and not one.completion_ids for one in group.rollouts)
    ]
    taking = [grader.name for grader in graders if {"rollout", "rollouts"} & set(grader.takes)]
    if unknown and taking:
        text = (
            f"warning: {unknown[0]} and others have no num_completion_tokens; to {', '.join(taking)}, who may look at "
            "a rollout's tokens, these completions have none"
        )
        to.print(Text(text), soft_wrap=True)
