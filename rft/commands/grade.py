"""`rft grade`: completions that were recorded, graded."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from rft.config import GradeConfig
from rft.grading import LoadedGrader, load_grader
from rft.grading.panel import Panel
from rft.grading.report import Graded, grading_summary, report_lines, score_lines
from rft.run.grader_samples import sample_rows
from rft.run.plan import print_plan
from rft.run_folder.completions import RecordedGroup, read_completions
from rft.run_folder.recorder import Recorder, prepare_output, refuse_output
from rft.terminal.interrupt import Interrupt
from rft.types import GradedGroup, Rollout

SCORES = "scores.jsonl"


def run_grading(config: GradeConfig, *, console: Console) -> int:
    """Grade from a checked configuration; write scores.jsonl and summary.json, and print what came out.

    Returns:
        The exit code: 0, 1 when not one completion got a reward, or 130 or 143 when it was interrupted; what was graded
        by then is written.

    Raises:
        RftError: With what went wrong and what to do.
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
            stopped = asyncio.run(grading.run(lambda count: progress.advance(bar, count), progress.console.print))
        finally:
            graded = grading.graded()
            recorder.document(SCORES, "".join(json.dumps(line) + "\n" for line in score_lines(graded)))
    summary = {
        "status": "finished" if stopped is None else "interrupted",
        "data": source,
        **grading_summary(graded, graders, grading.panel.counters, wall_s=grading.wall_s),
    }
    recorder.summary(summary)
    console.print(Text("\n".join([*report_lines(summary), "", f"scores and summary: {folder}"])), soft_wrap=True)
    return stopped if stopped is not None else 0 if summary["reward"]["n"] else 1


def check_grading(config: GradeConfig, *, console: Console) -> int:
    """Read recorded completions and load the graders, and print what would be graded.

    Returns:
        0.

    Raises:
        UsageError: With everything that is wrong.
    """
    refuse_output(Path(config.output_dir))
    source = config.data.completions or ""
    groups = read_completions(source, columns=config.data.columns, phase=config.data.phase)
    graders = [load_grader(name, spec) for name, spec in config.graders.items()]
    rows = {
        "completions": f"{sum(len(group.rollouts) for group in groups):,} of {len(groups):,} prompts, from {source}",
        "output folder": f"{config.output_dir} (free)",
    }
    print_plan(
        console, "the grading can start; it would be:", rows | sample_rows(graders, groups[0].task, config.grading)
    )
    return 0


class _Grading:
    """Grades groups side by side, and keeps those that are done."""

    def __init__(self, config: GradeConfig, groups: Sequence[RecordedGroup], graders: Sequence[LoadedGrader]) -> None:
        self._config = config.grading
        self._output_dir = config.output_dir
        self._groups = groups
        self._graders = graders
        self._done: dict[int, GradedGroup] = {}
        self.panel: Panel
        self.wall_s = 0.0

    async def run(self, advance: Callable[[int], None], say: Callable[[str], None]) -> int | None:
        """Grade all groups; the exit code when somebody interrupts.

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
                first = errors.exceptions[0]  # the one that made the task group cancel the rest
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
        """What is done, in the order of the groups."""
        return [
            (place, rollout.text, grade)
            for number, done in sorted(self._done.items())
            for place, rollout, grade in zip(self._groups[number].places, done.rollouts, done.grades, strict=True)
        ]


async def _stream(rollouts: Sequence[Rollout]) -> AsyncIterator[Rollout]:
    for rollout in rollouts:
        yield rollout


def _warn_of_unknown_lengths(groups: Sequence[RecordedGroup], graders: Sequence[LoadedGrader], to: Console) -> None:
    """Token ids are not recorded; where not even their number is, a grader of lengths would see none."""
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
