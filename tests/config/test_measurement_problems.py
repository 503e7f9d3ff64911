"""The independent grader must exist, and must not enter the reward."""

from __future__ import annotations

import pytest

from rft.config import RunConfig
from rft.config.commands import load_training
from rft.config.measurement_problems import measurement_problems


@pytest.fixture(scope="module")
def run() -> RunConfig:
    words = ["experiment=quickstart", "logging=none", "+graders.truth={use: exact, weight: 0}"]
    return load_training(words, "/nowhere")


def problems(run: RunConfig, independent: str) -> list[str]:
    evaluation = run.evaluation.model_copy(update={"independent_grader": independent})
    return measurement_problems(run.model_copy(update={"evaluation": evaluation}))


def test_the_independent_grader(run: RunConfig) -> None:
    rewarded = next(name for name in run.graders if name != "truth")
    assert problems(run, "truth") == []
    assert problems(run, "other") == [
        "evaluation.independent_grader=other: there is no such grader; graders with weight 0: truth"
    ]
    assert problems(run, rewarded) == [
        f"evaluation.independent_grader={rewarded}: it enters the reward, so it cannot tell whether the reward is "
        f"being exploited; set graders.{rewarded}.weight=0, or name another one (graders with weight 0: truth)"
    ]
    alone = run.model_copy(update={"graders": {rewarded: run.graders[rewarded]}})
    (problem,) = problems(alone, "truth")
    assert problem.endswith("there is no such grader; no grader has weight 0")
