"""Divergences over a teacher's most probable tokens and the rest, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rft.learning.divergence import MIN_REST, coarse_logprobs, divergence, with_rest

LN2 = math.log(2)
STUDENT = torch.tensor([[[0.5, 0.25, 0.125, 0.125]]]).log()
TEACHER = torch.tensor([[[0.25, 0.5, 0.125, 0.125]]]).log()
"""One position with four tokens."""


def coarse(logprobs: Tensor, *ids: int) -> Tensor:
    """The distribution over some tokens and the rest."""
    chosen = torch.tensor([[list(ids)]])
    return coarse_logprobs(logprobs, chosen, torch.ones_like(chosen, dtype=torch.bool))


def of(*ids: int, beta: float, teacher: Tensor = TEACHER) -> float:
    return float(divergence(coarse(STUDENT, *ids), coarse(teacher, *ids), beta=beta))


def test_the_rest_is_one_token() -> None:
    assert coarse(STUDENT, 0, 2).exp().tolist() == [[[0.5, 0.125, 0.375]]]
    assert coarse(STUDENT, 3, 1, 0, 2).exp().tolist() == [[[0.125, 0.25, 0.5, 0.125, 0.0]]]


def test_over_the_whole_vocabulary_it_is_the_divergence() -> None:
    # Only the first two tokens differ, by a factor of 2: 0.5 log 2 - 0.25 log 2.
    assert of(0, 1, 2, 3, beta=1) == pytest.approx(0.25 * LN2, abs=1e-6)
    assert of(0, 1, 2, 3, beta=0) == pytest.approx(0.25 * LN2, abs=1e-6)
    # The mixture has 0.375 for both of them.
    expected = 0.5 * math.log(0.5 / 0.375) + 0.25 * math.log(0.25 / 0.375)
    assert of(0, 1, 2, 3, beta=0.5) == pytest.approx(expected, abs=1e-6)


def test_the_two_kl_divergences_are_told_apart() -> None:
    teacher = torch.tensor([[[0.125, 0.125, 0.25, 0.5]]]).log()
    # 0.5 log 4 + 0.25 log 2 - 0.125 log 2 - 0.125 log 4, and with the teacher's weights the other way round.
    assert of(0, 1, 2, 3, beta=1, teacher=teacher) == pytest.approx(0.875 * LN2, abs=1e-6)
    assert of(0, 1, 2, 3, beta=0, teacher=teacher) == pytest.approx((-0.25 - 0.125 + 0.25 + 1.0) * LN2, abs=1e-6)
    # Between them, beta weights the teacher, also in the mixture.
    mixed = divergence(STUDENT, teacher, beta=0.25)
    p, q = STUDENT.exp(), teacher.exp()
    m = 0.25 * q + 0.75 * p
    assert mixed.item() == pytest.approx((0.25 * q * (q / m).log() + 0.75 * p * (p / m).log()).sum().item(), abs=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_lumping_only_lowers_it(beta: float) -> None:
    assert 0 <= of(3, beta=beta) <= of(0, beta=beta) <= of(0, 2, beta=beta) + 1e-7 <= of(0, 1, 2, 3, beta=beta) + 2e-7


def test_tokens_that_do_not_count_join_the_rest() -> None:
    logprobs = torch.tensor([[[0.5, 0.25, 0.2]]]).log()
    known = torch.tensor([[[True, False, True]]])
    assert with_rest(logprobs, known, vocabulary=9).exp().tolist() == [
        [[0.5, 0.0, pytest.approx(0.2), pytest.approx(0.3)]]
    ]
    nothing = with_rest(logprobs, torch.zeros_like(known), vocabulary=9)
    assert nothing.tolist() == [[[-math.inf, -math.inf, -math.inf, 0.0]]]


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_gradient_is_finite_everywhere(beta: float) -> None:
    # Padding, a rest of nothing, and a token that the teacher has excluded.
    logits = torch.tensor([[[3.0, 1.0, -1.0, 0.0], [90.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]], requires_grad=True)
    ids = torch.tensor([[[0, 0], [0, 1], [2, 3]]])
    teacher = torch.tensor([[[-math.inf, -math.inf], [-0.5, -2.0], [-0.1, -math.inf]]])
    known = teacher > -math.inf
    student = coarse_logprobs(torch.log_softmax(logits, -1), ids, known)
    found = divergence(student, with_rest(teacher, known, vocabulary=4), beta=beta)
    found.sum().backward()
    assert found[0, 0].item() == 0.0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0].abs().max() == 0.0
    assert student[0, 1, 2].item() == pytest.approx(math.log(MIN_REST))
