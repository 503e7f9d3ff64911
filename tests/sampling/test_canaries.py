"""Which canaries are chosen."""

import pytest

from rft.sampling.canaries import choose_canaries


def test_they_begin_at_prompts_spread_over_all_and_go_on_with_those_that_follow() -> None:
    prompts = [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert choose_canaries(prompts, num=2, num_tokens=5, max_context_tokens=99) == ((1, 1, 2, 2, 3), (3, 3, 4, 4, 1))


def test_three_of_36_tokens_by_default_always_the_same() -> None:
    prompts = [tuple(range(start, start + 7)) for start in range(100)]
    chosen = choose_canaries(prompts, max_context_tokens=256)
    assert [len(ids) for ids in chosen] == [36] * 3
    assert len(set(chosen)) == 3
    assert chosen == choose_canaries(list(prompts), max_context_tokens=256)
    assert [ids[0] for ids in chosen] == [0, 33, 66]


def test_fewer_prompts_than_canaries() -> None:
    """Each starts one token later, so that no two are the same."""
    chosen = choose_canaries([(1, 2, 3, 4, 5)], num=4, num_tokens=3, max_context_tokens=9)
    assert chosen == ((1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 1))


def test_one_token_of_the_context_is_left_free() -> None:
    assert [len(ids) for ids in choose_canaries([(1, 2)], max_context_tokens=16)] == [15] * 3


@pytest.mark.parametrize(("prompts", "context"), [([], 99), ([(), ()], 99), ([(1, 2)], 2)])
def test_none_where_there_is_nothing_to_score(prompts: list[tuple[int, ...]], context: int) -> None:
    assert choose_canaries(prompts, max_context_tokens=context) == ()
