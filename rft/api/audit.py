"""`rft.audit`: probes the graders of a run, or its environment, before training."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from rft.api.audit_environment import audited_environment, environment_tasks, plan_environment_audit
from rft.api.calls import configuration, make_console
from rft.auditing.audit_panel import AuditPanel
from rft.auditing.examine import ProbeOutcome, build_report, examine
from rft.auditing.grader_profile import GraderProfile, Recorded
from rft.auditing.page import page
from rft.config import AuditConfig, audit_folder
from rft.config.commands import load_audit
from rft.config.environment import plays_episodes
from rft.config.overrides import Overrides
from rft.data.splits import TaskSets
from rft.data.tasks import read_tasks
from rft.errors import DataError
from rft.grading import load_grader
from rft.grading.loading.targets import did_you_mean
from rft.grading.verdicts import FAILED, PASSED, Verdict, identities, keep_verdict, own_functions
from rft.redaction import redacted
from rft.run.forecast.plan import Plan
from rft.run.inputs.fitting import Reuse
from rft.run.inputs.grader_samples import sample_rows
from rft.run.inputs.grounded_tasks import grounded_tasks
from rft.run_folder.completions import read_completions
from rft.run_folder.recorder import Recorder, prepare_output, refuse_output
from rft.terminal.event_loop import run_to_end
from rft.types import Split, Task

REPORT, PAGE = "audit.json", "audit.html"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Audit:
    """The result of an audit.

    Example:
        Audit(folder=Path("runs/audit/..."), report={"verdict": "failed", "probes": [...], ...})
    """

    folder: Path
    """Holds audit.json, audit.html and config.yaml."""
    report: Mapping[str, Any]
    """The content of audit.json: the verdict, and each probe with its finding and its worst examples."""

    @property
    def passed(self) -> bool:
        """Whether no probe failed or was inconclusive."""
        return bool(self.report["verdict"] == PASSED)

    @property
    def failed_probes(self) -> list[str]:
        """Names of the probes that failed."""
        return [probe["name"] for probe in self.report["probes"] if probe["result"] == FAILED]

    @property
    def page(self) -> Path:
        """The report as an HTML page."""
        return self.folder / PAGE

    def __repr__(self) -> str:
        failed = f" {', '.join(self.failed_probes)}" if self.failed_probes else ""
        return f"<rft.Audit {self.folder}: {self.report['verdict']}{failed}>"


def audit(*overrides: Overrides, quiet: bool = False) -> Audit:
    """Probe graders, or an environment, for weaknesses that a policy would exploit during training.

    Args:
        overrides: As on the command line of `rft audit`: `"data=tasks.jsonl"`, or mappings.
        quiet: Print nothing.

    Raises:
        ConfigError: The configuration is invalid; the message lists all problems.
        DataError: The tasks have flaws; the message lists them.

    Example:
        audit = rft.audit("data=tasks.jsonl", "graders.correct.use=numeric")  # or "environment.use=my_env.py:guess"
        assert audit.passed, audit.failed_probes
    """
    return audit_graders(configuration(load_audit, overrides), make_console(quiet=quiet))


def audit_graders(config: AuditConfig, console: Console) -> Audit:
    """Run an audit, and write audit.json and audit.html. The verdict of graders is kept for `rft train`.

    Args:
        config: The configuration.
        console: Shows the progress.

    Raises:
        RftError: The audit cannot run; the message has the reason and a remedy.
    """
    if plays_episodes(config):
        return _audit_environment(config, console)
    tasks = audited_tasks(config)
    recorded = _recorded(config.completions, config.data.max_tasks) if config.completions else ()
    recorder = _opened(config)
    started = time.monotonic()
    with _shown(console) as (graded, starting):
        panel = AuditPanel(
            config.graders,
            max_concurrency=config.grading.max_concurrency,
            num_workers=config.grading.num_workers,
            worker_memory_mb=config.grading.worker_memory_mb,
            count=graded,
        )
        profile = GraderProfile(
            panel=panel,
            tasks=tasks,
            gold=config.gold,
            template=config.template,
            relevant=config.retrieval.relevant,
            recorded=recorded,
            completions_per_prompt=config.completions_per_prompt,
            completions_per_step=config.completions_per_step,
        )
        outcomes = run_to_end(_examined(profile, starting))
    report = build_report(
        profile, outcomes, tasks=str(redacted(config.data.tasks or "")), seconds=time.monotonic() - started
    )
    audit = _written(recorder, report)
    _keep_verdict(config, audit)
    return audit


def _audit_environment(config: AuditConfig, console: Console) -> Audit:
    tasks, recorder = environment_tasks(config), _opened(config)
    with _shown(console) as (played, starting):
        report = run_to_end(audited_environment(config, tasks, played=played, starting=starting))
    return _written(recorder, report)


def _opened(config: AuditConfig) -> Recorder:
    folder = Path(config.output_dir)
    prepare_output(folder)
    recorder = Recorder(folder)
    recorder.config(config.model_dump())
    return recorder


def _written(recorder: Recorder, report: Mapping[str, Any]) -> Audit:
    recorder.document(REPORT, json.dumps(report, indent=2, allow_nan=False) + "\n")
    recorder.document(PAGE, page(report))
    return Audit(folder=recorder.folder, report=report)


def plan_audit(config: AuditConfig) -> Plan:
    """Read the tasks, load the graders, and return the plan of the audit.

    Raises:
        UsageError: The message lists all problems.
    """
    if plays_episodes(config):
        return plan_environment_audit(config)
    refuse_output(Path(config.output_dir))
    tasks = audited_tasks(config)
    graders = [load_grader(name, spec) for name, spec in config.graders.items()]
    with_gold = sum(task.item.get(config.gold) is not None for task in tasks)
    rows = {
        "tasks": f"{len(tasks):,} of {config.data.tasks}, {with_gold} with a reference ({config.gold})",
        "output folder": f"{config.output_dir} (free)",
    }
    rows |= sample_rows(graders, tasks[:1], config.grading)
    return Plan(title="the audit can start with these settings:", rows=rows)


def audited_tasks(config: AuditConfig) -> list[Task]:
    """Return the tasks of an audit, with passages if it has a store.

    Raises:
        DataError: The source has flaws or cannot be read, or no task has the column of references.
        UsageError: Rows, templates or the store do not fit.
        RetrievalError: Too many searches failed.
    """
    source = config.data.tasks or ""
    tasks = read_tasks(source, key="data", split=Split.TRAIN, columns=config.data.columns, system=None)
    tasks = tasks[: config.data.max_tasks]
    _check_gold(config.gold, tasks)
    grounded = grounded_tasks(config, TaskSets(train=tasks, validation=[], test=[]), Reuse())
    return tasks if grounded is None else grounded.tasks.train


def _check_gold(column: str, tasks: Sequence[Task]) -> None:
    """Refuse a column of references that no task has. The default column may be missing.

    Raises:
        DataError: No task has the column; the message lists the columns.
    """
    columns = list(dict.fromkeys(name for task in tasks for name in task.item))
    if column not in columns and column != AuditConfig.model_fields["gold"].default:
        present = f"the columns are {', '.join(columns)}" if columns else "the rows have only a prompt"
        raise DataError("data", [f"gold={column}: no row has this column{did_you_mean(column, columns)}; {present}"])


def _keep_verdict(config: AuditConfig, audit: Audit) -> None:
    """Keep the verdict where `rft train` looks for it, unless the configuration keeps none."""
    kept = audit_folder(config.grading)
    if kept is None:
        return
    keep_verdict(
        kept,
        Verdict(
            verdict=audit.report["verdict"],
            failed=tuple(audit.failed_probes),
            time=audit.report["time"],
            report=str(audit.folder),
            graders=identities(config.graders),
            functions=own_functions(config.graders),
        ),
    )


@contextmanager
def _shown(console: Console) -> Iterator[tuple[Callable[[], None], Callable[[str], None]]]:
    """Show the progress; yield callbacks for each graded completion and for the name of each probe."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        shown = progress.add_task("starting")
        yield (
            lambda: progress.advance(shown),
            lambda name: progress.update(shown, description=f"auditing: {name}"),
        )


async def _examined(profile: GraderProfile, starting: Callable[[str], None]) -> list[ProbeOutcome]:
    try:
        return await examine(profile, starting=starting)
    finally:
        profile.panel.close()


def _recorded(source: str, max_tasks: int) -> Recorded:
    """Return a run's completions of the base model, or all completions if none is of the base model."""
    groups = read_completions(source, columns={}, phase=None)
    by_task = [(group.task, group.rollouts) for group in groups]
    base = [(task, [rollout for rollout in rollouts if rollout.policy.version == 0]) for task, rollouts in by_task]
    return ([(task, rollouts) for task, rollouts in base if rollouts] or by_task)[:max_tasks]
