"""`pipeline.json`, which records a pipeline in its folder, and the table at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rft.config.recorded_words import key_of
from rft.config.recorded_yaml import read_yaml
from rft.errors import OutputError
from rft.metrics.held_out import metric_bounds
from rft.metrics.intervals import Estimate, paired_difference
from rft.pipeline.stages import PlacedStage
from rft.run_folder.recorded_scores import recorded_by_task
from rft.run_folder.recorder import CONFIG, read_rollouts, write_json

RECORD = "pipeline.json"
MAY_CHANGE_ON_RESUME = ("dry_run", "or_resume")
MEASURED = ("before", "after", "difference")
OF_A_MEASUREMENT = {
    "evaluation": ("metric", "temperature"),
    "sampler": ("max_completion_tokens", "stop"),
    "data": ("shots", "format", "system"),
    "model": ("chat_template", "chat_template_kwargs"),
}
"""Keys on which a score depends, besides policy, task and graders."""


class _Record(BaseModel):
    """The part of pipeline.json that is read again."""

    words: list[str]


def begin(folder: Path, words: Sequence[str], stages: Sequence[PlacedStage]) -> None:
    """Record a new pipeline, or accept the same one that has begun before.

    Args:
        folder: The pipeline's folder.
        words: The arguments of `rft pipeline`, without secrets.
        stages: The stages.

    Raises:
        OutputError: The folder contains another pipeline.
        WriteError: The folder cannot be written.
    """
    if (folder / RECORD).is_file():
        if _fixed(recorded_words(folder)) != _fixed(words):
            problem = (
                f"{folder} holds a pipeline with another command; continue that one with resume={folder}, or use "
                "another output_dir"
            )
            raise OutputError("output folder", [problem])
        return
    record(folder, words, stages, status="unfinished")


def recorded_words(folder: Path) -> list[str]:
    """Return the command line of a recorded pipeline.

    Raises:
        OutputError: The folder contains no pipeline, or its record is damaged.
    """
    file = folder / RECORD
    if not file.is_file():
        raise OutputError("resume", [f"resume={folder}: the folder contains no pipeline (no {RECORD})"])
    try:
        return _Record.model_validate_json(file.read_bytes()).words
    except ValidationError as error:
        problem = f"{file} is damaged, or rft did not write it; repeat the command of the pipeline with --or-resume"
        raise OutputError("resume", [problem]) from error


def record(folder: Path, words: Sequence[str], stages: Sequence[PlacedStage], *, status: str) -> dict[str, Any]:
    """Write pipeline.json, and return its content.

    Args:
        folder: The pipeline's folder.
        words: The arguments of `rft pipeline`, without secrets.
        stages: The stages.
        status: `unfinished`, `finished`, `interrupted` or `failed`.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    whole, why = whole_difference(stages) if status == "finished" else (None, "")
    content = {
        "status": status,
        "words": list(words),
        "stages": [entry_of(stage) for stage in stages],
        "difference": None if whole is None else whole.to_json(),
        "not_compared": why,
    }
    write_json(folder / RECORD, content)
    return content


def whole_difference(stages: Sequence[PlacedStage]) -> tuple[Estimate | None, str]:
    """Return the last stage's result minus the first stage's start, paired by task, or None and why there is none."""
    first, last = (read_yaml(stages[place].folder / CONFIG, what="pipeline") for place in (0, -1))
    metric = last["evaluation"]["metric"]
    if different := _different(first, last):
        return None, f"first and last stage differ in {', '.join(different)}"
    before = recorded_by_task(read_rollouts(stages[0].folder, "before"), metric)
    after = recorded_by_task(read_rollouts(stages[-1].folder, "after"), metric)
    if not before.keys() & after.keys():
        return None, "first and last stage have measured no task in common"
    return paired_difference(before, after, bounds=metric_bounds(last["graders"], metric)), ""


def _different(first: Mapping[str, Any], last: Mapping[str, Any]) -> list[str]:
    """Return the keys that give the scores of two runs different meanings."""
    metric = last["evaluation"]["metric"]
    keys = [
        f"{section}.{key}"
        for section, names in OF_A_MEASUREMENT.items()
        for key in names
        if first[section].get(key) != last[section].get(key)
    ]
    graders = [run["graders"] if metric == "reward" else run["graders"].get(metric) for run in (first, last)]
    return keys if graders[0] == graders[1] else [*keys, "graders"]


def entry_of(stage: PlacedStage) -> dict[str, Any]:
    """Return the entry of a stage in pipeline.json: its status, and the results so far."""
    summary = stage.summary
    entry = {
        "name": stage.stage.name,
        "folder": stage.folder.name,
        "status": summary.get("status", "unfinished" if (stage.folder / CONFIG).is_file() else "not started"),
    }
    if summary:
        entry |= {"steps": summary["steps"], **{name: summary["eval"].get(name) for name in MEASURED}}
    return entry


def print_results(console: Console, content: dict[str, Any]) -> None:
    """Print the results of a pipeline.

    Args:
        console: Output.
        content: Result of `record`.
    """
    print_stages(console, content["stages"])
    if content["difference"]:
        whole = Estimate.from_json(content["difference"]).text(signed=True)
        console.print(Text(f"whole pipeline, paired by task: {whole}", style="bold"), soft_wrap=True)
    elif content["not_compared"]:
        console.print(Text(f"whole pipeline: not compared, because {content['not_compared']}"), soft_wrap=True)


def print_stages(console: Console, entries: Sequence[dict[str, Any]]) -> None:
    """Print a table of stages.

    Args:
        console: Output.
        entries: Results of `entry_of`.
    """
    table = Table(box=box.ROUNDED)
    for name in ("stage", "status", "steps", "before", "after", "after - before"):
        table.add_column(name, justify="left" if name in ("stage", "status") else "right", overflow="fold")
    for stage in entries:
        measured = {name: Estimate.from_json(obj) for name in MEASURED if (obj := stage.get(name))}
        cells = [f"{measured[name].mean:.3f}" if name in measured else "-" for name in ("before", "after")]
        cells.append(measured["difference"].text(signed=True) if "difference" in measured else "-")
        table.add_row(Text(stage["name"]), stage["status"], str(stage.get("steps", "-")), *map(Text, cells))
    console.print()
    console.print(table)


def _fixed(words: Sequence[str]) -> list[str]:
    return sorted(word for word in words if key_of(word) not in MAY_CHANGE_ON_RESUME)
