"""Logs of other evaluation programs, as lines like those of rollouts.jsonl.

- **lm-evaluation-harness**: `samples_<task>_<time>.jsonl`, which `--log_samples` writes (`lm_eval/evaluator.py`, 0.4).
- **inspect_ai**: a log as JSON, which `inspect log convert --to json` writes from an `.eval` file (`EvalLog`).

A sample on which the program failed, or that it did not score, has no value; it is not 0.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from rft.run_folder.json_lines import read_lines
from rft.wording import plural

LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""Values of inspect_ai for correct, partly correct, incorrect and no answer, as its `value_to_float` reads them."""
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""Further values that `value_to_float` reads, in any case."""
EVAL_FILE = ".eval"
"""Suffix of inspect_ai's own format, which only its package reads."""
_SAMPLES = re.compile(r"samples_(.+?)(?:_\d{4}-\d{2}-\d{2}T[\d.:-]+)?\.jsonl")


def read_log(place: Path, tell: Callable[[str], None] = lambda text: None) -> list[dict[str, Any]] | None:
    """Return the samples of a log; None if the file is no log of another program.

    Each line has `phase`, `task_id` (`<benchmark>/<id>`), `scores`, `messages` and `item`, and no reward.

    Args:
        place: The file.
        tell: Receives a sentence about a log that did not end well.

    Raises:
        ValueError: The file is a log without samples, or in a format that rft does not read.
    """
    if place.suffix == EVAL_FILE:
        how = f"inspect log convert {place} --to json --output-dir <folder>"
        raise ValueError(f"{place}: rft reads the JSON logs of inspect; convert it: {how}")
    if place.suffix == ".json":
        log = json.loads(place.read_text(encoding="utf-8"))
        if not (isinstance(log, dict) and isinstance(log.get("eval"), dict)):
            return None
        status = log.get("status")
        if not log.get("samples"):
            ended = "without --no-log-samples" if status == "success" else f"and must end, but its status is {status}"
            raise ValueError(f"{place} has no samples; inspect must log them ({ended})")
        if status != "success":
            there = plural(len(log["samples"]), "sample")
            tell(f"{place}: the program ended early (status {status}), and its log has only {there}")
        return _with_every_metric(
            [_inspect_line(str(log["eval"].get("task", "inspect")), sample) for sample in log["samples"]]
        )
    name = _SAMPLES.fullmatch(place.name)
    if name is None:
        return None
    return list(harness_lines(name[1], read_lines(place)))


def harness_lines(task: str, samples: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the samples of a task of lm-evaluation-harness; those of several filters are several metrics.

    Args:
        task: Name of the task.
        samples: The logged samples. Those of one document follow each other in any order.
    """
    lines: dict[Any, dict[str, Any]] = {}
    for sample in samples:
        line = lines.setdefault(
            sample["doc_id"],
            _line(f"{task}/{sample['doc_id']}", sample.get("prompt_hash"), {"target": str(sample.get("target"))}),
        )
        suffix = "" if sample.get("filter", "none") == "none" else f", {sample['filter']}"
        for metric in sample["metrics"]:
            if _is_number(sample.get(metric)) or sample.get(metric) is None:
                line["scores"][f"{metric}{suffix}"] = {"value": _finite(sample.get(metric))}
    yield from lines.values()


def _inspect_line(task: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample of inspect_ai. A scorer that returns several values gives several metrics."""
    item = {name: sample[name] for name in ("target", "choices") if sample.get(name) is not None}
    line = _line(f"{task}/{sample['id']}", _said(sample.get("input")), item)
    for scorer, score in (sample.get("scores") or {}).items():
        value = None if sample.get("error") else score.get("value")
        values = value if isinstance(value, dict) else {"": value}
        for name, one in values.items():
            line["scores"][f"{scorer}, {name}" if name else scorer] = {"value": _of_inspect(one)}
    return line


def _with_every_metric(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return lines that all have the metrics of the log: a sample that failed has no score at all."""
    names = dict.fromkeys(name for line in lines for name in line["scores"])
    return [line | {"scores": {name: {"value": None} for name in names} | line["scores"]} for line in lines]


def _said(prompt: Any) -> Any:
    """Return a prompt without the ids of its messages, which differ in every run."""
    if not isinstance(prompt, list):
        return prompt
    return [{"role": message.get("role"), "content": message.get("content")} for message in prompt]


def _line(task_id: str, prompt: Any, item: Mapping[str, Any]) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"phase": "test", "task_id": task_id, "scores": {}, "messages": messages, "item": dict(item)}


def _of_inspect(value: Any) -> float | None:
    """Return a value as inspect_ai counts it; None for a value without a number."""
    if isinstance(value, str):
        return LETTERS.get(value, WORDS.get(value.lower(), _number_in(value)))
    return _finite(value) if _is_number(value) else None


def _number_in(text: str) -> float | None:
    try:
        return _finite(float(text))
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, Real)  # NumPy's numbers, too


def _finite(value: float | None) -> float | None:
    """Return a number as a float; None for NaN, by which both programs say that there is no score."""
    return float(value) if value is not None and math.isfinite(value) else None
