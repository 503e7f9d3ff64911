"""A run folder, seen through `rft.open_run`: finished, unfinished, failed, or none at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import rft
from rft.errors import InstallError, OutputError
from rft.run_folder.recorder import Recorder
from rft.types import GradedGroup, Policy, StepReport

CONFIG = {
    "data": {"test": "test.jsonl"},
    "graders": {"correct": {"use": "exact"}},
    "evaluation": {"metric": "reward", "temperature": 1.0, "completions_per_task": 2},
}


@pytest.fixture
def folder(tmp_path: Path, make_group: Callable[..., GradedGroup]) -> Path:
    """A run that has done two of its steps and written no summary."""
    folder = tmp_path / "quickstart" / "monday"
    folder.mkdir(parents=True)
    recorder = Recorder(folder)
    recorder.config(CONFIG)
    recorder.document("manifest.json", json.dumps({"started_at": "2026-01-01T00:00:00+00:00"}))
    recorder.rollouts(
        [make_group([0.0, 1.0], task_id="a"), make_group([0.0, 0.0], task_id="b")], step=0, phase="before"
    )
    recorder.metrics(_report(0, metrics={"before/mean": 0.25}))
    for step in (1, 2):
        recorder.rollouts([make_group([0.0, 1.0], task_id="c")], step=step, phase="train")
        metrics = {"reward/mean": 0.1 * step} | ({"eval/mean": 0.5} if step == 2 else {})
        recorder.metrics(_report(step, metrics=metrics, drops={"correct: timeout": step}))
    return folder


def _report(step: int, **values: Any) -> StepReport:
    return StepReport(step=step, policy=Policy(version=step, fingerprint="f"), seconds={"learn": 1.5}, **values)


def test_an_unfinished_run_tells_what_it_has_done(folder: Path) -> None:
    run = rft.open_run(folder)
    assert (run.folder, run.status, run.summary["steps"]) == (folder, "unfinished", 2)
    assert run.summary["reward"] == {"first": 0.1, "last": 0.2}
    assert run.summary["eval"]["before"]["mean"] == 0.25  # task a: 0.5, task b: 0
    assert run.summary["eval"]["after"] is None
    assert run.summary["drops"] == {"correct: timeout": 3}
    assert repr(run) == f"<rft.Run {folder}: unfinished after 2 steps, reward 0.100 to 0.200>"
    assert run.config == CONFIG
    with pytest.raises(OutputError, match="has no adapter: it is unfinished after 2 steps"):
        _ = run.adapter
    assert not (folder / "summary.json").exists()


def test_metrics_have_one_row_for_each_step(folder: Path) -> None:
    metrics = rft.open_run(str(folder)).metrics
    assert list(metrics.index) == [0, 1, 2]
    assert list(metrics["policy_version"]) == [0, 1, 2]
    assert list(metrics["reward/mean"][1:]) == [0.1, 0.2]
    assert math.isnan(metrics["reward/mean"][0])
    assert metrics.loc[2, "drops/correct: timeout"] == 2
    assert metrics["seconds/learn"].sum() == 4.5
    assert str(metrics["time"].dtype).startswith("datetime64")


def test_a_run_without_a_step_has_no_metrics(folder: Path) -> None:
    (folder / "metrics.jsonl").unlink()
    run = rft.open_run(folder)
    assert run.metrics.empty
    assert (run.summary["steps"], run.summary["wall_s"]) == (0, 0.0)


def test_rollouts_by_phase_and_step(folder: Path) -> None:
    run = rft.open_run(folder)
    assert [rollout["task_id"] for rollout in run.rollouts()] == ["a", "a", "b", "b", "c", "c", "c", "c"]
    assert [rollout["reward"] for rollout in run.rollouts(phase="before")] == [0.0, 1.0, 0.0, 0.0]
    assert [rollout["index"] for rollout in run.rollouts(step=2)] == [0, 1]
    assert list(run.rollouts(phase="after")) == []


def test_a_finished_run_has_its_summary_and_its_adapter(folder: Path) -> None:
    summary = {
        "status": "finished",
        "steps": 2,
        "reward": {"first": None, "last": None},
        "eval": {"difference": {"mean": 0.5, "ci95": [0.25, 0.75], "n": 9, "caveat": None}},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "adapter").mkdir()
    run = rft.open_run(folder)
    assert (run.summary, run.adapter) == (summary, folder / "adapter")
    assert repr(run) == f"<rft.Run {folder}: finished after 2 steps, held-out +0.500 [+0.250, +0.750]>"
    with pytest.raises(OutputError, match="has no model: it trained an adapter"):
        _ = run.model


def test_a_summary_from_before_a_resume_is_out_of_date(folder: Path) -> None:
    (folder / "summary.json").write_text(json.dumps({"status": "failed", "steps": 1}))
    assert rft.open_run(folder).status == "unfinished"
    (folder / "summary.json").write_text(json.dumps({"status": "failed", "steps": 2}))
    assert rft.open_run(folder).status == "failed"


def test_a_notebook_shows_the_plots(folder: Path) -> None:
    run = rft.open_run(folder)
    before = sorted(folder.rglob("*"))
    reward, training = run.plot(), run.plot("training")
    for figure in (reward, training):
        assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert reward.axes[0].get_title(loc="left") == "Reward during training and on held-out tasks"
    assert training.axes[-1].get_title(loc="left") == "Time per step"
    assert sorted(folder.rglob("*")) == before, "a view writes nothing"


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=rf"missing does not exist \(working directory: {tmp_path}\)"):
        rft.open_run("missing")
    with pytest.raises(OutputError, match=rf"{tmp_path}/missing does not exist$"):
        rft.open_run(tmp_path / "missing")


def test_a_folder_without_a_run_is_refused(folder: Path) -> None:
    with pytest.raises(OutputError, match=f"holds no training run; did you mean {folder}"):
        rft.open_run(folder.parent)
    (folder / "config.yaml").write_text(yaml.safe_dump({}))
    (folder / "manifest.json").unlink()
    with pytest.raises(OutputError, match=r"holds no training run \(no manifest.json\)"):
        rft.open_run(folder)


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [("pandas", "pandas", lambda run: run.metrics), ("matplotlib", "plots", lambda run: run.plot())],
)
def test_an_error_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str, use: Callable[[rft.Run], Any]
) -> None:
    monkeypatch.setattr("rft.imports.is_installed", lambda name: name != package)
    with pytest.raises(InstallError, match=rf"needs {package}; run: pip install 'rft\[{extra}\]'"):
        use(rft.open_run(folder))
