"""Retrieval in the commands: the same prompt everywhere, recorded so that no store is needed again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rft.api.audit import audited_tasks
from rft.api.index import make_index
from rft.api.sample import SampleOptions, task_of
from rft.config import AuditConfig, EvaluateConfig, RunConfig
from rft.config.adapter_settings import settings_of_run, with_settings_of_run
from rft.config.index import IndexBuildConfig
from rft.errors import RetrievalError, UsageError
from rft.retrieval.stores.local import LocalStore
from rft.retrieval.stores.protocol import StoreFault
from rft.run.inputs.fitting import Reuse
from rft.run.inputs.grounded_tasks import grounded_tasks
from rft.run.inputs.prepare import Prepared, prepare
from rft.run.inputs.task_sets import load_tasks
from rft.run.open_folder import open_recorder
from rft.run_folder.completions import read_completions
from rft.run_folder.recorder import Recorder, read_manifest
from rft.types import Grade, GradedGroup, Policy, Rollout, StopReason
from tests.kill_points import killed_at

NUM_TASKS = 20


def write_tasks(folder: Path, num_test: int) -> None:
    """Write 8 training tasks, and test tasks."""
    rows = [{"prompt": f"{n}: k{n % 50}?", "answer": str(n % 50 * 7 % 50)} for n in range(num_test + 8)]
    for name, part in (("test", rows[:num_test]), ("train", rows[num_test:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))


@pytest.fixture
def values(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """An index of 50 facts, and tasks."""
    facts = [json.dumps({"id": f"p{key}", "text": f"k{key} is {key * 7 % 50}"}) + "\n" for key in range(50)]
    (tmp_path / "docs.jsonl").write_text("".join(facts))
    make_index(IndexBuildConfig(documents=str(tmp_path / "docs.jsonl"), out=str(tmp_path / "index")))
    write_tasks(tmp_path, NUM_TASKS)
    return {
        "output_dir": str(tmp_path / "run"),
        "model": {"path": str(tiny_model)},
        "data": {"train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl"), "system": "Be brief."},
        "retrieval": {"kind": "local", "index": str(tmp_path / "index"), "top_k": 2, "shuffle": True},
        "sampler": {"kind": "fake", "max_completion_tokens": 8},
        "graders": {"correct": {"use": "exact"}},
    }


def run_of(values: dict[str, Any], **changes: Any) -> RunConfig:
    return RunConfig.model_validate(values | {"learner": {"kind": "fake"}} | changes)


def prepared_by(config: RunConfig | EvaluateConfig) -> Prepared:
    return prepare(config, needs_training_tasks=isinstance(config, RunConfig))


def test_the_same_task_has_the_same_tokens_in_every_command(values: dict[str, Any], tmp_path: Path) -> None:
    write_tasks(tmp_path, 200)
    run = run_of(values)
    prepared = prepared_by(run)
    render, tasks = prepared.renderer.render, prepared.tasks.test
    trained = [render(task) for task in tasks]
    assert len(set(trained)) == 200

    evaluated = prepared_by(EvaluateConfig.model_validate(values | {"seed": 7}))
    assert [evaluated.renderer.render(task) for task in evaluated.tasks.test] == trained

    open_recorder(run, prepared, ["rft", "train"], None)
    settings = settings_of_run(Path(run.output_dir))
    assert settings["retrieval"] == run.retrieval.model_dump()
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    sampled = [
        task_of(SampleOptions(prompt=row["prompt"], system="Be brief.", retrieval=settings["retrieval"]))
        for row in rows[::50]  # each opens the store
    ]
    assert [render(task) for task in sampled] == trained[::50]

    policy, grade = Policy(version=0, fingerprint="0" * 16), Grade(scores={}, reward=None)
    groups = []
    for task in tasks:
        rollout = Rollout(
            task_id=task.id, index=0, policy=policy, prompt_ids=(1,), completion_ids=(2,), logprobs=(0.0,), text="1",
            stop=StopReason.STOP,
        )  # fmt: skip
        groups.append(GradedGroup(task=task, rollouts=(rollout,), grades=(grade,)))
    Recorder(Path(run.output_dir)).rollouts(groups, step=0, phase="test")
    again = read_completions(run.output_dir, columns={}, phase=None)
    assert [render(group.task) for group in again] == trained
    assert [group.task.item["passages"] for group in again] == [task.item["passages"] for task in tasks]


def test_a_resumed_run_needs_no_store(values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(values)
    prepared = prepared_by(run)
    open_recorder(run, prepared, ["rft", "train"], None)
    assert read_manifest(Path(run.output_dir))["prompts"]["retrieval"] == {
        "store": "local",
        "fingerprint": prepared.tasks.train[0].item["passages_fingerprint"],
        "num_queries": NUM_TASKS + 8,
    }
    resumed = run.model_copy(update={"resume": run.output_dir})
    assert prepared_by(resumed).tasks == prepared.tasks
    assert prepared_by(resumed).warnings == ()

    async def other(_: LocalStore) -> str:
        return "0123456789abcdef"

    monkeypatch.setattr(LocalStore, "fingerprint", other)
    assert "the store has changed since the run began (fingerprint 0123456789abcdef" in prepared_by(resumed).warnings[0]
    (tmp_path / "index" / "manifest.json").unlink()
    continued = prepared_by(resumed)
    assert "the store cannot be compared" in continued.warnings[0]
    assert continued.tasks == prepared.tasks


def test_a_run_from_storage_needs_no_store_either(values: dict[str, Any], tmp_path: Path) -> None:
    """A trial of a sweep is prepared before its folder is fetched."""
    run = run_of(values)
    prepared = prepared_by(run)
    open_recorder(run, prepared, ["rft", "train"], None)
    copy = Path(run.output_dir).rename(tmp_path / "copy")
    (tmp_path / "index" / "manifest.json").unlink()
    resumed = prepared_by(run.model_copy(update={"resume": str(copy)}))
    assert resumed.tasks == prepared.tasks
    assert "the store cannot be compared" in resumed.warnings[0]


def test_a_start_that_is_killed_at_any_change_of_the_disk_shows_the_same_passages(values: dict[str, Any]) -> None:
    run = run_of(values)
    prepared = prepared_by(run)
    assert prepared.grounded is not None
    assert 0 < prepared.grounded.time_share(wall_s=1.0)["share"] < 1
    resumed = run.model_copy(update={"resume": run.output_dir})
    without = prepared_by(run_of(values, retrieval={"kind": "none"})).tasks
    for number in range(1000):
        with killed_at(number) as point:
            open_recorder(run, prepared, ["rft", "train"], None)
        again = grounded_tasks(resumed, without, Reuse())
        assert again is not None and again.tasks == prepared.tasks, f"killed at change {number}"
        shutil.rmtree(run.output_dir, ignore_errors=True)
        if not point.is_dead:
            return
    raise AssertionError("the start does not end")


def test_an_evaluation_takes_the_store_of_the_run(values: dict[str, Any]) -> None:
    run = run_of(values)
    open_recorder(run, prepared_by(run), ["rft", "train"], None)
    plain = {key: value for key, value in values.items() if key not in ("retrieval", "output_dir")}
    evaluation = EvaluateConfig.model_validate(plain | {"output_dir": "e", "adapter": run.output_dir})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rft.config.adapter_settings.evaluate_problems", lambda config: [])
        assert with_settings_of_run(evaluation, given=()).retrieval == run.retrieval
        assert not with_settings_of_run(evaluation, given=("retrieval",)).retrieval.is_on


def test_faults_end_the_preparation_and_are_never_an_empty_context(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> Any:
        raise StoreFault("status 503")

    monkeypatch.setattr(LocalStore, "search", fail)
    run = run_of(values, retrieval=values["retrieval"] | {"max_faults": 0})
    with pytest.raises(RetrievalError, match="1 searches failed"):
        prepared_by(run)


def test_rows_are_refused_together_before_anything_is_searched(values: dict[str, Any]) -> None:
    run = run_of(values, retrieval=values["retrieval"] | {"template": "{{ question }} {{ passages }}"})
    with pytest.raises(UsageError) as caught:
        prepared_by(run)
    (problem,) = caught.value.problems
    assert "retrieval.template names question, and the row has: answer" in problem
    assert problem.startswith("28 rows, first at ")


def test_passages_that_are_too_long_are_named(values: dict[str, Any]) -> None:
    changes = {"sampler": {"kind": "fake", "max_completion_tokens": 300}}
    with pytest.raises(UsageError) as caught:
        prepared_by(run_of(values, **changes))
    assert caught.value.problems[-1].startswith(
        "the prompts show passages of retrieval=local, the longest of which is p"
    )
    assert caught.value.problems[-1].endswith("characters; lower retrieval.top_k, or store shorter passages")


def test_a_task_whose_policy_may_search_has_passages_from_the_start(values: dict[str, Any], tmp_path: Path) -> None:
    tools = {"search": {"index": str(tmp_path / "index")}}
    problems: list[str] = []
    run = run_of(values, tools=tools, retrieval={"kind": "none"})
    tasks, _, _ = load_tasks(run, True, Reuse(), problems)
    assert problems == []
    assert tasks is not None
    assert [task.item["passages"] for task in [*tasks.train, *tasks.test]] == [[]] * (8 + NUM_TASKS)


def test_an_audit_shows_passages(values: dict[str, Any], tmp_path: Path) -> None:
    config = AuditConfig.model_validate(
        {
            "output_dir": str(tmp_path / "audit"),
            "data": {"tasks": values["data"]["test"], "max_tasks": 3},
            "retrieval": values["retrieval"],
            "graders": values["graders"],
        }
    )
    tasks = audited_tasks(config)
    assert [len(task.item["passages"]) for task in tasks] == [2, 2, 2]
    assert tasks[1].messages[-1]["content"].endswith("\n\n1: k1?")


def test_citations_that_are_added_up_are_a_warning(values: dict[str, Any]) -> None:
    graders = {"correct": {"use": "exact"}, "cites": {"use": "cites", "weight": 0.5}}
    (warning,) = prepared_by(run_of(values, graders=graders)).warnings
    assert warning.startswith("graders.cites (cites) pays for answers that are wrong")
