"""How many completions an engine samples at the same time, counted by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rft.config.commands import load_evaluation, load_training
from rft.run.forecast.in_flight import completions_in_flight


def prepared(*, train: int = 500, validation: int = 0, test: int = 0) -> Any:
    tasks = SimpleNamespace(train=[None] * train, validation=[None] * validation, test=[None] * test)
    return SimpleNamespace(tasks=tasks, held_out=tasks.test or tasks.validation)


@pytest.mark.parametrize(
    ("words", "tasks", "expected"),
    [
        ([], {}, 320),
        (["sampler.num_actors=3"], {}, 110),  # 22 of the 64 tasks
        (["loop.staleness=1"], {}, 640),
        ([], {"validation": 100, "test": 250}, 320),  # fewer than a batch
        ([], {"test": 1319}, 1319),
        (["loop.staleness=1"], {"test": 1319}, 1639),
        (["evaluation.completions_per_task=4"], {"validation": 100}, 400),
        (["evaluation.max_validation_tasks=9"], {"validation": 400, "test": 9}, 320),
        (["loop.pass_rate.completions_per_task=4"], {}, 2000),
    ],
)
def test_of_a_training_run(words: list[str], tasks: dict[str, int], expected: int) -> None:
    words = ["experiment=quickstart", "loop.prompts_per_step=64", "loop.completions_per_prompt=5", *words]
    assert completions_in_flight(load_training(words, "/nowhere"), prepared(**tasks)) == expected


def test_of_a_measurement() -> None:
    config = load_evaluation(
        [
            "model.path=embedded:tiny",
            "data.test=embedded:arithmetic/test",
            "graders.correct.use=exact",
            "evaluation.completions_per_task=2",
            "sampler.num_actors=2",
        ],
        "/nowhere",
    )
    assert completions_in_flight(config, prepared(train=0, test=99)) == 100
