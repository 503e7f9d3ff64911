from dataclasses import replace
from pathlib import Path

import pytest
from harness import gates
from harness.arms import Arm, Job, Outcome, taking_turns
from scipy import stats

JOB = Job(
    name="j", model=Path("m"), tasks=Path("t"), score="answer", steps=2, warm_up_steps=0,
    prompts_per_step=2, completions_per_prompt=2,
)  # fmt: skip
LORA = {"rank": 16, "alpha": 32.0, "dropout": 0.0, "target_modules": ["q_proj"]}


def outcome(arm: str = "a", **changes: object) -> Outcome:
    same = Outcome(
        arm=arm,
        model_sha="m1",
        first_adapter="f1",
        lora=LORA,
        learning_rate=1e-3,
        prompts=["p1", "p2"],
        tasks=[["t1", "t2"], ["t3", "t4"]],
        rewards=[[[0.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]]],
        tokens=[[5, 6, 7, 8], [9, 10, 11, 12]],
        ended_s=[10.0, 12.0, 15.0],
        phases_s=[{"learn": 2.0}, {"learn": 3.0}],
    )
    return replace(same, **changes)  # type: ignore[arg-type]


def test_the_same_work_may_be_compared() -> None:
    assert gates.failures([outcome("a"), outcome("b"), outcome("c")], JOB) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_sha": "m2"}, "base model: a has m1, b has m2"),
        ({"first_adapter": "f2"}, "adapter before the first step: a has f1, b has f2"),
        ({"lora": LORA | {"rank": 8}}, "LoRA: "),
        ({"learning_rate": 2e-3}, "learning rate: a has 0.001, b has 0.002"),
        ({"tasks": [["t2", "t1"], ["t3", "t4"]]}, "tasks, in order: "),
        ({"prompts": ["p1", "p3"]}, "prompt tokens: "),
        ({"tokens": [[50, 60, 70, 80], [90, 100, 110, 120]]}, "tokens: a sampled 8.5 per completion, b 85.0"),
        ({"tokens": [[5, 6, 7, 8]]}, "b: 1 steps were sampled, 2 graded and 2 ended, not 2"),
        ({"tokens": [[5, 6, 7], [9, 10, 11, 12]]}, "b: step 1 has 3 completions and 4 rewards, not 4"),
        (
            {"rewards": [[[0.0, 1.0], [1.0, None]], [[0.0, 0.0], [1.0, 0.0]]]},
            "b: step 1 has 4 completions and 3 rewards, not 4",
        ),
    ],
)
def test_other_work_may_not(changes: dict[str, object], said: str) -> None:
    found = gates.failures([outcome("a"), outcome("b", **changes)], JOB)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_lengths_may_differ_by_chance_and_a_twentieth() -> None:
    # All lengths equal: no chance, so exactly a twentieth of 100 is allowed.
    first = outcome("a", tokens=[[100] * 4] * 2)
    assert gates.same_tokens(first, outcome("b", tokens=[[105] * 4] * 2), JOB) is None
    assert gates.same_tokens(first, outcome("b", tokens=[[106] * 4] * 2), JOB) is not None


def test_a_side_that_earns_less_than_chance_explains_is_refused() -> None:
    # Group means of 0.4 and 0.6 by turns: standard deviation 0.1414 (n - 1 = 1), error of each mean 0.1, of the
    # difference 0.1414, four of which are 0.566.
    def earning(mean: float) -> Outcome:
        return outcome(str(mean), rewards=[[[mean - 0.1]], [[mean + 0.1]]])

    assert gates.same_rewards(earning(1.0), earning(0.45), JOB) is None
    said = gates.same_rewards(earning(1.0), earning(0.4), JOB)
    assert said is not None
    assert "0.141" in said


def test_rewards_of_a_job_that_is_too_short_to_learn_are_not_compared() -> None:
    worse = outcome("b", rewards=[[[9.0, 9.0], [9.0, 9.1]], [[9.0, 9.0], [9.0, 9.0]]])
    assert gates.failures([outcome("a"), worse], JOB, learns=False) == []
    assert len(gates.failures([outcome("a"), worse], JOB)) == 1


def test_parity_is_the_paired_t_test() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), t(2 degrees, 0.975) = 4.30265.
    found = gates.parity([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert found["difference"] == pytest.approx(2.0)
    assert found["high"] == pytest.approx(2.0 + 4.302653 / 3**0.5, abs=1e-5)
    assert found["low"] == pytest.approx(2.0 - 4.302653 / 3**0.5, abs=1e-5)
    assert found["p"] == pytest.approx(2 * stats.t.sf(2.0 * 3**0.5, df=2))


def test_every_other_round_runs_backwards() -> None:
    arms = [Arm(name="a", side="trl"), Arm(name="b", side="rft")]
    assert [(repeat, arm.name) for repeat, arm in taking_turns(arms, 3)] == [
        (0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b"),
    ]  # fmt: skip


def test_steps_are_timed_from_end_to_end_without_the_first_and_the_last() -> None:
    run = outcome(ended_s=[0.0, 10.0, 12.0, 15.0, 15.5])
    assert run.step_seconds(0) == [10.0, 2.0, 3.0, 0.5]
    assert run.step_seconds(1, cool_down=1) == [2.0, 3.0]
