from dataclasses import replace
from pathlib import Path

import pytest
from harness import report
from harness.arms import Job, Outcome

JOB = Job(name="j", model=Path("m"), tasks=Path("t"), score="answer", steps=3, warm_up_steps=1)
OUTCOME = Outcome(
    arm="a", model_sha="", first_adapter="", lora={}, learning_rate=0.0, prompts=[], tasks=[], rewards=[], tokens=[],
    ended_s=[0.0, 9.0, 10.0, 13.0],
    phases_s=[{"sample": 8.0, "learn": 1.0}, {"sample": 0.5, "learn": 0.5}, {"sample": 2.0, "learn": 0.5, "sync": 0.5}],
    facts={"gap": [5.0, None, 3.0]},
)  # fmt: skip


def test_a_step_takes_the_mean_of_the_timed_steps() -> None:
    assert report.step_s(OUTCOME, JOB) == pytest.approx(2.0)
    assert report.step_s(OUTCOME, JOB, cool_down=1) == pytest.approx(1.0)


def test_phases_are_means_over_all_runs_and_absent_is_no_time() -> None:
    other = replace(OUTCOME, phases_s=[{}, {"sample": 1.5}, {"sample": 2.0}])
    assert report.phases([OUTCOME, other], warm_up=1) == {"sample": 1.5, "learn": 0.25, "sync": 0.125}


def test_a_figure_that_a_step_lacks_is_left_out_of_its_mean() -> None:
    assert report.fact([OUTCOME], "gap", warm_up=1) == 3.0
    assert report.fact([OUTCOME], "none") is None


def test_ratios_pair_the_runs_of_a_round() -> None:
    assert report.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_medians_come_with_their_range() -> None:
    assert report.spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0 to 3.0)"
    assert report.spread([3.0]) == "3.000"


def test_a_table_is_markdown() -> None:
    assert report.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_the_interval_of_a_median_leaves_out_equally_many_values_at_both_ends() -> None:
    # Of six coins, all show heads or all tails with probability 2/64 = 0.031; with one other coin 14/64 = 0.22.
    assert report.median_interval([6.0, 2.0, 1.0, 3.0, 5.0, 4.0], 1) == "3.5 [1.0, 6.0]"
    # Of 21 coins, at most five show heads with probability 27896/2097152 = 0.0133, at most six with 0.0392.
    assert report.median_interval([float(value) for value in range(1, 22)], 0) == "11 [6, 16]"


def test_the_median_of_few_values_has_no_interval() -> None:
    assert report.median_interval([1.0, 2.0, 3.0, 4.0, 5.0], 1) == "3.0 [no interval]"
