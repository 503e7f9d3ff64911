"""`retention.json` of a run folder: the scores of each task family after each stage, from the first run to this one.

    retention.json          the stages, with the score of every task
    start/retention.json    the same of the run that this one starts from

Only runs with a mixture have it. A run takes over the stages of its parent, so the parent's folder may disappear.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rft.config import RunConfig
from rft.config.adapter_settings import run_folder_of
from rft.config.mixture import trained_families
from rft.errors import ModelError
from rft.events import Phase
from rft.metrics.families import of_family
from rft.metrics.held_out import graders_of, metric_bounds
from rft.metrics.intervals import ROUNDING, paired_difference
from rft.metrics.retention import Cell, Stage, retention
from rft.redaction import redacted
from rft.run_folder.recorded_scores import recorded_by_task
from rft.run_folder.recorder import MANIFEST, read_manifest, read_rollouts, write_json

RETENTION = "retention.json"
START = "start"


def stages_of(folder: Path) -> list[Stage] | None:
    """Return the stages in retention.json of a run folder; None without the file.

    Raises:
        ModelError: The file is damaged.
    """
    file = folder / RETENTION
    if not file.is_file():
        return None
    try:
        return [Stage.from_json(obj) for obj in json.loads(file.read_text(encoding="ascii"))["stages"]]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        problem = f"{file} is damaged, or rft did not write it; copy the run folder again, or remove the file"
        raise ModelError("run", [problem]) from error


def keep_stages_of(parent: str, run_folder: Path) -> None:
    """Copy the stages of the run that trained an adapter into the folder of the run that starts from it.

    Args:
        parent: `start` of the configuration. An adapter outside a run has no stages.
        run_folder: The new run folder.
    """
    folder = run_folder_of(Path(parent))
    if folder is not None and (folder / RETENTION).is_file():
        (run_folder / START).mkdir(exist_ok=True)
        write_json(run_folder / START / RETENTION, json.loads((folder / RETENTION).read_text(encoding="ascii")))


def retention_of(folder: Path, run: RunConfig) -> dict[str, Any] | None:
    """Compute `retention` of summary.json from a run folder, and write retention.json.

    Args:
        folder: The run folder.
        run: The configuration.

    Returns:
        Result of `rft.metrics.retention.retention`, and `guard`: for each guarded family `max_drop`, `drop` and
        `is_exceeded`. None without a mixture, or without a measurement after the run.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    if not run.data.mixture:
        return None
    before = _measured(folder, run, "before")
    after = _measured(folder, run, "after")
    if before is None or after is None:
        return None
    # Replay of an older family does not make this stage the first one that trained it.
    new = tuple(name for name, family in trained_families(run.data).items() if not family.older)
    after = replace(after, name=folder.absolute().name, trained=new)
    stages = [*_earlier(folder, before), after]
    write_json(folder / RETENTION, {"stages": [stage.to_json() for stage in stages]})
    bounds = {
        name: metric_bounds(graders_of(run.graders, family.graders), run.evaluation.metric)
        for name, family in run.data.mixture.items()
        if name in after.cells
    }
    results = retention(stages, bounds)
    guarded = guard_verdicts(
        *({name: cell.by_task for name, cell in stage.cells.items()} for stage in (before, after)),
        max_drops=run.evaluation.guard,
        bounds=bounds,
    )
    results["left_out"] += [
        f"guard of {name}: the family was not measured both before and after the run"
        for name in run.evaluation.guard
        if name not in guarded
    ]
    return results | {"guard": guarded}


def _earlier(folder: Path, before: Stage) -> list[Stage]:
    """Return the stages before the run. The run's own measurement of its start replaces that of its parent."""
    if not (stages := stages_of(folder / START)):
        return [before]
    *earlier, last = stages
    if last.fingerprint != before.fingerprint:  # a checkpoint of the parent, or merged weights
        return [*earlier, replace(before, name=f"start of {folder.absolute().name}", trained=last.trained)]
    return [*earlier, replace(last, cells={**last.cells, **before.cells})]


def _measured(folder: Path, run: RunConfig, phase: Phase) -> Stage | None:
    """Return the measurement before or after a run; None without one."""
    lines = list(read_rollouts(folder, phase))
    if not lines:
        return None
    by_task = recorded_by_task(lines, run.evaluation.metric)
    shas: dict[str, str] = {}
    if (folder / MANIFEST).is_file():
        shas = {name: grader["sha256"] for name, grader in read_manifest(folder)["graders"].items()}
    cells = {
        name: Cell(identity=_identity(run, name, lines, shas), by_task=of_task)
        for name in run.data.mixture
        if (of_task := of_family(by_task, name))
    }
    return Stage(name=phase, fingerprint=lines[0]["policy"]["fingerprint"], trained=(), cells=cells)


def _identity(run: RunConfig, family: str, lines: Sequence[Mapping[str, Any]], shas: Mapping[str, str]) -> str:
    """Return a hash of everything besides the policy that decides a family's scores, 16 hexadecimal digits."""
    names = run.data.mixture[family].graders
    content = {
        "tasks": sorted(
            [line["task_id"], line["messages"], line["item"]]
            for line in lines
            if line["index"] == 0 and line["task_id"].startswith(f"{family}/")
        ),
        "graders": redacted({"graders": graders_of(run.graders, names)})["graders"],
        "code": {name: shas.get(name) for name in names},
        "metric": run.evaluation.metric,
        "temperature": run.evaluation.temperature,
        "completions_per_task": run.evaluation.completions_per_task,
        "max_completion_tokens": run.sampler.max_completion_tokens,
        "shots": run.data.shots,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def guard_verdicts(
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]],
    *,
    max_drops: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
) -> dict[str, dict[str, Any]]:
    """Return `max_drop`, `drop` and `is_exceeded` of each guarded family that was measured before and after a run.

    Args:
        before: Scores before the run, by family and task id.
        after: Scores after it.
        max_drops: `evaluation.guard`.
        bounds: Lowest and highest possible score of each family.
    """
    results: dict[str, dict[str, Any]] = {}
    for name, max_drop in max_drops.items():
        earlier, later = before.get(name, {}), after.get(name, {})
        if not earlier.keys() & later.keys():
            continue
        drop = paired_difference(later, earlier, bounds=bounds[name])
        is_exceeded = drop.mean > max_drop + ROUNDING
        results[name] = {"max_drop": max_drop, "drop": drop.to_json(), "is_exceeded": is_exceeded}
    return results
