"""feasibility.json as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rft.metrics.intervals import Estimate
from rft.wording import plural

MAX_SIZES = 8
"""Group sizes that a line shows."""


def feasibility_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the measured numbers in two columns, then the verdict with reasons and remedies."""
    rows = [*_sample_rows(report), *_signal_rows(report), *_plan_rows(report["plan"]), _held_out_row(report)]
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {value}" for name, value in rows]
    lines += ["", f"verdict: {report['verdict']}"]
    for reason in report["reasons"]:
        lines += [f"  - {reason['text']}", f"    {reason['remedy']}: {reason['command']}"]
    return lines


def _sample_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sampled = report["sampled"]
    each = plural(sampled["completions_per_task"], "completion")
    yield "sampled", f"{plural(sampled['tasks'], 'training task')}, {each} each"
    low, high = report["reward_range"]
    yield "reward", f"{_text(report['reward'])} of {low:g} to {high:g} (mean over tasks, 95% interval)"
    for k, of_k in (report["pass_at"] or {}).items():
        yield f"pass@{k}", _text(of_k)
    for cause, count in sampled["without_reward"].items():
        yield "left out", f"{plural(count, 'completion')} without a reward ({cause})"
    if left_out := sampled["tasks_without_reward"]:
        yield "left out", f"{plural(left_out, 'task')} without any reward"
    if sampled["cut_share"]:
        yield "cut", f"{sampled['cut_share']:.1%} of the completions, at the limit of tokens"


def _signal_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    informative = report["informative"]
    if informative is None:
        return
    size, predicted = informative["group_size"], informative["predicted"]
    yield "informative groups", f"{_text(informative['share'])} of the groups of {size}"
    sizes = _chosen([int(name) for name in informative["by_group_size"]])
    shares = ", ".join(f"{informative['by_group_size'][str(each)]:.0%} of {each}" for each in sizes)
    yield "by group size", shares
    half_at, most = informative["half_at"], max(map(int, informative["by_group_size"]))
    yield "half of the groups", f"from groups of {half_at}" if half_at else f"not up to groups of {most}, the samples"
    yield "always equal", f"{plural(informative['never_differing_tasks'], 'task')}, whose samples have one reward"
    what = f"{plural(predicted['groups'], 'group')} of the first steps, if the policy did not change"
    yield "predicted", f"{predicted['low']:.3f} to {predicted['high']:.3f} of the {what}"


def _plan_rows(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "run", f"{plural(plan['steps'], 'step')}, {plan['passes']:.3g} passes over the training tasks"
    yield "tokens", f"{plan['tokens']:,} in {plan['completions']:,} completions"
    parts = [f"{plan['sample_and_grade_s']:.2f} s to sample and grade"]
    parts += [f"{plan['learn_s']:.2f} s to learn, {plan['sync_s']:.2f} s to sync"] if plan["has_learner"] else []
    yield "a step", ", ".join(parts)
    without = "" if plan["has_learner"] else " and learning, which was not measured"
    evaluated = f"{plan['evaluation_s']:.0f} s for {plan['evaluation_completions']:,} held-out completions"
    yield "time", f"{_duration(plan['total_s'])}{without}, with {plan['start_s']:.0f} s to start and {evaluated}"
    if plan["cost"] is not None:
        yield "cost", f"{plan['cost']:.2f}"


def _held_out_row(report: Mapping[str, Any]) -> tuple[str, str]:
    held_out = report["held_out"]
    if not held_out["tasks"]:
        return "held-out", "no tasks"
    of = f"{plural(held_out['tasks'], 'task')}, {plural(held_out['completions_per_task'], 'completion')} each"
    if held_out["tasks_needed"] is None:
        return "held-out", f"{of}; the smallest difference that they can show is unknown"
    smallest = held_out["smallest_difference"]
    shows = "no difference" if smallest is None else f"a difference of {smallest:.3f}"
    return "held-out", f"{of}; can show {shows} in {held_out['metric']} (paired, 80% power, 5% level)"


def _chosen(sizes: list[int]) -> list[int]:
    """Return some of the group sizes: powers of 2, and the largest."""
    powers = [size for size in sizes if size & (size - 1) == 0]
    return sorted({*powers[-MAX_SIZES:], sizes[-1]})


def _text(obj: Mapping[str, Any]) -> str:
    return Estimate.from_json(obj).text()


def _duration(seconds: float) -> str:
    """`95 s`, `12 min`, `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
