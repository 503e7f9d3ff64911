"""What a grading of recorded completions came to: as numbers for summary.json, and as lines for a person."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rft.grading import LoadedGrader
from rft.grading.counters import GraderCounters
from rft.types import Grade, Score, Status

MAX_CAUSES = 8
"""How many causes are told of one grader; the most frequent first."""
EXAMPLE_CHARS = 80
NUM_BINS = 10
BAR_CHARS = 40
LARGE = 1e100
"""Above this, squares of scores may not fit a float."""

_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")
"""What differs between two messages of one cause."""

Graded = tuple[str, str, Grade]
"""File and line, completion, grade."""


def score_lines(graded: Iterable[Graded]) -> list[dict[str, Any]]:
    """What scores.jsonl says, one object a completion."""
    return [
        {
            "where": where,
            "reward": grade.reward,
            "scores": {name: asdict(score) for name, score in grade.scores.items()},
        }
        for where, _, grade in graded
    ]


def grading_summary(
    graded: Sequence[Graded],
    graders: Sequence[LoadedGrader],
    counters: Mapping[str, GraderCounters],
    *,
    wall_s: float,
) -> dict[str, Any]:
    """What summary.json says.

    Args:
        graded: Every completion that was graded.
        graders: What with.
        counters: What each of them did.
        wall_s: Time from the first completion to the last, seconds.
    """
    return {
        "num_completions": len(graded),
        "wall_s": wall_s,
        "completions_per_s": len(graded) / wall_s if wall_s else None,
        "reward": distribution([grade.reward for _, _, grade in graded if grade.reward is not None]),
        "graders": {grader.name: _of_grader(grader, graded, counters[grader.name]) for grader in graders},
    }


def distribution(values: Sequence[float]) -> dict[str, Any]:
    """Number, mean, standard deviation (of these values, not an estimate), extremes, median and histogram."""
    if not values:
        return {"n": 0}
    # Sums and squares of values near the largest floats overflow: they are taken of the values in units of `unit`.
    largest = max(map(abs, values))
    unit = largest if largest > LARGE else 1.0
    scaled = [value / unit for value in values]
    told = {
        "mean": statistics.fmean(scaled),
        "sd": statistics.pstdev(scaled),
        "min": min(scaled),
        "median": statistics.median(scaled),
        "max": max(scaled),
    }
    bins = [{"from": one["from"] * unit, "to": one["to"] * unit, "count": one["count"]} for one in _histogram(scaled)]
    return {"n": len(values), **{name: value * unit for name, value in told.items()}, "histogram": bins}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """The 50th, 95th and 99th percentile, each one of the values: the least that so many percent do not exceed."""
    ordered = sorted(seconds)
    return {f"p{percent}": ordered[math.ceil(len(ordered) * percent / 100) - 1] for percent in (50, 95, 99) if ordered}


def report_lines(summary: Mapping[str, Any]) -> list[str]:
    """The summary for a person."""
    speed = f"{summary['completions_per_s']:.1f} a second" if summary["completions_per_s"] else "at once"
    lines = [f"{summary['num_completions']} completions in {summary['wall_s']:.2f} s, {speed}"]
    lines += ["", "reward", *_distribution_lines(summary["reward"])]
    for name, told in summary["graders"].items():
        lines += ["", f"{name}  ({told['use']}, weight {told['weight']:g})", *_distribution_lines(told["scores"])]
        lines += [f"  {count} {cause}" for cause, count in told["statuses"].items()]
        for failure in told["causes"]:
            lines.append(f"    {failure['count']} x {failure['status']}: {failure['reason']}")
            lines.append(f"      {failure['where']}: {failure['completion']!r}")
        latency = "  ".join(f"{name} {1000 * seconds:.3g} ms" for name, seconds in told["latency_s"].items())
        lines.append(f"  latency  {latency}")
        lines.append(f"  calls {told['calls']}  retries {told['retries']}  cache hits {told['cache_hits']}")
    return lines


def _of_grader(grader: LoadedGrader, graded: Sequence[Graded], counters: GraderCounters) -> dict[str, Any]:
    scores = [grade.scores[grader.name] for _, _, grade in graded]
    return {
        "use": grader.use,
        "sha256": grader.sha256,
        "weight": grader.weight,
        "scores": distribution([score.value for score in scores if score.value is not None]),
        "statuses": {str(status): count for status, count in Counter(score.status for score in scores).most_common()},
        "causes": _causes((where, text, grade.scores[grader.name]) for where, text, grade in graded),
        "latency_s": percentiles([score.seconds for score in scores]),
        "calls": counters.calls,
        "retries": counters.retries,
        "cache_hits": counters.cache_hits,
    }


def _causes(scores: Iterable[tuple[str, str, Score]]) -> list[dict[str, Any]]:
    """Why completions were not graded as ok, with the first example of each."""
    counts: Counter[tuple[Status, str]] = Counter()
    first: dict[tuple[Status, str], dict[str, Any]] = {}
    for where, text, score in scores:
        if score.status is Status.OK:
            continue
        reason = _printable(score.reason or "no reason given")
        cause = (score.status, _VARYING.sub("_", reason))
        counts[cause] += 1
        first.setdefault(cause, {"reason": reason, "where": where, "completion": text[:EXAMPLE_CHARS]})
    return [
        {"status": str(cause[0]), "count": count, **first[cause]} for cause, count in counts.most_common(MAX_CAUSES)
    ]


def _histogram(values: Sequence[float]) -> list[dict[str, float]]:
    """One bin a value where there are few different ones, or else bins of equal width; the last holds its end too."""
    counts = Counter(values)
    if len(counts) <= NUM_BINS:
        return [{"from": value, "to": value, "count": counts[value]} for value in sorted(counts)]
    low, width = min(values), (max(values) - min(values)) / NUM_BINS
    bins = Counter(min(int((value - low) / width), NUM_BINS - 1) for value in values)
    return [{"from": low + i * width, "to": low + (i + 1) * width, "count": bins[i]} for i in range(NUM_BINS)]


def _distribution_lines(told: Mapping[str, Any]) -> list[str]:
    if not told["n"]:
        return ["  none"]
    numbers = "  ".join(f"{name} {told[name]:.4g}" for name in ("mean", "sd", "min", "median", "max"))
    most = max(one["count"] for one in told["histogram"])
    labels = [
        f"{one['from']:.4g}" if one["from"] == one["to"] else f"{one['from']:.4g} to {one['to']:.4g}"
        for one in told["histogram"]
    ]
    width = max(map(len, labels))
    bars = ["#" * math.ceil(BAR_CHARS * one["count"] / most) for one in told["histogram"]]
    return [
        f"  {numbers}  (n {told['n']})",
        *(
            f"  {label:>{width}} |{bar:<{BAR_CHARS}}| {one['count']}"
            for label, bar, one in zip(labels, bars, told["histogram"], strict=True)
        ),
    ]


def _printable(text: str) -> str:
    """One line, without what a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
