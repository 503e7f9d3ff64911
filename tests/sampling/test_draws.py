"""Tokens drawn by hand: where a random number falls in the cumulative distribution."""

from __future__ import annotations

import math

import pytest
import torch

from rft.errors import SampleError
from rft.sampling.draws import Draws
from rft.sampling.engine import SamplingOptions

NO_IDS = torch.zeros(1, 0, dtype=torch.long)
SHARES = (0.5, 0.25, 0.125, 0.125)


def options(temperature: float = 1.0, length: int = 3) -> SamplingOptions:
    return SamplingOptions(temperature=temperature, max_completion_tokens=length)


def drawn(scores: torch.Tensor) -> list[int]:
    """The only token of each row that is left."""
    assert (scores > -torch.inf).sum(-1).tolist() == [1] * len(scores)
    return scores.argmax(-1).tolist()


def test_a_token_is_where_its_random_number_falls() -> None:
    logits = torch.tensor([SHARES] * 2).log() + 3.0  # a constant changes nothing
    draws = Draws([7, 8], options(), "cpu")
    for position in range(3):
        expected = []
        for seed in (7, 8):
            generator = torch.Generator().manual_seed(seed)
            number = torch.rand(3, generator=generator, dtype=torch.float64)[position].item()
            expected.append(0 if number < 0.5 else 1 if number < 0.75 else 2 if number < 0.875 else 3)
        assert drawn(draws(NO_IDS, logits)) == expected
        for row, token in enumerate(expected):
            assert draws.logprobs[row, position].item() == pytest.approx(math.log(SHARES[token]), abs=1e-6)
    assert draws.logprobs.shape == (2, 3)


def test_tokens_are_as_frequent_as_they_are_likely() -> None:
    number = 4096
    tokens = drawn(Draws(range(number), options(length=1), "cpu")(NO_IDS, torch.tensor([SHARES] * number).log()))
    for token, share in enumerate(SHARES):
        assert tokens.count(token) / number == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / number))


def test_the_temperature_changes_the_distribution() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0]])
    draws = Draws([1], options(temperature=0.5), "cpu")
    token = drawn(draws(NO_IDS, logits))[0]
    assert draws.logprobs.item() == pytest.approx(math.log((0.9, 0.1)[token]), abs=1e-6)  # 3^2 to 1


def test_temperature_zero_takes_the_most_likely() -> None:
    draws = Draws([1, 2], options(temperature=0.0), "cpu")
    assert drawn(draws(NO_IDS, torch.tensor([[0.0, math.log(3.0)], [1.0, 1.0]]))) == [1, 0]
    assert draws.logprobs[0].item() == pytest.approx(math.log(0.75), abs=1e-6)


def test_an_impossible_token_is_never_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf]] * 256)
    assert set(drawn(Draws(range(256), options(), "cpu")(NO_IDS, logits))) == {1}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(SampleError, match="NaN or infinity"):
        Draws([1], options(), "cpu")(NO_IDS, torch.tensor([[0.0, value]]))
