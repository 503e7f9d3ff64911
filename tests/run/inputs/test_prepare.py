"""What a run needs before it starts."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rft.config import EvaluateConfig, RunConfig
from rft.errors import DataError, UsageError
from rft.models import base_model
from rft.models.base_model import EMBEDDED_MODELS
from rft.models.origin import Origin, write_origin
from rft.run.check import plan_training
from rft.run.inputs.fitting import Reuse
from rft.run.inputs.prepare import prepare
from rft.run.open_folder import manifest_of
from rft.types import Policy, Split, Task


def write(file: Path, *prompts: str) -> str:
    file.write_text("".join(json.dumps({"prompt": prompt, "answer": prompt}) + "\n" for prompt in prompts))
    return str(file)


@pytest.fixture
def values(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """Three training tasks, of which one is long."""
    return {
        "output_dir": "out",
        "model": {"path": str(tiny_model), "max_context_tokens": 100},
        "data": {"train": write(tmp_path / "train.jsonl", "aa", "bb", "c" * 90)},
        "sampler": {"kind": "fake", "max_completion_tokens": 50},
        "graders": {"correct": {"use": "exact"}, "brief": {"use": "exact", "weight": 0.5}},
    }


def train(values: dict[str, Any], **changes: Any) -> RunConfig:
    changed = {key: values[key] | of_section for key, of_section in changes.items() if key in values}
    loop = {"prompts_per_step": 1} | changes.get("loop", {})
    return RunConfig.model_validate(values | changed | {"learner": {"kind": "fake"}, "loop": loop})


def contents(tasks: list[Task]) -> list[str]:
    return [task.messages[-1]["content"] for task in tasks]


def test_what_is_prepared(values: dict[str, Any], tiny_model: Path) -> None:
    prepared = prepare(train(values, data={"long_prompts": "drop"}), needs_training_tasks=True)
    assert prepared.model == tiny_model
    assert prepared.model_name == str(tiny_model.resolve())
    assert prepared.base == Policy(version=0, fingerprint=prepared.base.fingerprint)
    assert len(prepared.base.fingerprint) == 16
    assert prepared.context_tokens == 100
    assert contents(prepared.tasks.train) == ["aa", "bb"]
    assert prepared.num_long_prompts == 1
    assert prepared.held_out == []
    assert [(grader.name, grader.weight) for grader in prepared.graders] == [("correct", 1.0), ("brief", 0.5)]
    # <|user|> a a <|end|> <|assistant|>, or without the <|end|>: a token for each letter.
    assert len(prepared.renderer.render(prepared.tasks.train[0])) in (4, 5)


def test_the_models_own_context_and_the_embedded_models_folder(
    values: dict[str, Any], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EMBEDDED_MODELS, "embedded:tiny", tiny_model)
    config = train(values, model={"path": "embedded:tiny", "max_context_tokens": None})
    prepared = prepare(config, needs_training_tasks=True)
    expected = json.loads((tiny_model / "config.json").read_text())["max_position_embeddings"]
    assert prepared.context_tokens == expected
    assert prepared.model_name == str(tiny_model.resolve())
    assert (len(prepared.tasks.train), prepared.num_long_prompts) == (3, 0)


def test_a_model_from_a_package_is_named_by_its_folder_and_its_origin(
    values: dict[str, Any], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "cache" / "my-model-0")
    origin = Origin(
        package="my-model", version="1.5", license="MIT", file="a.gguf", sha256="00ff", restored_from="Q4_1"
    )
    write_origin(folder, origin)
    monkeypatch.setattr(base_model, "restore", lambda path, key: folder)
    config = train(values, model={"path": "package:my_model"}, data={"long_prompts": "drop"})
    prepared = prepare(config, needs_training_tasks=True)
    assert prepared.model_name == str(folder)  # PEFT and vLLM load it from there
    described = manifest_of(config, prepared, ["rft", "train"])["base_model"]
    assert described["path"] == "package:my_model"
    assert described["origin"] == asdict(origin)


def test_a_long_prompt_is_an_error_otherwise(values: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"1 of 3 prompts are longer than 50 = 100 of context"):
        prepare(train(values), needs_training_tasks=True)


def test_held_out_tasks(values: dict[str, Any], tmp_path: Path) -> None:
    validation, test = write(tmp_path / "validation.jsonl", "dd"), write(tmp_path / "test.jsonl", "ee", "f" * 90)
    drop = {"long_prompts": "drop", "validation": validation}
    prepared = prepare(train(values, data=drop), needs_training_tasks=True)
    assert contents(prepared.held_out) == ["dd"]
    prepared = prepare(train(values, data=drop | {"test": test}), needs_training_tasks=True)
    assert contents(prepared.held_out) == ["ee"]
    assert [task.split for task in prepared.held_out] == [Split.TEST]
    assert contents(prepared.tasks.validation) == ["dd"]
    assert prepared.num_long_prompts == 2


def test_an_evaluation_reads_the_test_tasks_only(values: dict[str, Any], tmp_path: Path) -> None:
    data = {"train": "gone.jsonl", "validation": "gone.jsonl", "test": write(tmp_path / "test.jsonl", "ee")}
    prepared = prepare(EvaluateConfig.model_validate(values | {"data": data}), needs_training_tasks=False)
    assert (prepared.tasks.train, prepared.tasks.validation, contents(prepared.tasks.test)) == ([], [], ["ee"])


def test_there_must_be_tasks_for_a_step(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(train(values, loop={"prompts_per_step": 4}), needs_training_tasks=True)
    assert caught.value.problems == (
        "loop.prompts_per_step=4: there are only 3 training tasks; lower it or give more tasks",
    )


def test_there_must_be_tasks_for_a_step_once_the_long_ones_are_left_out(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(train(values, data={"long_prompts": "drop"}, loop={"prompts_per_step": 3}), needs_training_tasks=True)
    (problem,) = caught.value.problems
    assert problem.startswith("loop.prompts_per_step=3: there are only 2 training tasks")


def test_all_that_is_wrong(values: dict[str, Any]) -> None:
    changes: dict[str, Any] = {
        "model": {"path": "/nowhere/at/all"},
        "data": {"train": "gone.jsonl", "test": "gone.csv"},
        "graders": {"correct": {"use": "exat"}, "brief": {"use": "exact", "nope": 1}},
    }
    with pytest.raises(UsageError) as caught:
        prepare(train(values, **changes), needs_training_tasks=True)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "model.path=/nowhere/at/all",
        "data.train=gone.jsonl",
        "data.test=gone.csv",
        "graders.correct.use",
        "graders.brief.nope",
    ]


def test_a_tool_without_a_docstring_is_told_before_anything_slow_is_loaded(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tools.py").write_text("def add(a: int) -> int:\n    return a\n")
    for slow in ("prepare.load_tokenizer", "prepare.prove_template"):
        monkeypatch.setattr(f"rft.run.inputs.{slow}", lambda *_, **__: pytest.fail("slow"))
    monkeypatch.setattr("rft.episodes.tools.schemas._described", lambda _: pytest.fail("imports transformers"))
    run = train(values | {"tools": {"add": {"use": f"{tmp_path}/tools.py:add"}}}, data={"test": "gone.jsonl"})
    with pytest.raises(UsageError) as caught:
        prepare(run, needs_training_tasks=True)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == ["data.test=gone.jsonl", "tools.add"]


def test_prompts_that_the_template_refuses_are_named_by_file_and_line(values: dict[str, Any], tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{{ raise_exception('never') }}")
    test = write(tmp_path / "test.jsonl", "aa")
    config = train(values, model={"chat_template": str(template)}, data={"test": test, "allow_overlap": True})
    with pytest.raises(DataError) as caught:
        prepare(config, needs_training_tasks=True)
    assert [problem.partition("; change")[0] for problem in caught.value.problems] == [
        f"3 rows, first at {tmp_path}/train.jsonl:1: the model's chat template refuses the chat (user): never",
        f"{tmp_path}/test.jsonl:1: the model's chat template refuses the chat (user): never",
    ]


def test_configurations_that_need_the_same_share_it(values: dict[str, Any]) -> None:
    reuse = Reuse()
    first = prepare(train(values, data={"long_prompts": "drop"}), needs_training_tasks=True, reuse=reuse)
    longer = {"data": {"long_prompts": "drop"}, "sampler": {"max_completion_tokens": 5}}
    second = prepare(train(values, **longer), needs_training_tasks=True, reuse=reuse)
    assert (len(first.tasks.train), len(second.tasks.train)) == (2, 3)  # `c` 90 times fits beside 5 tokens
    assert second.tasks.train[0] is first.tasks.train[0]  # the file was read once
    assert second.graders[0] is not first.graders[0]
    assert second.tokenizer is not first.tokenizer


def test_seeds_that_split_tasks_differently_share_nothing(values: dict[str, Any], tmp_path: Path) -> None:
    many = write(tmp_path / "many.jsonl", *(f"{number} + 1" for number in range(40)))
    reuse, prepared = Reuse(), []
    for seed in (0, 1):
        config = train(values, data={"train": many, "validation_share": 0.5}).model_copy(update={"seed": seed})
        prepared.append(prepare(config, needs_training_tasks=True, reuse=reuse))
        alone = prepare(config, needs_training_tasks=True)
        assert contents(prepared[-1].tasks.validation) == contents(alone.tasks.validation)
    assert contents(prepared[0].tasks.validation) != contents(prepared[1].tasks.validation)


def test_a_check_reports_faults_of_graders_together_with_other_problems(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def raises(completion, task):\n    raise KeyError('gold')\n")
    values["graders"] = {"main": {"use": "mine.py:raises"}, "correct": {"use": "exact"}}
    with pytest.raises(UsageError) as caught:
        plan_training(train(values, loop={"prompts_per_step": 4}, data={"long_prompts": "drop"}), Console(quiet=True))
    enough, *faults = caught.value.problems
    assert enough.startswith("loop.prompts_per_step=4: there are only 3 training tasks")
    assert [fault.partition(" as the completion of ")[0] for fault in faults] == [
        "graders.main fails on the reference",
        "graders.main fails on nothing",
    ]


def test_a_check_tries_graders_on_demonstrations_only_if_they_are_graded(
    values: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "train.jsonl").write_text('{"prompt": "1+1=", "completion": "2"}\n')
    values["data"]["test"] = write(tmp_path / "test.jsonl", "1+2=")
    values |= {"learner": {"kind": "sft"}, "sampler": {"kind": "vllm", "max_completion_tokens": 5}}
    values["loop"] = {"prompts_per_step": 1}
    rows = plan_training(RunConfig.model_validate(values), Console(quiet=True)).rows
    assert rows["grader correct"] == f"1 for the reference, 0 for nothing ({tmp_path / 'test.jsonl'}:1)"
    values["data"]["check_demonstrations"] = True
    with pytest.raises(UsageError, match=r"train.jsonl:1: grader error: LookupError: .* has no column 'answer'"):
        plan_training(RunConfig.model_validate(values), Console(quiet=True))


def test_models_of_graders_that_cannot_be_read(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"max_position_embeddings": 64}')
    graders = {
        "absent": {"use": "reward_model", "model": "/nowhere/model"},
        "short": {"use": "reward_model", "model": str(tmp_path / "model"), "max_tokens": 65},
    }
    run = train(values, data={"long_prompts": "drop"}).model_copy(update={"graders": graders})
    tried: list[Any] = []
    with pytest.raises(UsageError) as caught:
        prepare(run, needs_training_tasks=True, try_graders=lambda graders, tasks: tried.append(graders))
    absent, short = caught.value.problems
    assert absent.startswith("graders.absent: the model cannot be read: ")
    assert short == (
        f"graders.short: the model cannot be read: max_tokens=65: the model {tmp_path / 'model'} takes at most 64"
    )
    assert not tried
