"""What a run reached and how: curves, results, proofs, drops, time, warnings, verdicts. The folder is only read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rft.errors import OutputError
from rft.evidence.viewer.verdicts import verdicts
from rft.health.status import read_status
from rft.run_folder.json_lines import Tell, read_lines
from rft.run_folder.recorder import EVENTS, MANIFEST, METRICS, SUMMARY, read_metrics
from rft.run_folder.rollout_files import rollout_paths

CURVES = {
    "reward": ("reward/mean",),
    "held-out score": ("before/mean", "eval/mean"),
    "groups that teach": ("groups/informative_share",),
    "tokens of a completion": ("completion/tokens_mean",),
    "loss": ("learner/loss",),
    "KL divergence": ("learner/kl", "learner/reverse_kl"),
    "entropy": ("learner/entropy",),
    "dropped completions": ("rollouts/dropped_share",),
    "duplicate completions": ("drift/duplicate_share",),
    "cut-off completions": ("completion/truncated_share",),
    "largest gap of the proof": ("sync/canary_gap_max",),
    "seconds of a sync and its proof": ("sync/total_s",),
}
"""Curves by title: the metrics of metrics.jsonl that it takes, of which a step has at most one."""
SCORE = "score/"
"""Beginning of the names of the metrics of graders, which are curves, too."""
MAX_POINTS = 400
"""Points of a curve; with more steps, each is the mean of several."""
FACTS = ("wall_s", "time_s", "syncs", "syncs_proved", "drops", "recovery", "engine_busy_share")


def read_overview(folder: Path, *, name: str, tell: Tell) -> dict[str, Any]:
    """Return what the page shows of a run apart from its rollouts, as JSON values.

    Args:
        folder: The run folder.
        name: Name of the run.
        tell: Receives a sentence about each damaged line.
    """
    lines = read_metrics(folder)
    steps = [line for line in lines if line["step"] > 0]
    summary, manifest = _document(folder / SUMMARY), _document(folder / MANIFEST)
    state, beat = _state(folder, summary)
    curves = {title: _points(lines, names) for title, names in {**CURVES, **_graders(lines)}.items()}
    curves["held-out score"] += _after(lines, summary)
    proved = [line["metrics"]["sync/proved"] for line in steps if "sync/proved" in line["metrics"]]
    counted = {"time_s": _sums(line["seconds"] for line in lines), "drops": _sums(line["drops"] for line in steps)}
    proofs = {"syncs": len(proved), "syncs_proved": sum(value == 1.0 for value in proved)}
    return {
        "name": name,
        "folder": str(folder),
        "status": state,
        "step": max((line["step"] for line in lines), default=0),
        "steps": beat.get("steps") or summary.get("steps"),
        "now": beat.get("phase") if state == "running" else None,
        "facts": {**counted, **proofs, **{key: summary[key] for key in FACTS if summary.get(key) is not None}},
        "about": _about(manifest),
        "eval": summary.get("eval") or _measured(lines),
        "arms": summary.get("arms"),
        "curves": {title: thinned(points) for title, points in curves.items()},
        "seconds": thinned_parts([(line["step"], line["seconds"]) for line in steps]),
        "dropped": thinned_parts([(line["step"], line["drops"]) for line in steps], is_sum=True),
        "verdicts": verdicts(summary, manifest, proofs),
        "events": list(_events(folder, tell)),
    }


def is_run(folder: Path) -> bool:
    """Whether a folder holds something to show."""
    return bool(rollout_paths(folder)) or (folder / METRICS).is_file()


def thinned(points: Sequence[list[float | None]], most: int = MAX_POINTS) -> list[list[float | None]]:
    """Return at most `most` points of a curve; each of them is the mean of neighbours.

    Args:
        points: `[step, value, low, high]` of each step; values may be null.
        most: Points to return.
    """
    if len(points) <= most:
        return list(points)
    return [[_mean(column) for column in zip(*part, strict=True)] for part in _parts(points, most)]


def thinned_parts(
    steps: Sequence[tuple[int, Mapping[str, float]]], *, is_sum: bool = False, most: int = 120
) -> list[list[Any]]:
    """Return `[step, {name: value}]` of at most `most` steps: the means of neighbours, or their sums.

    Args:
        steps: Each step with its values by name.
        is_sum: Whether values of neighbours are added.
        most: Steps to return.
    """
    thin = []
    for part in _parts(steps, most):
        sums = _sums(values for _, values in part)
        thin.append([part[0][0], {name: value if is_sum else value / len(part) for name, value in sums.items()}])
    return thin


def _parts(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    size = -(-len(items) // most) or 1
    return (items[start : start + size] for start in range(0, len(items), size))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _sums(mappings: Iterable[Mapping[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for mapping in mappings:
        for key, value in mapping.items():
            sums[key] = sums.get(key, 0) + (value or 0)
    return sums


def _document(path: Path) -> dict[str, Any]:
    """Return a JSON file of the run; empty without it."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _state(folder: Path, summary: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the state of the run, and its heartbeat."""
    try:
        status = read_status(folder)
    except OutputError:  # a measurement, or a copy without a heartbeat
        return str(summary.get("status", "unfinished")), {}
    return status.state, status.heartbeat


def _graders(lines: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return a curve for each grader, if there are several: one alone is the reward."""
    names = dict.fromkeys(name for line in lines for name in line["metrics"] if name.startswith(SCORE))
    return {f"score of {name.removeprefix(SCORE)}": (name,) for name in names} if len(names) > 1 else {}


def _points(lines: Iterable[Mapping[str, Any]], names: tuple[str, ...]) -> list[list[float | None]]:
    """Return `[step, value, low, high]` of each step that has one of the metrics; the ends may be null."""
    points = []
    for line, name in itertools.product(lines, names):
        metrics = line["metrics"]
        if name in metrics:
            prefix = name.removesuffix("/mean")
            points.append([line["step"], metrics[name], metrics.get(f"{prefix}/low"), metrics.get(f"{prefix}/high")])
    return points


def _after(lines: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> list[list[float | None]]:
    """Return the point of the measurement after the run, which only summary.json has."""
    after = (summary.get("eval") or {}).get("after")
    if after is None or not lines:
        return []
    low, high = after["ci95"] or (None, None)
    return [[lines[-1]["step"], after["mean"], low, high]]


def _measured(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the measurements so far of a run that goes on: `before`, and `latest` of the validation tasks."""
    found = {}
    for line in lines:
        metrics = line["metrics"]
        for name, prefix in (("before", "before"), ("latest", "eval")):
            if metrics.get(f"{prefix}/mean") is not None:
                low, high = metrics.get(f"{prefix}/low"), metrics.get(f"{prefix}/high")
                ends = None if low is None or high is None else [low, high]
                found[name] = {"mean": metrics[f"{prefix}/mean"], "ci95": ends}
    return found


def _about(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return what the run was made of, in words."""
    tasks = manifest.get("tasks") or {}
    about = {
        "method": manifest.get("method"),
        "base model": (manifest.get("base_model") or {}).get("path"),
        "tasks": ", ".join(f"{of['num_tasks']:,} {name}" for name, of in tasks.items() if of and "num_tasks" in of),
        "graders": ", ".join(manifest.get("graders") or {}),
        "seed": manifest.get("seed"),
        "started": manifest.get("started_at"),
    }
    return {name: str(value) for name, value in about.items() if value not in (None, "")}


def _events(folder: Path, tell: Tell) -> Iterator[dict[str, str]]:
    """Yield warnings, losses and restarts with their times."""
    if not (folder / EVENTS).is_file():
        return
    for event in read_lines(folder / EVENTS, tell):
        kind = str(event.get("event"))
        text = event.get("text")
        if kind == "sampler_lost":
            text = f"sampler {event.get('sampler')} was lost: {event.get('reason')}"
        elif kind == "learner_restarted":
            text = f"the learner was restarted from step {event.get('from_step')}"
        elif kind == "grader_call_repeated":
            text = f"{event.get('grader')} was called again for {event.get('task_id')}: {event.get('reason')}"
        if kind in ("warned", "sampler_lost", "learner_restarted", "grader_call_repeated"):
            yield {"kind": kind, "time": str(event.get("time", "")), "text": str(text)}
