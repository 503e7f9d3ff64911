"""The ranks of a learner: processes that train one policy together. They meet in a store and sum their gradients.

Each rank holds the whole model and receives the whole step, but computes only its share of the completions. The ranks
sum their gradients once before each optimizer step, so all of them take the same step and keep equal weights.

rft creates the process groups without `torch.distributed.init_process_group`, so TRL, Transformers and accelerate act
as in a single process. The divisor of a loss is therefore the same for any number of ranks.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from rft.learning.process_groups import join_group
from rft.learning.rank_store import RankStore, naming_rank
from rft.learning.spec import RankPlace

BUCKET_BYTES = 256 * 1024 * 1024
"""Size of the buffer in which tensors are summed."""

SUM_TIMEOUT_S = 300.0
"""Deadline of a sum, which starts after all ranks have arrived at it."""


class Ranks:
    """The ranks of one learner, seen from one of them. Without arguments: a single process.

    Args:
        number: Number of this rank.
        of: Number of ranks.
        store: The store in which the ranks meet.
        group: torch's process group.
        device: Device on which the group sums tensors; None sums them on their own.
    """

    def __init__(
        self,
        number: int = 0,
        of: int = 1,
        *,
        store: RankStore | None = None,
        group: Any = None,
        device: torch.device | None = None,
    ) -> None:
        self.number = number
        self.of = of
        self._store = store
        self._group = group
        self._device = device
        self._turns = itertools.count()

    @classmethod
    def join(cls, place: RankPlace, *, timeout_s: float) -> Ranks:
        """Wait for the other ranks, and join their process group.

        Args:
            place: Number and addresses of this rank.
            timeout_s: Deadline of each wait for another rank; within a `step`, of all its waits together.

        Raises:
            RankLost: Another rank did not join in time.
        """
        store = RankStore(place, timeout_s=timeout_s)
        with naming_rank(place.name):
            group = join_group(store.client, place, timeout_s=min(timeout_s, SUM_TIMEOUT_S))
        device = torch.device("cpu") if place.backend == "gloo" else None
        return cls(place.number, place.of, store=store, group=group, device=device)

    @property
    def is_first(self) -> bool:
        """Whether this rank reports, publishes and saves for all ranks."""
        return self.number == 0

    def step(self) -> AbstractContextManager[None]:
        """Make all waits for other ranks in the block share one deadline."""
        return nullcontext() if self._store is None else self._store.step()

    @contextmanager
    def own_randomness(self, *, seed: int, number: int, device: torch.device) -> Iterator[None]:
        """Give dropout in the block random numbers that differ between ranks; then restore the state that all share.

        A single process keeps its random state.

        Args:
            seed: Seed of the run.
            number: Number of the block, counted from the start of the run, the same on all ranks.
            device: Device of the dropout.
        """
        if self.of == 1:
            yield
            return
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(((seed << 32) + number * self.of + self.number) % 2**63)
            yield

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor], *, value: int = 0) -> int:
        """Replace each tensor by its sum over all ranks, bit for bit the same on each rank.

        Args:
            tensors: Floating-point tensors on one device, with the same shapes in the same order on every rank.
            value: A number of this rank, which travels with the tensors.

        Returns:
            The largest value of all ranks.

        Raises:
            RankLost: Another rank has died, or did not join the sum in time.
        """
        if self._store is None:
            return value
        values = self._store.meet(str(value))
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1).float() for tensor in bucket])
            summed = flat if self._device is None else flat.to(self._device)
            with naming_rank(self._store.names[self.number]):
                self._group.allreduce([summed]).wait()
            parts = summed.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))
        return max(map(int, values))

    def collect(self, own: Any) -> list[Any]:
        """Return the values of all ranks, by number; on ranks above 0 only the rank's own value.

        Args:
            own: This rank's value, which JSON can represent.

        Raises:
            RankLost: Another rank did not send its value in time.
        """
        if self._store is None:
            return [own]
        topic = f"collect/{next(self._turns)}"
        self._store.send(topic, json.dumps(own))
        if not self.is_first:
            return [own]
        values = [json.loads(text) for text in self._store.receive(topic)]
        self._store.forget(topic)
        return values


def checksum(parameters: Iterable[Tensor]) -> int:
    """Return a number that is equal for weights that are equal bit for bit, computed on their device.

    The bits of each tensor are summed as integers. The position of a tensor is the weight of its sum.
    """
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = [each.detach().view(integers[each.element_size()]).sum(dtype=torch.int64) for each in parameters]
    sums_by_tensor = torch.stack(sums)
    return int((sums_by_tensor * torch.arange(1, 2 * len(sums), 2, device=sums_by_tensor.device)).sum().item())


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Group neighbours up to `BUCKET_BYTES` in float32; a larger tensor is a group of its own."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + 4 * tensor.numel() > BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += 4 * tensor.numel()
    if bucket:
        yield bucket
