"""Seeds of completions."""

import pytest

from rft.sampling.engine import request_seed


def test_a_seed_never_changes() -> None:
    """A change here would change what every run of every user samples.

    printf '0\\x1ftrain\\x1f1\\x1fabc\\x1f0' | sha256sum begins with these 32 bits, shifted right by one.
    """
    assert request_seed(0, "train", 1, "abc", 0) == 0x7896A0FE >> 1


def test_every_part_matters() -> None:
    parts = (0, "train", 1, "abc", 0)
    others = [(1, "train", 1, "abc", 0), (0, "held-out", 1, "abc", 0), (0, "train", 2, "abc", 0)]
    others += [(0, "train", 1, "abd", 0), (0, "train", 1, "abc", 1), (0, "train", 11, "abc", 0)]
    assert len({request_seed(*parts), *(request_seed(*other) for other in others)}) == 7


def test_parts_do_not_run_into_each_other() -> None:
    assert request_seed(1, 12) != request_seed(11, 2)


@pytest.mark.parametrize("index", range(100))
def test_seeds_fit_into_31_bits(index: int) -> None:
    assert 0 <= request_seed(index) < 2**31
