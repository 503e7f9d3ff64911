"""The summary of a run, computed from the lines of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from rft.metrics.intervals import Estimate

PAIRS = "learner/pairs/"
"""Beginning of the names of metrics that count pairs."""
ENGINE_BUSY = "episode/engine_busy_share"
"""Share of the time of a step's episodes in which the engines had turns to sample."""


def build_summary(
    lines: Sequence[Mapping[str, Any]],
    *,
    status: str,
    wall_s: float,
    before: Estimate | None = None,
    after: Estimate | None = None,
    difference: Estimate | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Compute the fixed keys of summary.json from all lines of metrics.jsonl, including those before a resume.

    Args:
        lines: Result of `read_metrics`. Step 0, if present, is the measurement before the run.
        status: Outcome of the run, such as "finished".
        wall_s: Duration of the run, seconds.
        before: The held-out measurement before the run; None if there was none.
        after: The held-out measurement after the run.
        difference: After minus before, paired by task.
        about: Settings of the measurement, for `eval`: `metric`, `split`, `temperature`, ...
    """
    steps = [line for line in lines if line["step"] > 0]
    rewards = [line["metrics"].get("reward/mean") for line in steps]
    measured = {"before": before, "after": after, "difference": difference}
    return {
        "status": status,
        "steps": max((line["step"] for line in steps), default=0),
        "wall_s": wall_s,
        "time_s": _sums(line["seconds"] for line in lines),
        "reward": {"first": rewards[0] if rewards else None, "last": rewards[-1] if rewards else None},
        "eval": {
            **{name: None if value is None else value.to_json() for name, value in measured.items()},
            **(about or {}),
        },
        "drops": _sums(line["drops"] for line in steps),
        **_counted_pairs(line["metrics"] for line in steps),
        **_engine_busy(line["metrics"] for line in steps),
        "syncs": sum("sync/proved" in line["metrics"] for line in steps),
        "syncs_proved": sum(line["metrics"].get("sync/proved", 0.0) == 1.0 for line in steps),
    }


def _counted_pairs(metrics: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return `pairs`: those of `learner=dpo`, and the groups without one by reason; nothing of other learners."""
    pairs = _sums({name.removeprefix(PAIRS): of[name] for name in of if name.startswith(PAIRS)} for of in metrics)
    return {"pairs": {name: int(count) for name, count in pairs.items()}} if pairs else {}


def _engine_busy(metrics: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return `engine_busy_share`, the mean over the steps; nothing of a run without episodes."""
    shares = [of[ENGINE_BUSY] for of in metrics if of.get(ENGINE_BUSY) is not None]
    return {"engine_busy_share": fmean(shares)} if shares else {}


def _sums(mappings: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums over the mappings, key by key."""
    sums: dict[str, Any] = {}
    for mapping in mappings:
        for key, value in mapping.items():
            sums[key] = sums.get(key, 0) + (value or 0)
    return sums
