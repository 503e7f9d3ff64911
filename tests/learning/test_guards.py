"""A learner that trains nothing is found at its start, or at the first step with a gradient; NaN at any step."""

from __future__ import annotations

import math

import pytest
import torch

from rft.errors import LearnError
from rft.learning.guards import TrainingGuard

MOVES = {"grad_norm": 0.5, "learning_rate": 1e-5}


def test_a_step_that_changes_one_bit_passes_and_is_the_last_to_be_checked() -> None:
    weight = torch.tensor([1.0, 2.0])
    guard = TrainingGuard(lambda: [weight])
    weight[0] = torch.nextafter(weight[0], torch.tensor(2.0))
    guard.check(MOVES)
    guard.check(MOVES)


def test_a_step_with_a_gradient_that_changes_nothing_is_refused() -> None:
    guard = TrainingGuard(lambda: [torch.ones(2)])
    with pytest.raises(LearnError, match=r"a gradient norm of 0\.5 and a learning rate of 1e-05 changed none"):
        guard.check(MOVES)


@pytest.mark.parametrize(
    "metrics",
    [{"grad_norm": 0.0}, {"learning_rate": 0.0}, {"grad_norm": math.nan}, {"grad_norm": math.inf}],
    ids=["equal rewards", "warm-up", "not a number", "float16 overflow"],
)
def test_a_step_that_could_change_nothing_leaves_the_guard_waiting(metrics: dict[str, float]) -> None:
    guard = TrainingGuard(lambda: [torch.ones(2)])
    guard.check(MOVES | metrics)
    with pytest.raises(LearnError):
        guard.check(MOVES)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("has_moved", [False, True])
def test_weights_that_are_not_finite_end_the_run_at_any_step(value: float, has_moved: bool) -> None:
    weights = [torch.ones(2), torch.ones(2)]
    guard = TrainingGuard(lambda: weights)
    if has_moved:
        weights[0][0] = 2.0
        guard.check(MOVES)
    weights[1][1] = value
    with pytest.raises(LearnError, match="led to weights that are not finite, because its gradient was not"):
        guard.check(MOVES | {"grad_norm": math.nan})


@pytest.mark.parametrize("weights", [[], [torch.ones(0)]])
def test_no_trainable_weights_are_refused(weights: list[torch.Tensor]) -> None:
    with pytest.raises(LearnError, match="no trainable weights"):
        TrainingGuard(lambda: weights)
