"""The verdict on a run that has not started, from graded samples of its tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rft.config import RunConfig
from rft.config.commands import load_feasibility
from rft.errors import ConfigError
from rft.evidence.feasibility import feasibility_of
from rft.evidence.feasibility_plan import Planned, Timing
from rft.evidence.feasibility_text import feasibility_lines
from rft.types import GradedGroup, StopReason

MakeGroup = Callable[..., GradedGroup]
TIMING = Timing(step_s=2.0, completion_s=0.01, start_s=10.0, learn_s=3.0, sync_s=0.5)
PLANNED = Planned(visits={"0": 80, "other": 80}, num_train=100, num_validation=20, num_held_out=400)


@pytest.fixture(scope="module")
def run() -> RunConfig:
    words = ("experiment=quickstart", "loop.completions_per_prompt=4", "feasibility.price_per_hour=3", "sampler=fake")
    return load_feasibility([*words, "learner=fake", "out=found.json"])


@pytest.fixture
def judge(run: RunConfig, make_group: MakeGroup) -> Callable[..., dict[str, Any]]:
    def judge(
        rewards: Sequence[Sequence[float | None]], planned: Planned = PLANNED, changes: Any = None, **of_rollouts: Any
    ) -> dict[str, Any]:
        groups = [make_group(of_task, str(number), **of_rollouts) for number, of_task in enumerate(rewards)]
        report = feasibility_of(groups, run=run.model_copy(update=changes or {}), planned=planned, timing=TIMING)
        assert report is not None
        assert feasibility_lines(report)[-2 * len(report["reasons"]) - 1] == f"verdict: {report['verdict']}"
        return report

    return judge


HALF, NEVER, ALWAYS = [1.0, 0.0] * 4, [0.0] * 8, [1.0] * 8


def test_numbers(run: RunConfig, judge: Callable[..., dict[str, Any]]) -> None:
    assert (run.feasibility.mode, run.feasibility.out) == ("off", "found.json")
    assert run.output_dir.startswith("runs/quickstart/feasibility_")
    report = judge([HALF, NEVER])
    assert report["verdict"] == "go"
    assert report["reward"]["mean"] == 0.25
    # C(4, k) / C(8, k) of the subsets of a task hold no right sample.
    expected = {"1": 1 / 4, "2": (1 - 6 / 28) / 2, "4": (1 - 1 / 70) / 2, "8": 1 / 2}
    assert {k: value["mean"] for k, value in report["pass_at"].items()} == pytest.approx(expected)
    informative = report["informative"]
    assert informative["share"]["mean"] == pytest.approx((1 - 2 / 70) / 2)
    assert (informative["group_size"], informative["half_at"], informative["never_differing_tasks"]) == (4, 5, 1)
    assert report["pass_rates"] == {"0": 0.5, "1": 0.0}
    # 40 steps of 8 x 4 completions of 2 tokens; 400 held-out tasks twice, 20 validation tasks four times.
    plan = report["plan"]
    assert (plan["steps"], plan["completions"], plan["tokens"], plan["passes"]) == (40, 1280, 2560, 3.2)
    assert plan["evaluation_completions"] == 880
    assert plan["total_s"] == pytest.approx(10 + 40 * 5.5 + 8.8)
    assert plan["cost"] == pytest.approx(3 * plan["total_s"] / 3600)
    # The variance of half right samples is 2/7, so noise is 2 (2/7 + 0) / 2: 7.849 (2/7 + 0.09) / 0.01 tasks.
    assert report["held_out"]["tasks_needed"] == 295
    assert report["held_out"]["smallest_difference"] == pytest.approx(0.0843, abs=1e-3)


def test_a_fault_is_left_out_and_counted(judge: Callable[..., dict[str, Any]]) -> None:
    report = judge([[1.0, 0.0, None, None, 1.0, 0.0], [None] * 6, HALF])
    assert report["reward"]["mean"] == 0.5
    assert report["sampled"]["without_reward"] == {"g: skipped": 8}
    assert report["sampled"]["tasks_without_reward"] == 1
    assert report["informative"]["share"]["mean"] == pytest.approx((1 + 1 - 2 / 70) / 2)  # 4 of 4 differ
    assert report["verdict"] == "go with changes"
    assert "40.0% of the completions have no reward: g: skipped (8)" in [one["text"] for one in report["reasons"]]


def test_nothing_graded(run: RunConfig, make_group: MakeGroup) -> None:
    assert feasibility_of([make_group([None, None])], run=run, planned=PLANNED, timing=TIMING) is None


@pytest.mark.parametrize(
    ("rewards", "verdict", "text", "command"),
    [
        (
            [NEVER] * 9,
            "no-go",
            "the mean reward is 0.0% of the highest: the tasks are too hard",
            "rft train learner=sft",
        ),
        ([ALWAYS] * 49 + [HALF], "no-go", "is 99.0% of the highest already: there is nothing to learn", "harder tasks"),
        ([ALWAYS, ALWAYS, NEVER], "no-go", "each task is solved always or never", "sampler.temperature=1.2"),
        ([[1.0] * 2 + [0.0] * 14] + [NEVER] * 3, "go with changes", "only 11.2% of the groups", "loop.refill_rounds"),
        ([[1.0] + [0.0] * 23] * 3, "go with changes", "only 16.7% of the groups", "completions_per_prompt=12"),
    ],
)
def test_verdicts(judge: Callable[..., dict[str, Any]], rewards: Any, verdict: str, text: str, command: str) -> None:
    report = judge(rewards)
    assert report["verdict"] == verdict
    assert text in report["reasons"][0]["text"]
    assert command in report["reasons"][0]["command"]
    assert report["text"].startswith(verdict)


def test_held_out_tasks_and_cut_completions(judge: Callable[..., dict[str, Any]]) -> None:
    few = Planned(visits={"0": 8}, num_train=100, num_validation=0, num_held_out=20)
    report = judge([HALF] * 3, few, stop=StopReason.LENGTH)
    assert report["verdict"] == "go with changes"
    held_out, cut = report["reasons"]
    assert held_out["text"].startswith("20 held-out tasks can show only a difference of 0.566")
    assert held_out["command"] == "data.test=<file of 520 rows>, or evaluation.completions_per_task=4"
    assert cut["command"] == "sampler.max_completion_tokens=96"
    none = judge([HALF], Planned(visits={"0": 8}, num_train=100, num_validation=0, num_held_out=0))
    assert "there are no held-out tasks" in none["reasons"][0]["text"]


def test_other_rewards_than_two(judge: Callable[..., dict[str, Any]]) -> None:
    report = judge([[0.1, 0.2, 0.3, 0.3, 0.1, 0.2]] * 2)
    assert report["pass_at"] is None
    assert report["informative"]["share"]["mean"] == 1.0


def test_refusals() -> None:
    words = ["experiment=quickstart", "learner=sft", "feasibility.completions_per_task=4", "resume=runs/a"]
    with pytest.raises(ConfigError) as caught:
        load_feasibility(words)
    problems = "\n".join(caught.value.problems)
    assert "resume: rft feasibility looks at a run that starts" in problems
    assert "learner=sft learns from demonstrations, not from rewards of its own completions" in problems
    assert "completions_per_task=4: a group of the run has 8 (loop.completions_per_prompt); give at least 8" in problems
