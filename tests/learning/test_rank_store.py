"""Ranks in threads of this process: which of them a message names when another one is late or gone."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

import pytest
import torch

from rft.errors import RankLost
from rft.learning.process_groups import interface_of, join_group
from rft.learning.rank_store import RankStore, open_store
from rft.learning.ranks import Ranks
from rft.learning.spec import RankPlace

T = TypeVar("T")


def places(of: int, address: str) -> list[RankPlace]:
    return [
        RankPlace(number=number, of=of, address=address, host="127.0.0.1", backend="gloo", gpu=str(number))
        for number in range(of)
    ]


def on_each(call: Callable[..., T], *arguments: list[Any]) -> list[T]:
    """Call a function for each rank at the same time."""
    with ThreadPoolExecutor(len(arguments[0])) as threads:
        return list(threads.map(call, *arguments))


@pytest.fixture
def three() -> list[Ranks]:
    store = open_store("127.0.0.1")
    ranks = on_each(lambda place: Ranks.join(place, timeout_s=300), places(3, f"127.0.0.1:{store.port}"))
    ranks[0].opened = store  # type: ignore[attr-defined]
    return ranks


def test_the_ranks_know_each_others_places(three: list[Ranks]) -> None:
    for ranks in three:
        assert ranks._store is not None
        assert ranks._store.names == [
            f"rank {number} of 3 of the learner (127.0.0.1, GPU {number})" for number in range(3)
        ]


def test_sums_and_values_of_all(three: list[Ranks]) -> None:
    tensors = [torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]), torch.tensor([100.0, 200.0])]
    for values in ([1, 1, 1], [1, 2, 1]):
        largest = on_each(lambda ranks, tensor, value: ranks.add_up([tensor], value=value), three, tensors, values)
        assert largest == [max(values)] * 3
    # 111 and 222 after the first sum, three times as much after the second.
    assert [tensor.tolist() for tensor in tensors] == [[333.0, 666.0]] * 3
    assert on_each(lambda ranks: ranks.collect(ranks.number), three) == [[0, 1, 2], [1], [2]]
    assert on_each(lambda ranks: ranks.collect(-ranks.number), three) == [[0, -1, -2], [-1], [-2]]
    # Left are the names, the last meeting, and what gloo keeps.
    left = [key for key in three[0]._store.client.list_keys() if "meeting" in key or "collect" in key]  # type: ignore[union-attr]
    assert sorted(left) == ["meeting/1/0", "meeting/1/1", "meeting/1/2"]


def test_a_rank_that_hangs_is_named_by_those_that_wait(three: list[Ranks]) -> None:
    def add_up(ranks: Ranks) -> str:
        assert ranks._store is not None
        ranks._store._timeout_s = 0.1
        with pytest.raises(RankLost) as caught, ranks.step():
            ranks.add_up([torch.zeros(1)])
        return str(caught.value)

    messages = on_each(add_up, [three[0], three[2]])
    assert messages == [
        f"rank 1 of 3 of the learner (127.0.0.1, GPU 1) is lost: rank {number} of 3 of the learner "
        f"(127.0.0.1, GPU {number}) waited 0.1 s"
        for number in (0, 2)
    ]


def test_several_ranks_that_send_no_metrics(three: list[Ranks]) -> None:
    assert three[0]._store is not None
    three[0]._store._timeout_s = 0.1
    with pytest.raises(RankLost, match=r"^rank 1 of 3 .* and rank 2 of 3 .* are lost: rank 0 of 3 .* waited 0\.1 s$"):
        three[0].collect({})


def test_waits_of_a_step_share_its_time(three: list[Ranks]) -> None:
    store = three[0]._store
    assert store is not None
    with store.step():
        store._ends_s = 0.0  # long ago
        with pytest.raises(RankLost, match="rank 1 of 3"):
            three[0].add_up([torch.zeros(1)])


def test_a_rank_that_never_joins_is_named_by_its_number() -> None:
    store = open_store("127.0.0.1")
    place = places(2, f"127.0.0.1:{store.port}")[0]
    with pytest.raises(RankLost, match=r"^rank 1 of 2 of the learner is lost: "):
        RankStore(place, timeout_s=0.2)


def test_the_rank_with_the_store_is_gone() -> None:
    store = open_store("127.0.0.1")
    [rank] = on_each(lambda place: RankStore(place, timeout_s=300), places(1, f"127.0.0.1:{store.port}"))
    rank.names = ["rank 0 of 2 of the learner (a)", "rank 1 of 2 of the learner (b)"]
    del store
    with pytest.raises(RankLost, match=r"rank 0 of 2 of the learner \(a\)"):
        rank.receive("nothing")


def test_the_interface_of_an_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.1") is None  # reserved for documents


@pytest.mark.parametrize(("given", "expected"), [(None, "=lo"), ("eth7", "eth7")])
def test_nccl_blocks_until_a_sum_is_done_and_uses_the_ranks_interface(
    monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    class FakeNccl:
        class Options:
            _timeout: timedelta

        def __init__(self, store: object, number: int, of: int, options: Options) -> None:
            self.made = (number, of, options._timeout)

    monkeypatch.setattr(torch.distributed, "ProcessGroupNCCL", FakeNccl, raising=False)
    monkeypatch.setattr(os, "environ", {} if given is None else {"NCCL_SOCKET_IFNAME": given})
    place = RankPlace(number=1, of=2, address="", host="127.0.0.1", backend="nccl")
    group = join_group(torch.distributed.HashStore(), place, timeout_s=300)
    assert group.made == (1, 2, timedelta(seconds=300))
    assert os.environ == {"TORCH_NCCL_BLOCKING_WAIT": "1", "NCCL_SOCKET_IFNAME": expected}
