"""The result of grading recorded completions, as numbers for summary.json and as text for the terminal."""

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
from rft.wording import plural

MAX_CAUSES = 8
"""Number of causes that are listed per grader; the most frequent come first."""
EXAMPLE_CHARS = 80
NUM_BINS = 10
BAR_CHARS = 40
LARGE = 1e100
"""Above this, the square of a score may not fit a float."""

_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")
"""The parts of a message that differ between two errors with the same cause."""

Graded = tuple[str, str, Grade]
"""File and line, completion, grade."""


def score_lines(graded: Iterable[Graded]) -> list[dict[str, Any]]:
    """Return the lines of scores.jsonl, one object per completion."""
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
    """Return the content of summary.json.

    Args:
        graded: The graded completions.
        graders: The graders.
        counters: The counts of each grader.
        wall_s: Seconds from the first to the last completion.
    """
    return {
        "num_completions": len(graded),
        "wall_s": wall_s,
        "completions_per_s": len(graded) / wall_s if wall_s else None,
        "reward": distribution([grade.reward for _, _, grade in graded if grade.reward is not None]),
        "graders": {grader.name: _of_grader(grader, graded, counters[grader.name]) for grader in graders},
    }


def distribution(values: Sequence[float]) -> dict[str, Any]:
    """Return number, mean, standard deviation of these values (not an estimate), extremes, median and histogram."""
    if not values:
        return {"n": 0}
    # Sums and squares of values near the largest float overflow, so they are computed in multiples of `unit`.
    largest = max(map(abs, values))
    unit = largest if largest > LARGE else 1.0
    scaled = [value / unit for value in values]
    moments = {
        "mean": statistics.fmean(scaled),
        "sd": statistics.pstdev(scaled),
        "min": min(scaled),
        "median": statistics.median(scaled),
        "max": max(scaled),
    }
    bins = [
        {"from": bin_["from"] * unit, "to": bin_["to"] * unit, "count": bin_["count"]} for bin_ in _histogram(scaled)
    ]
    return {"n": len(values), **{name: value * unit for name, value in moments.items()}, "histogram": bins}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the 50th, 95th and 99th percentile by the nearest-rank method: always one of the values."""
    ordered = sorted(seconds)
    return {f"p{percent}": ordered[math.ceil(len(ordered) * percent / 100) - 1] for percent in (50, 95, 99) if ordered}


def report_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the summary as text."""
    speed = f"{summary['completions_per_s']:.1f} per second" if summary["completions_per_s"] else "at once"
    lines = [f"{plural(summary['num_completions'], 'completion')} in {summary['wall_s']:.2f} s, {speed}"]
    lines += ["", "reward", *_distribution_lines(summary["reward"])]
    for name, grader in summary["graders"].items():
        lines += ["", f"{name}  ({grader['use']}, weight {grader['weight']:g})", *_distribution_lines(grader["scores"])]
        lines += [f"  {count} {cause}" for cause, count in grader["statuses"].items()]
        for failure in grader["causes"]:
            lines.append(f"    {failure['count']} x {failure['status']}: {failure['reason']}")
            lines.append(f"      {failure['where']}: {failure['completion']!r}")
        latency = "  ".join(f"{name} {1000 * seconds:.3g} ms" for name, seconds in grader["latency_s"].items())
        lines.append(f"  latency  {latency}")
        lines.append(f"  calls {grader['calls']}  retries {grader['retries']}  cache hits {grader['cache_hits']}")
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
    """Return the causes of failed grades, each with its first example."""
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
    """Return one bin per value for few values, otherwise bins of equal width; the last bin includes its end."""
    counts = Counter(values)
    if len(counts) <= NUM_BINS:
        return [{"from": value, "to": value, "count": counts[value]} for value in sorted(counts)]
    low, width = min(values), (max(values) - min(values)) / NUM_BINS
    bins = Counter(min(int((value - low) / width), NUM_BINS - 1) for value in values)
    return [{"from": low + i * width, "to": low + (i + 1) * width, "count": bins[i]} for i in range(NUM_BINS)]


def _distribution_lines(distribution: Mapping[str, Any]) -> list[str]:
    if not distribution["n"]:
        return ["  none"]
    numbers = "  ".join(f"{name} {distribution[name]:.4g}" for name in ("mean", "sd", "min", "median", "max"))
    most = max(bin_["count"] for bin_ in distribution["histogram"])
    labels = [
        f"{bin_['from']:.4g}" if bin_["from"] == bin_["to"] else f"{bin_['from']:.4g} to {bin_['to']:.4g}"
        for bin_ in distribution["histogram"]
    ]
    width = max(map(len, labels))
    bars = ["#" * math.ceil(BAR_CHARS * bin_["count"] / most) for bin_ in distribution["histogram"]]
    return [
        f"  {numbers}  (n {distribution['n']})",
        *(
            f"  {label:>{width}} |{bar:<{BAR_CHARS}}| {bin_['count']}"
            for label, bar, bin_ in zip(labels, bars, distribution["histogram"], strict=True)
        ),
    ]


def _printable(text: str) -> str:
    """Return a text as one line without control characters."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
