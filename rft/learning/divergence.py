"""The divergence between student and teacher at a position, from the teacher's k most probable tokens.

All other tokens count as one token, the rest, so both models have a distribution over k + 1 tokens. Lumping tokens
never raises an f-divergence such as these, so the result is a lower bound of the divergence over the whole vocabulary
(Csiszar and Shields, Information Theory and Statistics, 2004, lemma 4.1), and equals it if k is the whole vocabulary.
Its gradient moves probability between the k tokens and the rest, and scales the tokens of the rest alike.

Legend: B sequences, T positions, K tokens, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MIN_REST = 1e-6
"""Least probability of the rest: below, 1 minus the sum of the others is only rounding in float32."""


def coarse_logprobs(logprobs_btv: Tensor, ids_btk: Tensor, is_known_btk: Tensor) -> Tensor:
    """Return `[B, T, K + 1]` the student's log-probabilities of K tokens and of the rest.

    Args:
        logprobs_btv: Of the whole vocabulary.
        ids_btk: The tokens.
        is_known_btk: Whether a token counts on its own; otherwise it belongs to the rest.
    """
    vocabulary = logprobs_btv.shape[-1]
    return with_rest(logprobs_btv.gather(-1, ids_btk.clamp(max=vocabulary - 1)), is_known_btk, vocabulary=vocabulary)


def with_rest(logprobs_btk: Tensor, is_known_btk: Tensor, *, vocabulary: int) -> Tensor:
    """Return `[B, T, K + 1]` log-probabilities of K tokens and of the rest; -infinity for what does not count.

    Args:
        logprobs_btk: Of the tokens.
        is_known_btk: Whether a token counts on its own; otherwise it belongs to the rest.
        vocabulary: Tokens of the student. If all of them count, there is no rest.
    """
    known_btk = logprobs_btk.masked_fill(~is_known_btk, -math.inf)
    rest_bt1 = (1 - known_btk.exp().sum(-1, keepdim=True)).clamp(min=MIN_REST).log()
    is_whole_bt1 = is_known_btk.sum(-1, keepdim=True) == vocabulary
    return torch.cat([known_btk, rest_bt1.masked_fill(is_whole_bt1, -math.inf)], dim=-1)


def divergence(student_btk: Tensor, teacher_btk: Tensor, *, beta: float) -> Tensor:
    """Return the `[B, T]` generalized Jensen-Shannon divergence of GKD (arXiv 2306.13649, equation 1), in nats.

    With the mixture m = beta teacher + (1 - beta) student it is beta KL(teacher, m) + (1 - beta) KL(student, m).

    Args:
        student_btk: The student's log-probabilities from `with_rest`.
        teacher_btk: The teacher's, of the same tokens.
        beta: 0 takes the forward KL divergence, KL(teacher, student), and 1 the reverse, KL(student, teacher): the
            limits of the divergence over beta (1 - beta).
    """
    # Equal values add nothing to any of the sums, and unlike -infinity they have a gradient.
    is_absent = teacher_btk == -math.inf
    student, teacher = student_btk.masked_fill(is_absent, 0.0), teacher_btk.masked_fill(is_absent, 0.0)
    if beta == 1:
        return _kl(student, teacher)
    if beta == 0:
        return _kl(teacher, student)
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * _kl(teacher, mixture) + (1 - beta) * _kl(student, mixture)


def _kl(p_btk: Tensor, q_btk: Tensor) -> Tensor:
    return (p_btk.exp() * (p_btk - q_btk)).sum(-1)
