"""The arguments of a pipeline: which of them are its own, and which each stage gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from rft.config.command_line import quoted
from rft.config.commands import load_training
from rft.config.pipeline_arguments import NO_STAGES, read_pipeline
from rft.config.recorded_words import resumed_words
from rft.errors import ConfigError


def problems_of(*words: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read_pipeline(words)
    return caught.value.problems


def test_stages_get_what_is_shared_and_what_is_their_own() -> None:
    pipeline = read_pipeline(
        [
            "experiment=quickstart",
            "stages.sft.learner=sft",
            "stages.sft.loop.steps=4",
            "seed=3",
            "stages.grpo.data.system='Be brief, please.'",
            "output_dir=here",
        ]
    )
    assert pipeline.config.output_dir == "here"
    assert [(stage.folder_name, stage.words) for stage in pipeline.stages] == [
        ("01-sft", ("experiment=quickstart", "seed=3", "learner=sft", "loop.steps=4")),
        ("02-grpo", ("experiment=quickstart", "seed=3", "data.system='Be brief, please.'")),
    ]
    runs = [load_training(stage.words) for stage in pipeline.stages]
    assert [(run.learner.kind, run.loop.steps, run.seed) for run in runs] == [("sft", 4, 3), ("grpo", 40, 3)]


def test_a_stage_may_set_a_learner_and_a_key_of_it(tmp_path: Path) -> None:
    words = ["stages.one.learner=sft", "stages.one.learner.learning_rate=1e-4", "stages.one.learner.adapter=rslora"]
    (stage,) = read_pipeline([*words, "experiment=quickstart"]).stages
    run = load_training(stage.words)
    assert (run.learner.kind, run.learner.adapter.method) == ("sft", "rslora")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nstages:\n  one: {experiment: quickstart, learner: sft, loop: {steps: 3}}\n"
    )
    folder = f"hydra.searchpath=[{quoted(f'file://{tmp_path}')}]"
    (stage,) = read_pipeline([folder, "experiment=mine", "stages.one.learner=raft", "stages.one.loop.steps=5"]).stages
    assert stage.words[1:] == ("experiment=quickstart", "learner=raft", "loop.steps=5")


def test_an_experiment_that_lists_stages(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nstages:\n  one: {experiment: quickstart, loop.steps: 3}\n  two: {learner: raft}\n"
    )
    folder = f"hydra.searchpath=[{quoted(f'file://{tmp_path}')}]"
    words = ["stages.one.loop.steps=5", "~stages.two", "model.dtype=float32"]
    pipeline = read_pipeline([folder, "experiment=mine", *words])
    (stage,) = pipeline.stages
    assert (stage.number, stage.name, stage.words[:2]) == (1, "one", (folder, "model.dtype=float32"))
    assert load_training(stage.words).loop.steps == 5
    (problem,) = problems_of("experiment=min")
    assert problem.startswith("experiment=min: unknown preset")
    with pytest.raises(ConfigError, match="experiment=mine: it lists the stages of a pipeline; run: rft pipeline exp"):
        load_training([folder, "experiment=mine"])


def test_what_a_stage_cannot_set() -> None:
    assert problems_of("experiment=quickstart") == (NO_STAGES,)
    one, two = "stages.one.learner=raft", "stages.two.learner=grpo"
    assert problems_of(one, two, "learner=sft", "start=runs/a", "seed=1") == (
        "learner: also among the keys of one, two; write stages.one.learner=<value>",
        "start: only the first stage has one; write stages.one.start=<folder>",
    )
    assert problems_of("stages.one.start=runs/a", "stages.two.start=runs/b", "stages.two.resume=runs/c") == (
        "stages.two.start: the stage starts from the result of the one before; leave it out",
        "stages.two.resume: the pipeline sets it for each stage; leave it out",
    )
    assert problems_of(one, two, "start_mode=merge") == (
        "start_mode: the first stage, one, starts from the base model; write stages.two.start_mode=<mode> for later "
        "ones",
    )
    assert read_pipeline([one, two, "stages.one.start=runs/a", "start_mode=merge"]).stages[0].words[0] == (
        "start_mode=merge"
    )
    assert problems_of("stages={a b: {seed: 1}}") == (
        "stages.a b: a stage's name is part of its folder's; use letters, digits, _ and -",
    )
    assert problems_of("stages.one=3") == ("stages.one=3: should be a mapping of names to values",)


def test_a_resume_repeats_the_recorded_command() -> None:
    recorded = ["seed=1", "graders.judge.api_key=<redacted>", "dry_run=true"]
    words = ["resume=here", "graders.judge.api_key=sk-1", "dry_run=false"]
    assert resumed_words(recorded, words, may_change=("dry_run",), file="pipeline.json") == ["seed=1", *words]
    with pytest.raises(ConfigError) as caught:
        resumed_words(recorded, ["resume=here"], may_change=("dry_run",), file="pipeline.json")
    assert caught.value.problems == (
        "graders.judge.api_key: a secret, which pipeline.json does not hold; give it again",
    )
    with pytest.raises(ConfigError, match=r"seed: cannot be changed on resume; allowed are dry_run, graders.judge.api"):
        resumed_words(recorded, ["resume=here", "seed=2"], may_change=("dry_run",), file="pipeline.json")
