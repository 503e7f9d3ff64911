"""`rft audit`: graders, probed before they train anything."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from rft.auditing.bench import Bench
from rft.auditing.examine import Looked, as_object, examine, verdict
from rft.auditing.page import page
from rft.auditing.subject import Recorded, Subject
from rft.auditing.terminal import print_report
from rft.config import AuditConfig, audit_folder
from rft.data.tasks import read_tasks
from rft.errors import DataError
from rft.grading import load_grader
from rft.grading.loading.targets import did_you_mean
from rft.grading.verdicts import FAILED, Verdict, identities, keep_verdict
from rft.redaction import redacted
from rft.run.grader_samples import sample_rows
from rft.run.plan import print_plan
from rft.run_folder.completions import read_completions
from rft.run_folder.recorder import Recorder, prepare_output, refuse_output
from rft.types import Split, Task

REPORT, PAGE = "audit.json", "audit.html"


def run_audit(config: AuditConfig, *, console: Console) -> int:
    """Audit from a checked configuration; write audit.json and audit.html, keep the verdict, and print the report.

    Returns:
        The exit code: 0, or 1 when a probe failed.

    Raises:
        RftError: With what went wrong and what to do.
    """
    tasks = audited_tasks(config)
    recorded = _recorded(config.completions, config.data.max_tasks) if config.completions else ()
    folder = Path(config.output_dir)
    prepare_output(folder)
    recorder = Recorder(folder)
    recorder.config(config.model_dump())
    started = time.monotonic()
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
    ) as progress:
        shown = progress.add_task("starting")
        count = 0

        def graded() -> None:
            nonlocal count
            count += 1
            progress.update(shown, completed=count)

        bench = Bench(
            config.graders,
            max_concurrency=config.grading.max_concurrency,
            num_workers=config.grading.num_workers,
            count=graded,
        )
        subject = Subject(
            bench=bench,
            tasks=tasks,
            gold=config.gold,
            template=config.template,
            recorded=recorded,
            completions_per_prompt=config.completions_per_prompt,
            completions_per_step=config.completions_per_step,
        )
        looked = asyncio.run(_examined(subject, lambda name: progress.update(shown, description=f"auditing: {name}")))
    report = as_object(
        subject, looked, tasks=str(redacted(config.data.tasks or "")), seconds=time.monotonic() - started
    )
    recorder.document(REPORT, json.dumps(report, indent=2, allow_nan=False) + "\n")
    recorder.document(PAGE, page(report))
    _keep_verdict(config, report, folder)
    print_report(console, report, folder=folder, page=folder / PAGE)
    return int(verdict(looked) == FAILED)


def check_audit(config: AuditConfig, *, console: Console) -> int:
    """Read the tasks of an audit and load the graders, and print what would be probed.

    Returns:
        0.

    Raises:
        UsageError: With everything that is wrong.
    """
    refuse_output(Path(config.output_dir))
    tasks = audited_tasks(config)
    graders = [load_grader(name, spec) for name, spec in config.graders.items()]
    with_gold = sum(task.item.get(config.gold) is not None for task in tasks)
    rows = {
        "tasks": f"{len(tasks):,} of {config.data.tasks}, {with_gold} with a reference ({config.gold})",
        "output folder": f"{config.output_dir} (free)",
    }
    print_plan(console, "the audit can start; it would be:", rows | sample_rows(graders, tasks[0], config.grading))
    return 0


def audited_tasks(config: AuditConfig) -> list[Task]:
    """The tasks of an audit.

    Raises:
        DataError: With every flaw of their source, or the one reason why it cannot be read at all; or no row has the
            column of references.
    """
    source = config.data.tasks or ""
    tasks = read_tasks(source, key="data", split=Split.TRAIN, columns=config.data.columns, system=None)
    tasks = tasks[: config.data.max_tasks]
    _check_gold(config.gold, tasks)
    return tasks


def _check_gold(column: str, tasks: Sequence[Task]) -> None:
    """Refuse a column of references that no row has. The default may be missing: tasks need no references.

    Raises:
        DataError: With the columns that there are.
    """
    columns = list(dict.fromkeys(name for task in tasks for name in task.item))
    if column not in columns and column != AuditConfig.model_fields["gold"].default:
        there = f"there are {', '.join(columns)}" if columns else "the rows have no columns but the prompt"
        raise DataError("data", [f"gold={column}: no row has this column{did_you_mean(column, columns)}; {there}"])


def _keep_verdict(config: AuditConfig, report: Mapping[str, Any], folder: Path) -> None:
    """Keep the verdict where `rft train` looks for it, unless the configuration keeps none."""
    kept = audit_folder(config.grading)
    if kept is None:
        return
    failed = tuple(probe["name"] for probe in report["probes"] if probe["result"] == FAILED)
    keep_verdict(
        kept,
        Verdict(
            verdict=report["verdict"],
            failed=failed,
            time=report["time"],
            report=str(folder),
            graders=identities(config.graders),
        ),
    )


async def _examined(subject: Subject, starting: Callable[[str], None]) -> list[Looked]:
    try:
        return await examine(subject, starting=starting)
    finally:
        subject.bench.close()


def _recorded(source: str, max_tasks: int) -> Recorded:
    """The base model's completions in a run, or all completions where no policy is the base model."""
    groups = read_completions(source, columns={}, phase=None)
    by_task = [(group.task, group.rollouts) for group in groups]
    base = [(task, [one for one in some if one.policy.version == 0]) for task, some in by_task]
    of_base = [(task, some) for task, some in base if some]
    return (of_base or by_task)[:max_tasks]
