"""What runs measured on their held-out tasks, read from their folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rft.config.recorded_yaml import read_yaml
from rft.evidence.benchmark_logs import read_log
from rft.metrics.held_out import metric_bounds
from rft.run_folder.json_lines import read_lines
from rft.run_folder.recorder import CONFIG, MANIFEST, SUMMARY, plain
from rft.run_folder.rollout_files import read_rollout_lines, rollout_paths
from rft.types import Task

PHASES = ("after", "test", "before")
"""The measurements of a run. `rft evaluate` records `test`."""
OUT = "runs/compare"
"""Default folder of the measurements that a comparison makes."""
IGNORED = ("seed", "output_dir", "name", "resume")
"""Keys that may differ between runs of one setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement: the values of each sample, by grader and task.

    Example:
        Measured(name="first", place=Path("runs/first"), phase="after", samples={"reward": {"3f1c": [1.0, 0.0]}},
                 missing={"reward": 0}, tasks={"3f1c": ("[...]", "{...}")}, bounds={"reward": (0.0, 1.0)},
                 graders={"correct": "..."}, seed=0, setting="...")
    """

    name: str
    """Name in the tables."""
    place: Path
    """The run folder, or the file with completions."""
    phase: str
    """`before`, `after` or `test`."""
    samples: Mapping[str, Mapping[str, list[float]]]
    """The values of each task's samples, by metric (`reward` or a grader) and task id."""
    missing: Mapping[str, int]
    """Number of samples without a value, by metric."""
    tasks: Mapping[str, tuple[str | None, str | None]]
    """Prompt and columns of each task as JSON, by task id. Passages in a prompt change it, so its part is None; so is
    the part of columns that a left-out passage changes."""
    bounds: Mapping[str, tuple[float, float]]
    """Lowest and highest possible value of each metric; absent if unknown."""
    graders: Mapping[str, str]
    """Hash of each grader's code and options, by name; empty for a file."""
    seed: int | None
    """Seed of the run; None for a file."""
    setting: str
    """The configuration apart from `IGNORED`, as JSON; empty for a file."""
    chosen_on: str | None = None
    """The tasks that selected the measured checkpoint, if they are the measured ones."""
    forgetting: Mapping[str, Any] = field(default_factory=dict)
    """`guard`, the verdicts of `evaluation.guard` by family, and `left_out`, those that the run could not reach; empty
    without a guard."""


def read_measured(place: Path, *, name: str, phase: str | None, tell: Callable[[str], None]) -> Measured:
    """Read a measurement.

    Args:
        place: A folder of `rft train` or `rft evaluate`, a file with lines like those of rollouts.jsonl, or a log of
            another program (`rft.evidence.benchmark_logs`).
        name: Name in the tables.
        phase: The measurement to take; None takes the one after training, or the one of `rft evaluate`.
        tell: Receives a sentence about each damaged line.

    Raises:
        ValueError: There is no such measurement.
    """
    lines = _lines(place, tell)
    by_phase: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if line["phase"] in PHASES or line["phase"] == phase:
            by_phase.setdefault(line["phase"], []).append(line)
    taken = phase or ("after" if "after" in by_phase else "test")
    if taken not in by_phase:
        there = f"it has {', '.join(sorted(by_phase))}" if by_phase else "it has none"
        if phase is None and "before" in by_phase:
            there = "it has not ended, and was measured only before training, which --phase before compares"
        raise ValueError(f"{place} has no measurement {phase or 'after training'}; {there}")
    config = _config(place)
    samples, missing = _values(by_phase[taken])
    return Measured(
        name=name,
        place=place,
        phase=taken,
        samples=samples,
        missing=missing,
        tasks={line["task_id"]: _content(line) for line in by_phase[taken]},
        bounds=_bounds(config, samples),
        graders=grader_versions(config, _grader_code(place)),
        seed=config.get("seed"),
        setting=json.dumps({key: value for key, value in config.items() if key not in IGNORED}, sort_keys=True),
        chosen_on=_chosen_on(config) if taken == "after" else None,
        forgetting=_forgetting(place) if taken == "after" else {},
    )


def expected(
    name: str, place: Path, tasks: Sequence[Task], config: Mapping[str, Any], code: Mapping[str, str | None]
) -> Measured:
    """Return what a measurement will have before it is made: everything but the values.

    Args:
        name: Name in the tables.
        place: The measured adapter or base model.
        tasks: The tasks.
        config: The configuration of `rft evaluate`, without secrets.
        code: Hash of each grader's code, by name.
    """
    metrics = ("reward", *config["graders"])
    lines = {task.id: plain({"item": task.item, "messages": task.messages}) for task in tasks}
    return Measured(
        name=name,
        place=place,
        phase="test",
        samples={metric: {} for metric in metrics},
        missing=dict.fromkeys(metrics, 0),
        tasks={task: _content(line) for task, line in lines.items()},
        bounds=_bounds(config, metrics),
        graders=grader_versions(config, code),
        seed=config["seed"],
        setting="",
    )


def _lines(place: Path, tell: Callable[[str], None]) -> Iterable[dict[str, Any]]:
    """Return the lines of a folder, of a file, or of a log of another program."""
    if not place.is_file():
        return read_rollout_lines(place, tell)
    log = read_log(place, tell)
    return read_lines(place, tell) if log is None else log


def _values(lines: list[dict[str, Any]]) -> tuple[dict[str, dict[str, list[float]]], dict[str, int]]:
    """Return the values by metric and task, and the number of samples without one by metric."""
    samples: dict[str, dict[str, list[float]]] = {}
    missing: dict[str, int] = {}
    for line in lines:
        scores = {name: score["value"] for name, score in line["scores"].items()}
        if "reward" in line:  # other programs have none
            scores = {"reward": line["reward"], **scores}
        for metric, value in scores.items():
            of_task = samples.setdefault(metric, {}).setdefault(line["task_id"], [])
            missing[metric] = missing.get(metric, 0) + (value is None)
            if value is not None:
                of_task.append(value)
    return samples, missing


def read_scores(
    file: Path, tasks: Mapping[str, str], graders: Collection[str]
) -> tuple[dict[str, dict[str, list[float]]], dict[str, int]]:
    """Read scores.jsonl of `rft grade`: the scores by grader and task, and the number of missing ones by grader.

    Args:
        file: The file.
        tasks: The task id of each completion, by its file and line.
        graders: Names of the graders.
    """
    lines = [
        {"task_id": tasks[line["where"]], "scores": {name: line["scores"][name] for name in graders}}
        for line in read_lines(file)
    ]
    return _values(lines)


def _content(line: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return prompt and columns of a task, without what a store found for it."""
    item = {name: value for name, value in line["item"].items() if not name.startswith("passages")}
    said = [message for message in line["messages"] if message["role"] != "system"]
    return (
        None if "passages" in line["item"] else json.dumps(said, sort_keys=True, default=str),
        None if line["item"].get("passages_left_out") else json.dumps(item, sort_keys=True, default=str),
    )


def _bounds(config: Mapping[str, Any], metrics: Collection[str]) -> dict[str, tuple[float, float]]:
    """Return the bounds of the metrics of a run whose graders are known."""
    graders = config.get("graders") or {}
    return {name: metric_bounds(graders, name) for name in metrics if graders and (name == "reward" or name in graders)}


def _config(place: Path) -> dict[str, Any]:
    file = place / CONFIG
    config = read_yaml(file, what="compare") if place.is_dir() and file.is_file() else {}
    return config if isinstance(config, dict) else {}


def _grader_code(place: Path) -> dict[str, str | None]:
    """Return the hash of each grader's code: of a run from its manifest, of an evaluation from its summary."""
    file = next((place / name for name in (MANIFEST, SUMMARY) if (place / name).is_file()), None)
    graders = json.loads(file.read_text(encoding="utf-8")).get("graders") if file is not None else None
    return {name: grader.get("sha256") for name, grader in (graders or {}).items()}


def grader_versions(config: Mapping[str, Any], code: Mapping[str, str | None]) -> dict[str, str]:
    """Return code and options of each grader, and those that make the reward.

    The weight of a grader does not change its score, but the reward; a grader of weight 0 does not change the reward.
    """
    graders = config.get("graders") or {}
    own, of_reward = {}, {}
    for name, spec in graders.items():
        options = {key: value for key, value in spec.items() if key != "weight"}
        own[name] = json.dumps([code.get(name), options], sort_keys=True, default=str)
        if (weight := spec.get("weight", 1)) != 0:
            of_reward[name] = [own[name], weight]
    return own | ({"reward": json.dumps(of_reward, sort_keys=True)} if own else {})


def _chosen_on(config: Mapping[str, Any]) -> str | None:
    """Return the measured tasks if they are those that selected the best step."""
    data, evaluation = config.get("data") or {}, config.get("evaluation") or {}
    return data.get("validation") if evaluation.get("patience") and not data.get("test") else None


def _forgetting(place: Path) -> dict[str, Any]:
    """Return what the run says in summary.json about its guarded families."""
    file = place / SUMMARY
    summary = json.loads(file.read_text(encoding="utf-8")) if place.is_dir() and file.is_file() else {}
    retention = summary.get("retention") or {}
    left_out = [line for line in retention.get("left_out", ()) if line.startswith("guard of ")]
    return {"guard": retention.get("guard") or {}, "left_out": left_out} if retention.get("guard") or left_out else {}


def runs_in(folder: Path) -> Iterator[Path]:
    """Yield the run folders inside a folder that is none, such as that of a sweep, in order of their names."""
    if folder.is_dir() and not rollout_paths(folder):
        yield from (path for path in sorted(folder.iterdir()) if path.is_dir() and rollout_paths(path))
