"""Pipelines of fake stages in this process: done stages stay, killed ones continue, and the result is the same."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rft.config import RunConfig
from rft.config.pipeline_arguments import read_pipeline
from rft.errors import ConfigError, LearnError, OutputError
from rft.pipeline.runner import run_pipeline
from rft.pipeline.stages import placed
from rft.run_folder.recorder import read_manifest, read_metrics
from tests.kill_points import Killed, killed_at

from .conftest import SHARED, STAGES, Trainer


def pipeline(trainer: Trainer, *words: str) -> tuple[int, str]:
    """Run a pipeline; return its exit code and what it prints."""
    file = io.StringIO()
    _, code = run_pipeline(words, console=Console(file=file, width=200), train=trainer)
    return code, file.getvalue()


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "pipeline.json").read_text())
    return record


def result_of(folder: Path) -> list[Any]:
    """Adapter of each stage, and its policies."""
    stages = [folder / "01-one", folder / "02-two"]
    adapters = [(stage / "adapter" / "adapter_model.safetensors").read_bytes() for stage in stages]
    return [*adapters, *([line["policy"] for line in read_metrics(stage)] for stage in stages)]


def test_each_stage_starts_from_the_one_before(trainer: Trainer, tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    code, printed = pipeline(trainer, *STAGES, f"output_dir={folder}")
    assert (code, trainer.begun) == (0, ["01-one from 0", "02-two from 0"])
    ends = [read_metrics(folder / name)[-1]["policy"]["fingerprint"] for name in ("01-one", "02-two")]
    start = read_manifest(folder / "02-two")["start"]
    assert (start["path"], start["fingerprint"], start["step"]) == (str(folder / "01-one"), ends[0], 2)
    assert read_metrics(folder / "02-two")[0]["policy"] == {"version": 0, "fingerprint": ends[0]}
    record = record_of(folder)
    assert record["status"] == "finished"
    assert [(stage["name"], stage["folder"], stage["status"], stage["steps"]) for stage in record["stages"]] == [
        ("one", "01-one", "finished", 2),
        ("two", "02-two", "finished", 3),
    ]
    assert record["difference"]["mean"] == record["stages"][1]["difference"]["mean"] == 0.0
    assert "stage 2 of 2, two: " in printed
    assert "whole pipeline, paired by task: +0.000 [" in printed


@pytest.mark.parametrize("word", ["evaluation.temperature=0.5", "data.shots=1"])
def test_stages_that_measure_differently_are_not_compared(trainer: Trainer, tmp_path: Path, word: str) -> None:
    folder, key = tmp_path / "pipeline", word.partition("=")[0]
    _, printed = pipeline(trainer, *STAGES, f"stages.two.{word}", f"output_dir={folder}")
    assert f"whole pipeline: not compared, because first and last stage differ in {key}" in printed
    assert record_of(folder)["difference"] is None


def test_done_stages_are_not_repeated(trainer: Trainer, tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"

    def stop(stage: str, step: int) -> None:
        if stage == "02-two":
            raise LearnError("no more")

    trainer.learning = stop
    with pytest.raises(LearnError) as caught:
        pipeline(trainer, *STAGES, f"output_dir={folder}")
    assert caught.value.__notes__[-1] == f"to continue the pipeline: rft pipeline resume={folder}"
    assert record_of(folder)["status"] == "failed"
    assert [stage["status"] for stage in record_of(folder)["stages"]] == ["finished", "failed"]
    trainer.learning, trainer.begun = lambda stage, step: None, []
    code, printed = pipeline(trainer, f"resume={folder}")
    assert (code, trainer.begun) == (0, ["02-two from 0"])
    assert f"stage 1 of 2, one: done before, in {folder / '01-one'}" in printed
    trainer.begun = []
    assert pipeline(trainer, f"resume={folder}")[0] == 0
    assert trainer.begun == []


def test_an_interrupted_stage_ends_the_pipeline_and_continues(trainer: Trainer, tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    words = (*STAGES, f"output_dir={folder}", "or_resume=true")
    ended = run_pipeline(words, console=Console(quiet=True), train=lambda run, command: 130)
    assert (ended, record_of(folder)["status"]) == ((folder, 130), "interrupted")
    code, _ = pipeline(trainer, *words)
    assert (code, trainer.begun) == (0, ["01-one from 0", "02-two from 0"])
    with pytest.raises(OutputError, match="holds a pipeline with another command"):
        pipeline(trainer, *words, "seed=3")


def test_a_pipeline_that_is_killed_between_its_stages_ends_the_same(trainer: Trainer, tmp_path: Path) -> None:
    expected, folder = tmp_path / "expected", tmp_path / "killed"
    pipeline(trainer, *STAGES, f"output_dir={expected}")

    def kill(run: RunConfig, command: Sequence[str]) -> int:
        if run.output_dir.endswith("02-two"):
            raise Killed
        return trainer(run, command)

    with pytest.raises(Killed):
        run_pipeline([*STAGES, f"output_dir={folder}"], console=Console(quiet=True), train=kill)
    trainer.begun = []
    assert pipeline(trainer, f"resume={folder}")[0] == 0
    assert trainer.begun == ["02-two from 0"]
    assert result_of(folder) == result_of(expected)


OTHERS = [pytest.param(first, marks=pytest.mark.full) for first in range(0, 90, 5) if first != 20]


@pytest.mark.parametrize("first", [20, *OTHERS])
def test_a_pipeline_that_is_killed_within_its_stages_ends_the_same(
    trainer: Trainer, tmp_path: Path, first: int
) -> None:
    expected = tmp_path / "expected"
    pipeline(trainer, *STAGES, f"output_dir={expected}")
    for number in range(first, 10_000, 90):
        folder = tmp_path / str(number)
        words = (*STAGES, f"output_dir={folder}")
        with killed_at(number) as point:
            pipeline(trainer, *words)
        if not point.is_dead:
            return
        for lock in folder.rglob("run.lock"):  # the end of a process releases its locks
            lock.unlink()
        assert pipeline(trainer, *words, "or_resume=true")[0] == 0
        assert result_of(folder) == result_of(expected), f"killed at change {number}"
        assert record_of(folder)["status"] == "finished"


def test_the_problems_of_all_stages_are_reported_before_the_first_one_starts(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(run: RunConfig, console: Console) -> None:
        if run.loop.steps == 3:
            raise OutputError("data", ["a row is wrong"])

    monkeypatch.setattr("rft.pipeline.runner.plan_training", check)
    words = ["stages.one.learner.adapter.rank=8", "stages.three.learner.adapter.rank=4", "stages.three.loop.stepz=1"]
    with pytest.raises(ConfigError) as caught:
        pipeline(trainer, *STAGES, *words, f"output_dir={tmp_path / 'pipeline'}")
    first, *others = caught.value.problems
    assert first == "stage two: a row is wrong"
    assert [problem.partition(";")[0] for problem in others] == ["stage three: loop.stepz is unknown"]
    with pytest.raises(ConfigError) as caught:
        pipeline(trainer, *STAGES[:-1], *words[:2], f"output_dir={tmp_path / 'pipeline'}")
    assert caught.value.problems == (
        "stage three: learner.adapter.rank=4: the stage before trains an adapter with 8; leave it out",
    )
    assert not (tmp_path / "pipeline").exists()


def test_the_command_of_a_stage_follows_from_the_stage_before(tmp_path: Path) -> None:
    one, two = placed(read_pipeline(STAGES).stages, tmp_path)
    start = f"start='{tmp_path / '01-one'}'"
    assert (one.command, two.command[-1]) == ([*SHARED, "loop.steps=2"], start)
    (one.folder / "start_model").mkdir(parents=True)  # it trained on a merged model
    assert two.command[-2:] == [start, "model.path=null"]
    (one.folder / "model").mkdir()
    (one.folder / "model" / "config.json").touch()
    assert two.command[-3:] == [start, "start_mode=merge", "model.path=null"]


@pytest.mark.parametrize("record", ["{", "[]", '{"words": 5}', '{"words": ["seed=1", 7]}', "\N{BELL}"])
def test_a_damaged_record_is_named(trainer: Trainer, tmp_path: Path, record: str) -> None:
    (tmp_path / "pipeline.json").write_text(record)
    with pytest.raises(OutputError, match=r"pipeline.json is damaged, or rft did not write it; repeat the command"):
        pipeline(trainer, f"resume={tmp_path}")


def test_what_is_known_before_the_first_stage_is_refused_then(trainer: Trainer) -> None:
    with pytest.raises(ConfigError) as caught:
        pipeline(trainer, *STAGES, "stages.one.learner.adapter=dora", "stages.two.start_mode=stack")
    assert caught.value.problems == (
        "stage two: start_mode=stack: the stage before trains DoRA, and only plain LoRA can be added to; use "
        "start_mode=merge",
    )
    with pytest.raises(ConfigError) as caught:
        pipeline(trainer, *STAGES, "stages.one.loop.steps=0", "stages.two.loop.steps=-1")
    assert [problem.partition("=")[0] for problem in caught.value.problems] == [
        "stage one: loop.steps",
        "stage two: loop.steps",
    ]


def test_what_a_resume_may_not_change(trainer: Trainer, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the folder contains no pipeline \(no pipeline.json\)"):
        pipeline(trainer, f"resume={tmp_path}")
    pipeline(trainer, *STAGES, f"output_dir={tmp_path / 'pipeline'}")
    with pytest.raises(ConfigError, match=r"loop.steps: cannot be changed on resume; allowed are dry_run, or_resume"):
        pipeline(trainer, f"resume={tmp_path / 'pipeline'}", "loop.steps=3")
    with pytest.raises(ConfigError, match="or_resume=true: give output_dir=<folder>, too"):
        pipeline(trainer, *STAGES, "or_resume=true")


def test_a_dry_run_plans_each_stage(trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rft.pipeline.runner.plan_training", lambda run, console: f"plan of {run.loop.steps} steps")
    code, printed = pipeline(trainer, *STAGES, f"output_dir={tmp_path / 'pipeline'}", "dry_run=true")
    assert (code, trainer.begun) == (0, [])
    assert printed == "stage 1, one:\nplan of 2 steps\n\nstage 2, two:\nplan of 3 steps\n\n"
    assert not (tmp_path / "pipeline").exists()
