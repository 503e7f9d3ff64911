"""Numbers of a step, by hand."""

import math

import pytest

from rft.learning.rank_metrics import combine


def test_means_count_tokens_and_bounds_stay_bounds() -> None:
    micro_batches = [
        (30.0, {"entropy": [0.5], "clip_ratio/low_min": [0.25], "clip_ratio/high_max": [0.0]}),
        (10.0, {"entropy": [0.9], "clip_ratio/low_min": [0.125], "clip_ratio/high_max": [0.75]}),
    ]
    assert combine(micro_batches) == pytest.approx(
        {"entropy": (30 * 0.5 + 10 * 0.9) / 40, "clip_ratio/low_min": 0.125, "clip_ratio/high_max": 0.75}
    )


def test_what_is_not_a_number_is_left_out() -> None:
    assert combine([(3.0, {"kl": [math.nan]}), (1.0, {"kl": [0.5]})]) == {"kl": 0.5}
    assert combine([(3.0, {"kl": [math.nan]})]) == {}
    assert combine([]) == {}
