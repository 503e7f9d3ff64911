"""The smallest difference that held-out tasks can show."""

import pytest

from rft.metrics.power import FACTOR, smallest_difference, tasks_needed


def test_factor() -> None:
    assert pytest.approx(7.849, abs=1e-3) == FACTOR  # (1.95996 + 0.84162)^2


def test_both_ways_agree() -> None:
    difference = smallest_difference(250, noise=0.4, width=1.0)
    assert difference is not None
    assert difference == pytest.approx(0.1266, abs=1e-4)  # 257.849 d^2 - 7.849 d - 3.140 = 0
    assert tasks_needed(difference - 1e-9, noise=0.4, width=1.0) == 251
    assert tasks_needed(0.1, noise=0.4, width=1.0) == 385  # 7.849 (0.4 + 0.09) / 0.01 = 384.6


def test_few_tasks_show_nothing() -> None:
    assert smallest_difference(2, noise=0.5, width=1.0) is None  # 7.849 * 0.5 / 2 > 1
    assert smallest_difference(4, noise=0.0, width=2.0) == pytest.approx(2 * FACTOR / (4 + FACTOR))
