"""Importance ratios by hand."""

import math

import pytest
import torch

from rft.learning.importance import SamplerGap, gap_metrics, sampling_ratio

LEARNER = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -1.0, 0.0]])
SAMPLER = torch.tensor([[-1.0, -3.0, -2.5], [-1.5, -1.0, -9.0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])
"""Differences: 0, 1, -0.5 (sum 0.5) and 0.5, 0 (sum 0.5); the last token is padding."""


@pytest.mark.parametrize(
    ("mode", "low", "high", "expected"),
    [
        ("token_truncate", None, 2.0, [[1.0, 2.0, math.exp(-0.5)], [math.exp(0.5), 1.0, 1.0]]),
        ("token_truncate", 0.9, None, [[1.0, math.e, 0.9], [math.exp(0.5), 1.0, 1.0]]),
        ("token_mask", 0.9, 2.0, [[1.0, 0.0, 0.0], [math.exp(0.5), 1.0, 1.0]]),
        ("sequence_truncate", None, 1.5, [[1.5], [1.5]]),
        ("sequence_truncate", None, 3.0, [[math.exp(0.5)], [math.exp(0.5)]]),
        ("sequence_mask", None, 1.5, [[0.0], [0.0]]),
        ("sequence_mask", None, 3.0, [[math.exp(0.5)], [math.exp(0.5)]]),
    ],
)
def test_ratios_by_hand(mode: str, low: float | None, high: float | None, expected: list[list[float]]) -> None:
    ratio = sampling_ratio(LEARNER, SAMPLER, MASK, mode=mode, low=low, high=high)
    torch.testing.assert_close(ratio, torch.tensor(expected))


def test_a_token_that_the_sampler_could_not_score_is_not_corrected() -> None:
    sampler = SAMPLER.clone()
    sampler[0, 1] = math.nan
    ratio = sampling_ratio(LEARNER, sampler, MASK, mode="token_truncate", low=None, high=3.0)
    assert ratio[0].tolist() == pytest.approx([1.0, 1.0, math.exp(-0.5)])
    gap = SamplerGap()
    gap.add(LEARNER, sampler, MASK, ratio)
    assert gap_metrics([gap.take()])["sampling/sampling_logp_difference/mean"] == pytest.approx((0 + 0.5 + 0.5 + 0) / 4)


@pytest.mark.parametrize("ranks", [1, 2, 3])  # the third has nothing to compare
def test_the_gap_over_micro_batches_and_ranks(ranks: int) -> None:
    gaps = [SamplerGap() for _ in range(ranks)]
    for row in range(2):
        one = slice(row, row + 1)
        ratio = sampling_ratio(LEARNER[one], SAMPLER[one], MASK[one], mode="token_truncate", low=None, high=2.0)
        gaps[row % ranks].add(LEARNER[one], SAMPLER[one], MASK[one], ratio)
    assert gap_metrics([gap.take() for gap in gaps]) == pytest.approx(
        {
            "sampling/sampling_logp_difference/mean": (0 + 1 + 0.5 + 0.5 + 0) / 5,
            "sampling/sampling_logp_difference/max": 1.0,
            "sampling/importance_sampling_ratio/min": math.exp(-0.5),
            "sampling/importance_sampling_ratio/mean": (1 + 2 + math.exp(-0.5) + math.exp(0.5) + 1) / 5,
            "sampling/importance_sampling_ratio/max": 2.0,
        }
    )
    assert gap_metrics([gap.take() for gap in gaps]) == {}, "taken means begun anew"
