"""Plots of a sweep: scores with intervals, scores by setting, and validation scores by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from rft.reliability.durable import writing
from rft.run_folder.plots import BLUE, GREY, PALE, RED, STYLE
from rft.run_folder.recorder import read_metrics
from rft.sweep.outcome import Outcome

MAX_LABEL_CHARACTERS = 48
LOGARITHMIC_FROM = 20.0
"""Values that span at least this factor have a logarithmic axis."""


def plot_sweep(folder: Path, best_first: Sequence[Outcome], searched: Sequence[str]) -> list[Path]:
    """Draw `plots/trials.png`, `plots/settings.png` and `plots/courses.png`, each only if it has data.

    Args:
        folder: The sweep folder.
        best_first: The trials, the best first.
        searched: The keys that differ between trials.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    scored = [outcome for outcome in best_first if outcome.score is not None]
    courses = {outcome: course for outcome in best_first if (course := _course(outcome))}
    figures: dict[str, Figure] = {}
    paths = []
    plots = folder / "plots"
    with matplotlib.rc_context(STYLE), writing(plots):
        if scored:
            figures["trials"] = _trials_figure(scored, searched)
        if scored and searched:
            figures["settings"] = _settings_figure(scored, searched)
        if courses:
            figures["courses"] = _courses_figure(courses)
        plots.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            paths.append(plots / f"{name}.png")
            figure.savefig(paths[-1], dpi=150)
    return paths


def _trials_figure(scored: Sequence[Outcome], searched: Sequence[str]) -> Figure:
    """Draw a row for each trial, the best on top."""
    figure = _figure(height=1.4 + 0.32 * len(scored))
    axes = figure.add_subplot()
    for row, outcome in enumerate(scored):
        assert outcome.score is not None
        if outcome.score.ci95 is not None:
            axes.plot(outcome.score.ci95, (row, row), color=PALE, linewidth=4, solid_capstyle="round")
        axes.plot(outcome.score.mean, row, marker="o", color=RED if row == 0 else BLUE)
    axes.set_yticks(range(len(scored)), [_label(outcome, searched) for outcome in scored], fontsize=8)
    axes.set_ylim(len(scored) - 0.4, -0.6)
    axes.set_xlabel("held-out score after the run, 95% interval")
    axes.set_title("Trials, the best on top", fontweight="bold")
    return figure


def _settings_figure(scored: Sequence[Outcome], searched: Sequence[str]) -> Figure:
    """Draw the scores over the values of each key."""
    figure = _figure(height=3.4, width=max(5.0, 3.2 * len(searched)))
    for place, key in enumerate(searched):
        axes = figure.add_subplot(1, len(searched), place + 1)
        given = [(outcome.settings([key]), outcome.score) for outcome in scored]
        points = [(settings[key], score.mean) for settings, score in given if key in settings and score is not None]
        _draw_setting(axes, [value for value, _ in points], [mean for _, mean in points])
        axes.set_xlabel(key)
        if place == 0:
            axes.set_ylabel("held-out score")
            axes.set_title("Held-out score by setting", fontweight="bold")
    return figure


def _draw_setting(axes: Axes, values: Sequence[str], means: Sequence[float]) -> None:
    """Place numbers on an axis, and other values at one position each."""
    numbers = _numbers(values)
    if numbers is None:
        names = list(dict.fromkeys(values))
        axes.plot([names.index(value) for value in values], means, "o", color=BLUE, alpha=0.8)
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.set_xlim(-0.5, len(names) - 0.5)
        return
    axes.plot(numbers, means, "o", color=BLUE, alpha=0.8)
    if numbers and min(numbers) > 0 and max(numbers) / min(numbers) >= LOGARITHMIC_FROM:
        axes.set_xscale("log")
    elif len(set(numbers)) <= 6:
        axes.set_xticks(sorted(set(numbers)), [f"{number:g}" for number in sorted(set(numbers))])


def _courses_figure(courses: dict[Outcome, list[tuple[int, float]]]) -> Figure:
    """Draw the validation score over the steps, one line for each trial."""
    figure = _figure(height=3.8)
    axes = figure.add_subplot()
    for place, (outcome, course) in enumerate(courses.items()):
        is_whole, is_best = outcome.status == "finished", place == 0 and outcome.status == "finished"
        steps, means = zip(*course, strict=True)
        axes.plot(
            steps,
            means,
            color=RED if is_best else BLUE if is_whole else GREY,
            linewidth=2.0 if is_best else 1.1,
            linestyle="-" if is_whole else (0, (2, 1.5)),
            alpha=1.0 if is_best else 0.6,
            marker="o",
            markersize=3,
        )
        axes.annotate(str(outcome.number), (steps[-1], means[-1]), (4, 0), textcoords="offset points", fontsize=8)
    axes.set_xlabel("training step")
    axes.set_ylabel("validation score")
    axes.set_title("On the way (red: the best trial; dashed: not finished)", fontweight="bold")
    return figure


def _course(outcome: Outcome) -> list[tuple[int, float]]:
    lines = read_metrics(outcome.folder)
    return [(line["step"], line["metrics"]["eval/mean"]) for line in lines if "eval/mean" in line["metrics"]]


def _label(outcome: Outcome, searched: Sequence[str]) -> str:
    values = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in outcome.settings(searched).items())
    text = f"{outcome.number}: {values}" if values else str(outcome.number)
    return text if len(text) <= MAX_LABEL_CHARACTERS else text[: MAX_LABEL_CHARACTERS - 3] + "..."


def _numbers(values: Sequence[str]) -> list[float] | None:
    try:
        return [float(value) for value in values]
    except ValueError:
        return None


def _figure(*, height: float, width: float = 7.5) -> Figure:
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
