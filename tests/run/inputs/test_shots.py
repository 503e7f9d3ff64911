"""Worked examples of a run and of an evaluation: where they come from, and where they are recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rft.config import EvaluateConfig, RunConfig
from rft.config.commands import load_evaluation
from rft.data.shots import FILE, Shots
from rft.errors import ConfigError, UsageError
from rft.run.check import plan_training
from rft.run.inputs.fitting import Reuse
from rft.run.inputs.prepare import Prepared, prepare
from rft.run.open_folder import open_recorder
from rft.run_folder.recorder import read_manifest


def write(file: Path, *prompts: str) -> str:
    file.write_text("".join(json.dumps({"prompt": prompt, "answer": prompt[0]}) + "\n" for prompt in prompts))
    return str(file)


@pytest.fixture
def values(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """Six training tasks, of which one is also a test task."""
    return {
        "output_dir": str(tmp_path / "run"),
        "model": {"path": str(tiny_model), "max_context_tokens": 60},
        "data": {
            "train": write(tmp_path / "train.jsonl", *"abcdef"),
            "test": write(tmp_path / "test.jsonl", *"fg"),
            "allow_overlap": True,
            "shots": 2,
        },
        "sampler": {"kind": "fake", "max_completion_tokens": 20},
        "graders": {"correct": {"use": "exact"}},
    }


def run_of(values: dict[str, Any], **data: Any) -> RunConfig:
    more = {"data": values["data"] | data, "learner": {"kind": "fake"}, "loop": {"prompts_per_step": 1}}
    return RunConfig.model_validate(values | more)


def evaluation_of(values: dict[str, Any], **changes: Any) -> EvaluateConfig:
    return EvaluateConfig.model_validate(values | changes)


def shots_of(prepared: Prepared) -> Shots:
    assert prepared.renderer.shots is not None
    return prepared.renderer.shots


def test_a_run_draws_and_records_its_examples(values: dict[str, Any]) -> None:
    run = run_of(values)
    prepared = prepare(run, needs_training_tasks=True)
    shots = shots_of(prepared)
    assert (shots.num, shots.seed, shots.source, len(shots.examples)) == (2, 0, values["data"]["train"], 3)
    assert {shot.chat[0]["content"] for shot in shots.examples} < set("abcde"), "f is a test task"
    # Two examples of <|user|> a <|end|> <|assistant|> a <|end|>, and a prompt of 4 tokens.
    assert prepared.longest_prompt_tokens == 2 * 6 + 4
    recorder = open_recorder(run, prepared, ["rft", "train"], None)
    assert (recorder.folder / FILE).read_text() == shots.to_text()
    assert read_manifest(recorder.folder)["prompts"]["shots"] == shots.to_manifest()


def test_an_evaluation_of_the_base_model_draws_the_same_examples(values: dict[str, Any]) -> None:
    of_the_run = shots_of(prepare(run_of(values), needs_training_tasks=True))
    measured = prepare(evaluation_of(values), needs_training_tasks=False)
    assert shots_of(measured) == of_the_run
    assert (measured.tasks.train, len(measured.tasks.test)) == ([], 2)


def test_an_evaluation_draws_from_demonstrations(values: dict[str, Any], tmp_path: Path) -> None:
    chats = [[{"role": "user", "content": x}, {"role": "assistant", "content": x}] for x in "ab"]
    file = tmp_path / "demonstrations.jsonl"
    file.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    data = values["data"] | {"train": str(file)}
    shots = shots_of(prepare(evaluation_of(values, data=data), needs_training_tasks=False))
    assert sorted(shot.chat[1]["content"] for shot in shots.examples) == ["a", "b"]


def test_the_adapter_of_a_run_keeps_the_examples_of_its_run(
    values: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    run = run_of(values, system="Add.")
    prepared = prepare(run, needs_training_tasks=True)
    folder = open_recorder(run, prepared, ["rft", "train"], None).folder
    words = [f"adapter={folder}", f"model.path={tiny_model}", f"data.test={values['data']['test']}"]
    words += ["graders.correct.use=exact", "sampler=fake"]
    config = load_evaluation([*words, f"output_dir={tmp_path / 'evaluation'}"])
    assert (config.data.shots, config.data.train, config.data.system) == (2, None, "Add.")
    assert shots_of(prepare(config, needs_training_tasks=False)) == shots_of(prepared)
    assert load_evaluation([*words, "data.shots=0"]).data.shots == 0
    with pytest.raises(UsageError, match="the run of this adapter has no record of 1 worked examples; give the"):
        prepare(load_evaluation([*words, "data.shots=1"]), needs_training_tasks=False)
    drawn = load_evaluation(
        [*words, "data.shots=1", f"data.train={values['data']['train']}", "data.allow_overlap=true"]
    )
    assert shots_of(prepare(drawn, needs_training_tasks=False)).num == 1


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    words = ["model.path=embedded:tiny", "data.test=embedded:gcd/test", "graders.correct.use=exact", "data.shots=2"]
    with pytest.raises(ConfigError, match=r"data.shots=2: data.train is missing: the training tasks with the worked"):
        load_evaluation(words)
    with pytest.raises(ConfigError, match=r"data.shot_answer=solution: data.shots=0 shows no worked example"):
        load_evaluation([*words[:3], "data.shot_answer=solution"])


def test_all_problems_are_reported_together(values: dict[str, Any]) -> None:
    run = run_of(values, shots=5).model_copy(update={"graders": {"correct": {"use": "exat"}}})
    with pytest.raises(UsageError) as caught:
        prepare(run, needs_training_tasks=True)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["data.shots=5", "graders.correct.use"]


def test_configurations_with_other_examples_share_no_lengths(values: dict[str, Any]) -> None:
    reuse = Reuse()
    lengths = [
        prepare(run_of(values, shots=shots), needs_training_tasks=True, reuse=reuse).longest_prompt_tokens
        for shots in (0, 1, 2)
    ]
    assert lengths == [4, 10, 16]


def test_the_plan_names_the_examples(values: dict[str, Any]) -> None:
    row = plan_training(run_of(values), Console(quiet=True)).rows["examples"]
    assert row is not None
    assert row.startswith(f"2 before every prompt: {values['data']['train']}:")
