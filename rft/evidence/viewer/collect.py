"""Collects what the viewer shows from run folders. The folders are only read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rft.run_folder.json_lines import read_lines
from rft.run_folder.recorder import METRICS, SUMMARY, read_metrics
from rft.run_folder.rollout_files import read_rollout_lines, rollout_paths

EVENTS = "events.jsonl"
CURVES = {
    "reward": ("reward/mean",),
    "held-out score": ("before/mean", "eval/mean"),
    "groups that teach": ("groups/informative_share",),
    "tokens of a completion": ("completion/tokens_mean",),
    "loss": ("learner/loss",),
    "KL divergence": ("learner/kl", "learner/reverse_kl"),
    "entropy": ("learner/entropy",),
    "dropped completions": ("rollouts/dropped_share",),
    "seconds of a sync and its proof": ("sync/total_s",),
}
"""Curves by title: the metrics of metrics.jsonl that it takes, of which a step has at most one."""


def collect_run(folder: Path, *, name: str, max_rollouts: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Return what the viewer shows of a run, as JSON values.

    Args:
        folder: The run folder.
        name: Name of the run.
        max_rollouts: Most completions to show, chosen evenly over the whole run.
        tell: Receives a sentence about each damaged line.

    Raises:
        ValueError: The folder holds neither metrics nor completions.
    """
    if not (rollout_paths(folder) or (folder / METRICS).is_file()):
        raise ValueError(f"{folder} is no run folder: it has neither {METRICS} nor rollouts.jsonl")
    lines = read_metrics(folder)
    count = sum(1 for _ in read_rollout_lines(folder, lambda _: None))
    shown = [
        _rollout(line) for line in evenly(read_rollout_lines(folder, tell), num_items=count, max_items=max_rollouts)
    ]
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8")) if (folder / SUMMARY).is_file() else {}
    curves = {title: _points(lines, names) for title, names in CURVES.items()}
    curves["held-out score"] += _after(lines, summary)
    return {
        "name": name,
        "folder": str(folder),
        "status": summary.get("status", "unfinished"),
        "summary": {key: summary.get(key) for key in ("steps", "wall_s", "time_s", "syncs", "syncs_proved", "drops")},
        "eval": summary.get("eval"),
        "curves": curves,
        "warnings": list(_warnings(folder, tell)),
        "num_rollouts": count,
        "rollouts": shown,
    }


def evenly(items: Iterable[Any], *, num_items: int, max_items: int) -> Iterator[Any]:
    """Yield at most `max_items` of `num_items` items, evenly spaced; all of them if they are not more."""
    if num_items <= max_items:
        yield from items
        return
    places = {place * num_items // max_items for place in range(max_items)}
    yield from (item for place, item in enumerate(items) if place in places)


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


def _warnings(folder: Path, tell: Callable[[str], None]) -> Iterator[str]:
    if (folder / EVENTS).is_file():
        for event in read_lines(folder / EVENTS, tell):
            if event.get("event") == "warned":
                yield str(event.get("text", ""))


def _rollout(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a completion that the viewer shows."""
    scores = {
        name: {key: score.get(key) for key in ("value", "status", "reason", "answer")}
        for name, score in line["scores"].items()
    }
    shown = {key: line.get(key) for key in ("step", "phase", "task_id", "index", "completion", "reward", "stop")}
    episode = {"turns": line["turns"]} if line.get("turns") else {}
    tokens = {"tokens": line.get("num_completion_tokens"), "policy": line["policy"]["version"]}
    return {**shown, **tokens, "messages": line["messages"], "item": line["item"], "scores": scores, **episode}
