"""`rft.run_pipeline` and `rft.PipelineRun`."""

from __future__ import annotations

from pathlib import Path

import pytest

import rft
from rft.errors import ConfigError, LearnError, OutputError

from .conftest import SHARED, Trainer

STAGES = {"stages": {"one": {"loop.steps": 2}, "two": {"loop": {"steps": 3}}}}


@pytest.fixture(autouse=True)
def _(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rft.api.pipeline.train_stage", lambda run, command, console: trainer(run, command))


def test_run_pipeline_returns_the_runs_of_the_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pipeline"
    pipeline = rft.run_pipeline(*SHARED, STAGES, {"output_dir": folder})
    assert (pipeline.folder, pipeline.status, list(pipeline.stages)) == (folder, "finished", ["one", "two"])
    assert [run.summary["steps"] for run in pipeline.stages.values()] == [2, 3]
    assert pipeline.stages["two"].adapter == folder / "02-two" / "adapter"
    assert pipeline.summary["difference"]["mean"] == 0.0
    assert repr(pipeline) == f"<rft.PipelineRun {folder}: finished; one finished, two finished>"
    assert "whole pipeline, paired by task: +0.000 [" in capsys.readouterr().out
    rft.run_pipeline({"resume": folder}, quiet=True)
    assert capsys.readouterr().out == ""


def test_a_stage_that_fails_is_raised_and_the_others_stay_on_disk(trainer: Trainer, tmp_path: Path) -> None:
    def fail(stage: str, step: int) -> None:
        if stage == "02-two":
            raise LearnError("the learner is gone")

    trainer.learning = fail
    with pytest.raises(LearnError, match="the learner is gone"):
        rft.run_pipeline(*SHARED, STAGES, {"output_dir": tmp_path / "pipeline"}, quiet=True)
    pipeline = rft.PipelineRun(tmp_path / "pipeline")
    assert [run.status for run in pipeline.stages.values()] == ["finished", "failed"]
    trainer.learning = lambda stage, step: None
    assert rft.run_pipeline({"resume": tmp_path / "pipeline"}, quiet=True).status == "finished"


def test_what_python_refuses(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dry_run=true: in Python, "):
        rft.run_pipeline(*SHARED, STAGES, "dry_run=true")
    with pytest.raises(OutputError, match=r"contains no pipeline \(no pipeline.json\)"):
        rft.PipelineRun(tmp_path)
