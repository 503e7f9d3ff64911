"""Micro-batches by hand."""

import pytest
import torch

from rft.learning.micro_batches import plan, share, take


def test_equal_lengths_fill_micro_batches_of_the_given_size() -> None:
    assert plan([2] * 5, [3] * 5, range(5), size=2) == [[0, 1], [2, 3], [4]]


def test_short_completions_stand_together_up_to_the_tokens_of_the_longest() -> None:
    # The limit is 2 x (2 + 8) = 20 padded tokens. 8 and 6: 2 x 10. Then 3, 3, 2 and 1: 4 x (2 + 3) = 20.
    assert plan([2] * 6, [3, 8, 1, 6, 2, 3], range(6), size=2) == [[1, 3], [0, 5, 4, 2]]


def test_a_long_prompt_widens_its_micro_batch() -> None:
    # The limit is 2 x (9 + 4) = 26. Rows 0 and 1 have 5 tokens each, and with row 2 the width is 9 + 4 = 13.
    assert plan([1, 1, 9], [4, 4, 4], range(3), size=2) == [[2, 0], [1]]


def test_only_the_rows_that_are_asked_for() -> None:
    assert plan([1] * 4, [1, 2, 3, 4], [0, 2], size=1) == [[2], [0]]
    assert plan([1], [1], [], size=1) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_there_are_never_more_than_with_equal_parts(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    for _ in range(50):
        number = size * int(torch.randint(1, 9, (), generator=generator))
        prompts, completions = (torch.randint(1, 40, (number,), generator=generator).tolist() for _ in range(2))
        found = plan(prompts, completions, range(number), size=size)
        assert sorted(row for rows in found for row in rows) == list(range(number))
        assert len(found) <= number // size
        budget = size * (max(prompts) + max(completions))
        for rows in found:
            assert len(rows) * (max(prompts[row] for row in rows) + max(completions[row] for row in rows)) <= budget


def test_there_are_as_many_for_each_rank() -> None:
    # The limit is 4 x (2 + 8) = 40: three micro-batches of 40, 40 and 20 tokens; the first becomes two of 20.
    assert plan([2] * 10, [8] * 10, range(10), size=4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert plan([2] * 10, [8] * 10, range(10), size=4, ranks=2) == [[0, 1], [2, 3], [4, 5, 6, 7], [8, 9]]
    # One for each of three ranks: 10 is halved, and the first of the halves once more.
    assert plan([2] * 10, [8] * 10, range(10), size=10, ranks=3) == [[0, 1, 2], [3, 4], [5, 6, 7, 8, 9]]
    # Fewer completions than ranks: one has none.
    assert plan([2] * 2, [8] * 2, range(2), size=4, ranks=3) == [[0], [1]]


def test_the_largest_goes_to_whom_has_the_least() -> None:
    # Tokens 20, 20, 40, 20: the third to rank 0, then two of 20 to rank 1, and the last to rank 0, which is as far.
    micro_batches = [[0, 1], [2, 3], [4, 5, 6, 7], [8, 9]]
    assert share(micro_batches, [2] * 10, [8] * 10, ranks=2) == [[[4, 5, 6, 7], [8, 9]], [[0, 1], [2, 3]]]
    assert share(micro_batches, [2] * 10, [8] * 10, ranks=1) == [micro_batches]
    assert share([[3]], [1] * 4, [1] * 4, ranks=2) == [[[3]], []]


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_no_rank_has_more_than_a_step_has_micro_batches(size: int, ranks: int) -> None:
    generator = torch.Generator().manual_seed(size)
    for _ in range(50):
        number = size * int(torch.randint(1, 9, (), generator=generator))
        prompts, completions = (torch.randint(1, 40, (number,), generator=generator).tolist() for _ in range(2))
        rows = [row for row in range(number) if torch.rand((), generator=generator) < 0.7]
        shares = share(plan(prompts, completions, rows, size=size, ranks=ranks), prompts, completions, ranks=ranks)
        assert sorted(row for own in shares for some in own for row in some) == rows
        assert max(map(len, shares)) <= number // size
        assert min(map(len, shares)) >= (len(rows) >= ranks), "whoever can has something to do"


def test_rows_are_trimmed_to_their_own_longest() -> None:
    batch = {
        "prompt_ids": torch.tensor([[0, 0, 5], [7, 8, 9], [0, 5, 6]]),
        "prompt_mask": torch.tensor([[0, 0, 1], [1, 1, 1], [0, 1, 1]]),
        "completion_ids": torch.tensor([[4, 0, 0, 0], [1, 2, 3, 4], [6, 7, 0, 0]]),
        "completion_mask": torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]),
        "sampling_per_token_logps": torch.tensor([[-1.0, 0, 0, 0], [-2, -3, -4, -5], [-6, -7, 0, 0]]),
        "advantages": torch.tensor([0.5, 1.0, -1.0]),
        "ratio": torch.tensor([[1.0], [2.0], [3.0]]),
        "num_items_in_batch": torch.tensor(7),
        "nothing": None,
    }
    taken = take(batch, [2, 0])
    assert {name: values.tolist() for name, values in taken.items() if values is not None} == {
        "prompt_ids": [[5, 6], [0, 5]],
        "prompt_mask": [[1, 1], [0, 1]],
        "completion_ids": [[6, 7], [4, 0]],
        "completion_mask": [[1, 1], [1, 0]],
        "sampling_per_token_logps": [[-6.0, -7.0], [-1.0, 0.0]],
        "advantages": [-1.0, 0.5],
        "ratio": [[3.0], [1.0]],
        "num_items_in_batch": 7,
    }
    assert taken["nothing"] is None


def test_a_row_that_counts_for_nothing_keeps_one_column() -> None:
    batch = {
        "prompt_ids": torch.tensor([[5, 6]]),
        "prompt_mask": torch.tensor([[1, 1]]),
        "completion_ids": torch.tensor([[1, 2]]),
        "completion_mask": torch.tensor([[0, 0]]),
    }
    assert take(batch, [0])["completion_ids"].tolist() == [[1]]
