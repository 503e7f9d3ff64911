"""Plots of a run, drawn from its files: `plots/reward.png`, `plots/training.png`, and `plots/arms.png` with arms."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from rft.metrics.comparison import Comparison
from rft.metrics.intervals import Estimate
from rft.reliability.durable import writing
from rft.run_folder.recorder import SUMMARY, read_metrics
from rft.wording import plural

INK, GREY, PALE, BLUE, RED, ROSE = "#22303c", "#7b8794", "#a9c1dd", "#1d5fa7", "#d1495b", "#e8a3ac"
PHASE_COLOURS = ("#5b8fc7", "#f2b66d", "#7fc0bf", "#b596c9", "#a9b3bd", "#e08d99")
STYLE = {
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#c5ced6",
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6ebef",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


class Panel(NamedTuple):
    """One panel, with one metric or several metrics of one kind."""

    metric: str
    """Name in metrics.jsonl. A name that ends in `/` stands for all metrics with this prefix, one line each."""
    title: str
    """Title."""
    unit: str
    """Label of the y axis."""
    is_share: bool = False
    """Whether the metric lies between 0 and 1."""


PANELS = (
    Panel("completion/tokens_mean", "Completion length", "tokens, mean"),
    Panel("groups/informative_share", "Groups that teach", "share of groups", is_share=True),
    Panel("score/", "Scores", "mean, by grader"),
    Panel("family_reward/", "Rewards", "mean, by family"),
    Panel("family_groups/", "Groups", "number, by family"),
    Panel("episode/engine_busy_share", "Engines busy", "share of the episodes' time", is_share=True),
    Panel("drift/unread_share/", "Answers not read", "share, by grader", is_share=True),
    Panel("drift/duplicate_share", "Answers rewarded for several tasks", "share of rewarded", is_share=True),
    Panel("learner/loss", "Loss", "loss"),
    Panel("learner/grad_norm", "Gradient norm", "L2 norm"),
    Panel("learner/kl", "Distance from the base model", "KL, nats per token"),
)


def plot_rewards(folder: Path) -> Path:
    """Draw the plots of a run.

    Reads metrics.jsonl (`reward/mean`, and held-out measurements as `eval/mean`, `eval/low`, `eval/high`) and, if it
    exists, summary.json for the measurements before and after the run, and for its arms.

    Args:
        folder: The run folder.

    Returns:
        Path of `plots/reward.png`; the others are beside it.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    plots = folder / "plots"
    with writing(plots):
        plots.mkdir(exist_ok=True)
        _save(reward_figure(folder), plots / "reward.png")
        _save(training_figure(folder), plots / "training.png")
        if (arms := _summary(folder).get("arms")) and arms["means"]:
            _save(arms_figure(Comparison.from_json(arms)), plots / "arms.png")
    return plots / "reward.png"


def reward_figure(folder: Path) -> RunFigure:
    """Draw the training reward by step, with the held-out measurements."""
    with matplotlib.rc_context(STYLE):
        return _reward_figure(read_metrics(folder), _summary(folder))


def training_figure(folder: Path) -> RunFigure:
    """Draw lengths, scores, loss, gradient norm and times by step."""
    with matplotlib.rc_context(STYLE):
        return _training_figure(read_metrics(folder))


def arms_figure(comparison: Comparison) -> RunFigure:
    """Draw the mean of each arm with its interval, from the first arm at the top."""
    with matplotlib.rc_context(STYLE):
        return _arms_figure(comparison)


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / SUMMARY
    summary: dict[str, Any] = json.loads(path.read_text(encoding="ascii")) if path.exists() else {}
    return summary


class RunFigure(Figure):
    """A figure that a notebook displays without pyplot."""

    def _repr_png_(self) -> bytes:
        return _png(self)


def _reward_figure(lines: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> RunFigure:
    """Training reward by step, with the held-out measurements."""
    figure = _figure(4.5)
    axes = figure.add_subplot()
    steps, rewards = _series(lines, "reward/mean")
    window = min(25, max(5, len(steps) // 10))
    axes.plot(steps, rewards, color=PALE, linewidth=1.1, label="training", **_marker(steps))
    if len(steps) > window:
        means = _rolling_means(rewards, window)
        axes.plot(steps[window - 1 :], means, color=BLUE, linewidth=2.2, label=f"training, mean of {window} steps")
    _draw_held_out(axes, lines)
    last_step = max((line["step"] for line in lines), default=0) or 1
    evaluation = summary.get("eval") or {}
    _draw_before_and_after(axes, evaluation, last_step)
    low, high = axes.get_ylim()
    if low > -0.1 and high < 1.15:
        axes.set_ylim(-0.03, 1.05)
    axes.set_xlim(-0.14 * last_step, 1.12 * last_step)
    _step_axis(axes, last_step)
    metric = evaluation.get("metric", "reward")
    axes.set_ylabel("mean reward" if metric == "reward" else f"training: mean reward, held-out: mean {metric}")
    title = "Reward during training and on held-out tasks"
    axes.set_title(title, fontsize=12.5, fontweight="bold", pad=26 if evaluation.get("difference") else 12)
    if evaluation.get("difference"):
        axes.annotate(_finding(evaluation), (0, 1), (0, 11), xycoords="axes fraction", textcoords="offset points",
                      color=GREY, va="bottom", fontsize=9.5)  # fmt: skip
    if steps:
        figure.legend(loc="outside lower center", ncols=4, fontsize=8.8, handlelength=1.6, columnspacing=1.4)
    return figure


def _finding(evaluation: Mapping[str, Any]) -> str:
    """Return the result of the run in one line."""
    difference = Estimate.from_json(evaluation["difference"])
    return (
        f"after minus before: {difference.text(signed=True)} (95% interval), paired over {plural(difference.n, 'task')}"
    )


def _draw_held_out(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    """Draw measurements during the run, with their intervals."""
    steps, means = _series(lines, "eval/mean")
    if not steps:
        return
    by_step = {line["step"]: line["metrics"] for line in lines}
    ends = [[_number(by_step[step].get(f"eval/{end}")) for step in steps] for end in ("low", "high")]
    below = [max(0.0, mean - low) for mean, low in zip(means, ends[0], strict=True)]
    above = [max(0.0, high - mean) for mean, high in zip(means, ends[1], strict=True)]
    axes.errorbar(
        steps, means, yerr=[below, above], color=RED, ecolor=ROSE, elinewidth=1.4, linewidth=1.0, linestyle=(0, (1, 2)),
        marker="o", markersize=4.5, label="validation, 95% interval", zorder=4,
    )  # fmt: skip


def _draw_before_and_after(axes: Axes, evaluation: Mapping[str, Any], last_step: int) -> None:
    """Draw the measurements before and after the run, with their values."""
    for name, x, offset, side in (("before", -0.03, -7, "right"), ("after", 1.03, 7, "left")):
        if evaluation.get(name) is None:
            continue
        value = Estimate.from_json(evaluation[name])
        low, high = value.ci95 or (value.mean, value.mean)
        ends = [[max(0.0, value.mean - low)], [max(0.0, high - value.mean)]]
        axes.errorbar(
            [x * last_step], [value.mean], yerr=ends, color=INK, elinewidth=1.4, capsize=3, linestyle="none",
            marker="D", markersize=6, label="before and after, 95% interval" if name == "before" else None, zorder=5,
        )  # fmt: skip
        axes.annotate(
            f"{name}\n{value.mean:.2f}", (x * last_step, value.mean), (offset, 0), textcoords="offset points", ha=side,
            va="center", fontsize=9, fontweight="bold", linespacing=1.3, annotation_clip=False,
        )  # fmt: skip


def _arms_figure(comparison: Comparison) -> RunFigure:
    names = list(comparison.means)
    parts = {f"all {comparison.num_tasks} tasks": comparison.means, **comparison.subsets}
    figure = _figure(1.3 + 0.28 * len(names) * (1 + len(parts)))
    axes = figure.add_subplot()
    for part, (label, means) in enumerate(parts.items()):
        shift = 0.24 * (part - (len(parts) - 1) / 2)
        heights = [row + shift for row in range(len(names))]
        values = [means[name].mean for name in names]
        ends = [means[name].ci95 or (means[name].mean, means[name].mean) for name in names]
        below = [max(0.0, value - low) for value, (low, _) in zip(values, ends, strict=True)]
        above = [max(0.0, high - value) for value, (_, high) in zip(values, ends, strict=True)]
        colour = INK if part == 0 else PHASE_COLOURS[part - 1]
        axes.errorbar(
            values, heights, xerr=[below, above], color=colour, elinewidth=1.6, capsize=3, linestyle="none",
            marker="D" if part == 0 else "o", markersize=6 if part == 0 else 5, label=label,
        )  # fmt: skip
        for value, height, (_, high) in zip(values, heights, ends, strict=True):
            axes.annotate(f"{value:.2f}", (high, height), (7, 0), textcoords="offset points", va="center",
                          color=colour, fontsize=8.5, fontweight="bold" if part == 0 else "normal")  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", colors=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0.1)
    axes.set_xlabel("mean score with its 95% interval")
    axes.set_title("Held-out tasks with and without passages", fontsize=12.5, fontweight="bold", pad=12)
    if len(parts) > 1:
        figure.legend(loc="outside lower center", ncols=len(parts), fontsize=8.8, handlelength=1.6)
    return figure


def _training_figure(lines: Sequence[Mapping[str, Any]]) -> RunFigure:
    """Draw panels of further metrics; panels without data are omitted."""
    panels = [panel for panel in PANELS if _names(lines, panel.metric)]
    timed = [line for line in lines if line["step"] > 0 and line["seconds"]]
    count = max(1, len(panels) + bool(timed))
    rows = math.ceil(count / 2)
    figure = _figure(2.45 * rows)
    last_step = max((line["step"] for line in lines), default=1)
    grid = list(figure.subplots(rows, 2 if count > 1 else 1, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
        names = _names(lines, panel.metric)
        for index, name in enumerate(names):
            steps, values = _series(lines, name)
            colour = BLUE if len(names) == 1 else PHASE_COLOURS[index % len(PHASE_COLOURS)]
            label = name.removeprefix(panel.metric)
            axes.plot(steps, values, color=colour, linewidth=1.4, label=label, **_marker(steps))
        if panel.metric.endswith("/"):
            axes.legend(loc="best", fontsize=8)
        axes.set_title(panel.title, fontweight="bold")
        axes.set_ylabel(panel.unit)
        if panel.is_share:
            axes.set_ylim(-0.03, 1.06)
    if timed:
        _draw_times(grid[len(panels)], timed)
    for axes in grid[:count]:
        _step_axis(axes, last_step)
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure


def _draw_times(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    """Draw the seconds of each step, stacked by phase."""
    edges = [line["step"] - 0.5 for line in lines] + [lines[-1]["step"] + 0.5]
    base = [0.0] * len(lines)
    phases = dict.fromkeys(name for line in lines for name in line["seconds"])
    for index, phase in enumerate(phases):
        top = [low + (line["seconds"].get(phase) or 0.0) for low, line in zip(base, lines, strict=True)]
        colour = PHASE_COLOURS[index % len(PHASE_COLOURS)]
        axes.stairs(top, edges, baseline=base, fill=True, color=colour, label=phase.replace("_", " "), linewidth=0)
        base = top
    axes.set_ylim(0, 1.25 * max(*base, 1e-9))
    axes.set_title("Time per step", fontweight="bold")
    axes.set_ylabel("seconds")
    axes.legend(loc="upper left", ncols=3, fontsize=8, handlelength=1.0, handleheight=0.8, columnspacing=1.0)


def _names(lines: Sequence[Mapping[str, Any]], metric: str) -> list[str]:
    """Return the metrics of a panel that have a value."""
    names = dict.fromkeys(name for line in lines for name in line["metrics"])
    matches = [name for name in names if (name.startswith(metric) if metric.endswith("/") else name == metric)]
    return [name for name in matches if _series(lines, name)[0]]


def _series(lines: Sequence[Mapping[str, Any]], metric: str) -> tuple[list[int], list[float]]:
    """Return steps and values of the lines with the metric."""
    points = [(line["step"], _number(line["metrics"].get(metric))) for line in lines]
    points = [point for point in points if not math.isnan(point[1])]
    return [step for step, _ in points], [value for _, value in points]


def _number(value: float | None) -> float:
    """Turn JSON's null into NaN, which matplotlib skips."""
    return math.nan if value is None else value


def _rolling_means(values: Sequence[float], window: int) -> list[float]:
    """Return the moving mean of `window` values."""
    return [math.fsum(values[end - window : end]) / window for end in range(window, len(values) + 1)]


def _marker(steps: Sequence[int]) -> dict[str, Any]:
    """Draw dots for a short run, because a line with one step is invisible."""
    return {"marker": "o", "markersize": 3} if len(steps) <= 12 else {}


def _figure(height_inches: float) -> RunFigure:
    """Create an empty figure with margins."""
    return RunFigure(figsize=(8, height_inches), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))


def _step_axis(axes: Axes, last_step: int) -> None:
    """Set ticks at round steps within the run."""
    ticks = MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10]).tick_values(0, last_step)
    axes.set_xticks([tick for tick in ticks if 0 <= tick <= last_step])
    axes.set_xlabel("training step")


def _save(figure: RunFigure, path: Path) -> None:
    """Write the picture under another name first, so that an existing one is never half overwritten."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(_png(figure))
    unfinished.replace(path)


def _png(figure: RunFigure) -> bytes:
    with io.BytesIO() as file, matplotlib.rc_context(STYLE):
        figure.savefig(file, format="png", dpi=150)
        return file.getvalue()
