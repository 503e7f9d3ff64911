"""Runs on several task families."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rft.config import RunConfig
from rft.config.commands import load_training
from rft.data.splits import TaskSets
from rft.errors import UsageError
from rft.run.inputs.prepare import prepare
from rft.run.training import Training
from rft.run_folder.recorder import Recorder, read_metrics, read_rollouts
from rft.run_folder.results import nothing_left_to_do
from rft.types import Adapter, GradedGroup, Policy, Publication, Task

MIXTURE = (
    *("data.train=null", "data.validation=null", "data.test=null"),
    *("data.mixture.sums.source=embedded:chain_sum/train", "data.mixture.sums.graders=[correct]"),
    *("data.mixture.gcd.source=embedded:gcd/train", "data.mixture.gcd.graders=[correct]"),
    *("data.mixture.sums.test=embedded:chain_sum/test", "data.mixture.gcd.test=embedded:gcd/test"),
    *("data.mixture.sums.validation=embedded:chain_sum/validation", "data.mixture.sums.weight=3"),
    *("data.mixture.gcd.validation=embedded:gcd/validation", "data.mixture.gcd.weight=1"),
)


@pytest.fixture
def mixed(training: Callable[..., Training], make_task: Callable[..., Task]) -> Callable[..., Training]:
    """`mixed("loop.steps=4")`: a run on sums and gcd with the shares 3/4 and 1/4."""

    def of_split(split: str, number: int) -> list[Task]:
        names = [f"{family}/{split} {index}" for family in ("sums", "gcd") for index in range(number)]
        return [replace(make_task(name), family=name.partition("/")[0]) for name in names]

    def make(*words: str, num_held_out: int = 3, **options: Any) -> Training:
        run = training(*MIXTURE, "loop.prompts_per_step=4", *words, **options)
        tasks = TaskSets(
            train=of_split("train", 6),
            validation=of_split("validation", num_held_out),
            test=of_split("test", num_held_out),
        )
        run.prepared.tasks = tasks  # type: ignore[misc]
        run.prepared.held_out = tasks.test  # type: ignore[misc]
        return run

    return make


def drawn(folder: Path) -> dict[int, list[str]]:
    """The training tasks of each step."""
    tasks: dict[int, list[str]] = {}
    for line in read_rollouts(folder, "train"):
        if line["index"] == 0:
            tasks.setdefault(line["step"], []).append(line["task_id"])
    return tasks


def test_metrics_and_results_by_family_and_the_same_tasks_after_a_resume(
    mixed: Callable[..., Training], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    asyncio.run(mixed("loop.steps=6").train())
    tasks = drawn(folder)
    for of_step in tasks.values():
        assert [name.partition("/")[0] for name in of_step] == ["sums", "sums", "sums", "gcd"]
    lines = {line["step"]: line["metrics"] for line in read_metrics(folder)}
    assert (lines[0]["before/sums/mean"], lines[0]["before/gcd/mean"]) == (0.0, 0.0)  # the reward is the index
    assert (lines[1]["family_reward/sums"], lines[1]["family_groups/gcd"]) == (0.5, 1.0)
    assert lines[2]["eval/gcd/mean"] == 0.0
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["families"]) == ["sums", "gcd"]
    assert summary["families"]["gcd"]["difference"]["n"] == 3

    asyncio.run(mixed("loop.steps=6", last_step=4, recorder=Recorder.resume(folder, last_step=4)).train())
    assert drawn(folder) == tasks


def read(*words: str) -> RunConfig:
    return load_training(["experiment=quickstart", "sampler=fake", "learner=fake", *MIXTURE, *words], "/nowhere")


def test_tasks_of_all_families_are_read_and_first_tried_on_their_own_graders() -> None:
    tried: dict[str, list[str]] = {}
    prepared = prepare(
        read("graders.close.use=numeric", "data.mixture.gcd.graders=[close]"),
        needs_training_tasks=True,
        try_graders=lambda graders, tasks: tried.update(
            {task.family: [grader.name for grader in graders] for task in tasks}
        ),
    )
    assert tried == {"sums": ["correct"], "gcd": ["close"]}
    assert len(prepared.tasks.train) == 2500
    assert len(prepared.held_out) == 550
    assert [task.family for task in prepared.tasks.validation[:4]] == ["sums", "gcd", "sums", "gcd"]


def test_a_family_must_have_enough_tasks_for_a_step(tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(json.dumps({"prompt": f"number {index}", "answer": "1"}) + "\n" for index in range(3)))
    with pytest.raises(UsageError) as refused:
        prepare(
            read(f"data.mixture.gcd.source={few}", "data.mixture.gcd.weight=9", "loop.prompts_per_step=8"),
            needs_training_tasks=True,
        )
    assert list(refused.value.problems) == [
        "data.mixture.gcd: a step takes up to 6 of its tasks, and there are 3; give more, or lower its weight or "
        "loop.prompts_per_step"
    ]


@pytest.mark.parametrize(("number", "steps"), [(2, 6), (20, 2)])
def test_a_guard_ends_a_run_that_forgets_a_family(
    mixed: Callable[..., Training],
    parts: Any,
    make_group: Callable[..., GradedGroup],
    tmp_path: Path,
    number: int,
    steps: int,
) -> None:
    """With two tasks, the interval of the drop contains 0, so the guard only warns."""

    async def grade(tasks: list[Task], rollouts: Any, *, rollouts_per_task: int) -> list[GradedGroup]:
        return [
            replace(
                make_group(
                    [float(task.family != "gcd" or parts.policy.version == 0)] * rollouts_per_task,
                    task.id,
                    policy=parts.policy,
                ),
                task=task,
            )
            for task in tasks
        ]

    parts.grade = grade
    words = ("loop.steps=6", "evaluation.guard={gcd: 0.1}", "evaluation.guard_action=stop", "audit=off")
    run = mixed(*words, num_held_out=number)
    asyncio.run(run.train())
    folder = tmp_path / "run"
    assert [line["task_id"] for line in read_rollouts(folder, "reference")] == [
        f"gcd/validation {index}" for index in range(number)
    ]
    lines = {line["step"]: line["metrics"] for line in read_metrics(folder)}
    assert (max(lines), lines[2]["guard/gcd/mean"]) == (steps, 1.0)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["retention"]["guard"]["gcd"]["is_exceeded"]
    assert summary.get("guard") == ({"stopped_at_step": 2} if steps == 2 else None)
    (folder / "adapter").mkdir()  # this run writes none
    assert nothing_left_to_do(run.run, steps).startswith(f"{folder}: finished after {steps} steps")


def test_a_curriculum_gives_the_same_tasks_after_a_resume(
    mixed: Callable[..., Training], parts: Any, make_group: Callable[..., GradedGroup], tmp_path: Path
) -> None:
    """Only gcd teaches, so its share rises from 1/4 to 0.9 after two steps."""

    async def grade(tasks: list[Task], rollouts: Any, *, rollouts_per_task: int) -> list[GradedGroup]:
        rewards = {"sums": [1.0] * rollouts_per_task, "gcd": [float(index % 2) for index in range(rollouts_per_task)]}
        return [replace(make_group(rewards[task.family], task.id, policy=parts.policy), task=task) for task in tasks]

    async def history() -> list[Publication]:
        policies = [Policy(version=step, fingerprint=f"step {step}") for step in (parts.step - 1, parts.step)]
        return [Publication(weights=Adapter(policy=policy, config={}, tensors=b"")) for policy in policies]

    parts.grade, parts.history = grade, history
    words = ("loop.steps=8", "data.curriculum={every_steps: 2, floor: 0.1}", "loop.staleness=1")
    folder = tmp_path / "run"
    asyncio.run(mixed(*words).train())
    tasks = drawn(folder)
    num_gcd = [sum(name.startswith("gcd/") for name in tasks[step]) for step in range(1, 9)]
    assert num_gcd[:3] == [1, 1, 1]
    assert set(num_gcd[3:]) <= {3, 4}  # 0.9 x 4 = 3.6
    asyncio.run(mixed(*words, last_step=4, recorder=Recorder.resume(folder, last_step=4)).train())
    assert drawn(folder) == tasks
