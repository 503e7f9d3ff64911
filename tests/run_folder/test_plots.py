"""The pictures of a run: they are there, they are of a sane size, and they show what was recorded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D

from rft.metrics.intervals import Estimate
from rft.run_folder import plots
from rft.run_folder.recorder import Recorder
from rft.types import Policy, StepReport


def record(folder: Path, num_steps: int) -> Recorder:
    """A run whose reward rises from 0.1 in steps of 0.05, measured every second step."""
    recorder = Recorder(folder)
    for step in range(1, num_steps + 1):
        metrics = {"reward/mean": 0.05 + 0.05 * step, "learner/loss": float("nan"), "learner/kl": 0.01 * step}
        held_out = Estimate(mean=0.5, ci95=(0.4, 0.7), n=10).to_metrics("eval") if step % 2 == 0 else {}
        recorder.metrics(
            StepReport(
                step=step,
                policy=Policy(version=step, fingerprint="f"),
                metrics=metrics | held_out,
                seconds={"sample_and_grade": 2.0, "learn": 1.0},
            )
        )
    return recorder


def xs(line: Line2D) -> list[float]:
    return [float(x) for x in np.asarray(line.get_xdata())]


def ys(line: Line2D) -> list[float]:
    return [float(y) for y in np.asarray(line.get_ydata())]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures by file name; saved as ever."""
    seen: dict[str, Figure] = {}
    save = plots._save

    def spy(figure: Figure, path: Path) -> None:
        seen[path.name] = figure
        save(figure, path)

    monkeypatch.setattr(plots, "_save", spy)
    return seen


def test_draws_both_pictures(tmp_path: Path, figures: dict[str, Figure]) -> None:
    before, after = Estimate(mean=0.1, ci95=(0.0, 0.3), n=10), Estimate(mean=0.6, ci95=None, n=1)
    difference = Estimate(mean=0.5, ci95=(0.3, 0.7), n=10)
    evaluation: dict[str, Any] = {
        "before": before.to_json(),
        "after": after.to_json(),
        "difference": difference.to_json(),
    }
    evaluation["metric"] = "correct"
    record(tmp_path, 8).summary({"eval": evaluation})
    path = plots.plot_rewards(tmp_path)
    assert path == tmp_path / "plots" / "reward.png"
    assert imread(path).shape[:2] == (675, 1200)  # 4.5 x 8 inches at 150 dots per inch
    assert imread(path.with_name("training.png")).shape[1] == 1200
    assert sorted(file.name for file in path.parent.iterdir()) == ["reward.png", "training.png"]

    (axes,) = figures["reward.png"].axes
    training, mean_of_5, validation, *_ = axes.lines
    assert ys(training) == pytest.approx([0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45])
    assert xs(mean_of_5) == [5, 6, 7, 8]
    assert ys(mean_of_5) == pytest.approx([0.2, 0.25, 0.3, 0.35])
    assert xs(validation) == [2, 4, 6, 8]
    assert axes.get_ylabel() == "training: mean reward, held-out: mean correct"
    texts = [text.get_text() for text in axes.texts]
    assert "before\n0.10" in texts
    assert "after\n0.60" in texts
    assert any("+0.500 [+0.300, +0.700]" in text for text in texts)

    titles = [axes.get_title(loc="left") for axes in figures["training.png"].axes if axes.axison]
    assert titles == ["Distance from the base model", "Time per step"]  # the loss was never a number


@pytest.mark.parametrize("num_steps", [0, 1])
def test_a_run_that_hardly_began_is_drawn_too(tmp_path: Path, num_steps: int) -> None:
    record(tmp_path, num_steps)
    assert plots.plot_rewards(tmp_path).stat().st_size > 1000


def test_a_summary_without_measurements_is_no_obstacle(tmp_path: Path, figures: dict[str, Figure]) -> None:
    nothing = {"before": None, "after": None, "difference": None}
    record(tmp_path, 3).summary(json.loads(json.dumps({"eval": nothing})))
    plots.plot_rewards(tmp_path)
    assert [text.get_text() for text in figures["reward.png"].axes[0].texts] == []
