"""The length of a run in epochs."""

from __future__ import annotations

import pytest

from rft.config import RunConfig
from rft.config.commands import load_training
from rft.config.epochs import with_steps
from rft.errors import ConfigError

QUICK = ("experiment=quickstart", "logging=none")


def load(*words: str) -> RunConfig:
    return load_training([*QUICK, *words], "/nowhere")


@pytest.mark.parametrize(
    ("num_epochs", "num_tasks", "tasks_per_step", "steps"),
    [("3", 10, 4, 8), ("2", 10, 5, 4), ("0.5", 10, 5, 1), ("0.1", 30, 3, 1), ("1", 3, 2, 2)],
)
def test_the_last_step_completes_the_last_epoch(
    num_epochs: str, num_tasks: int, tasks_per_step: int, steps: int
) -> None:
    run = load(f"loop.num_epochs={num_epochs}", f"loop.prompts_per_step={tasks_per_step}")
    loop = with_steps(run, num_tasks).loop
    assert (loop.steps, loop.num_epochs) == (steps, None)


def test_without_epochs_the_steps_stay() -> None:
    run = load("loop.steps=7")
    assert with_steps(run, 100) is run


def test_steps_and_epochs_together_are_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        load("loop.steps=40", "loop.num_epochs=3")
    assert list(refused.value.problems) == [
        "loop.steps=40: loop.num_epochs=3 sets the length of the run; leave one of them out, or set "
        "loop.num_epochs=null if a preset gives it"
    ]
    assert load("loop.steps=40", "loop.num_epochs=null").loop.steps == 40


def test_epochs_need_a_number_of_tasks_that_is_known() -> None:
    with pytest.raises(ConfigError) as refused:
        load(
            "loop.num_epochs=3",
            "+loop.pass_rate={min: 0.1}",
            *(f"data.{split}=null" for split in ("train", "validation", "test")),
            "data.mixture={sums: {source: embedded:chain_sum/train, graders: [correct]}}",
        )
    assert [line for line in refused.value.problems if line.startswith("loop.num_epochs")] == [
        "loop.num_epochs=3: with data.mixture, its families have different numbers of passes; use loop.steps",
        "loop.num_epochs=3: with loop.pass_rate, the number of tasks is known only after their measurement; "
        "use loop.steps",
    ]


def test_samplers_may_not_run_ahead_of_the_whole_run() -> None:
    run = load("loop.num_epochs=1", "loop.prompts_per_step=8", "loop.staleness=2")
    assert with_steps(run, 24).loop.steps == 3
    with pytest.raises(ConfigError, match=r"loop.staleness=2: must be less than the 2 steps of the run"):
        with_steps(run, 16)
