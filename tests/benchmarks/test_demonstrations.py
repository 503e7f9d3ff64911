import demonstrations
import pytest


def test_yardsticks() -> None:
    # By hand: of 2 numbers, one question hits half of the time; of 3, the middle leads to the end, and an end to 2.
    assert demonstrations.random_share(2, 1) == 1 / 2
    assert demonstrations.random_share(3, 2) == pytest.approx(1 / 3 + 1 / 3 * 2 / 3 + 2 / 3 * 2 / 3 * 1 / 2)
    assert [demonstrations.bisection_share(31, questions) for questions in (4, 5)] == [15 / 31, 1.0]
