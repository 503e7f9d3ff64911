"""The processes that train one policy together: how they find each other, and what they add up.

Each rank holds the whole model and is given the whole step, but only its share of the completions goes through its
model. The gradients are added up once before each optimizer step, so all ranks take the same step, from the same
weights to the same weights.

The process groups of torch.distributed are made without `init_process_group`: TRL, Transformers and accelerate do not
see them, and go on as in a process that is alone. What a loss is divided by therefore stays what it is for one rank.
"""

from __future__ import annotations

import itertools
import json
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from rft.errors import RankLost
from rft.learning.spec import RankPlace

BUCKET_BYTES = 256 * 1024 * 1024
"""How much is added up at once; the buffer is as large."""


class Ranks:
    """The ranks of one learner, as one of them sees them. Without arguments: a process that is alone.

    Args:
        number: Which rank this is.
        of: How many there are.
        store: torch's key-value store, which all of them reach.
        group: torch's process group.
        device: Where tensors must be for the group to add them up; None leaves them where they are.
    """

    def __init__(
        self, number: int = 0, of: int = 1, *, store: Any = None, group: Any = None, device: torch.device | None = None
    ) -> None:
        self.number = number
        self.of = of
        self._store = store
        self._group = group
        self._device = device
        self._turns = itertools.count()

    @classmethod
    def join(cls, place: RankPlace, *, timeout_s: float) -> Ranks:
        """Meet the others; returns when all of them are there.

        Args:
            place: Which rank this process is.
            timeout_s: Deadline for meeting them, and for each sum.

        Raises:
            RankLost: They did not come.
        """
        timeout = timedelta(seconds=timeout_s)
        host, _, port = place.address.rpartition(":")
        with _named(place.number, place.of):
            store = torch.distributed.TCPStore(host, int(port), is_master=False, timeout=timeout)
            make = _nccl if place.backend == "nccl" else _gloo
            group = make(torch.distributed.PrefixStore(place.backend, store), place, timeout)
        device = torch.device("cpu") if place.backend == "gloo" else None
        return cls(place.number, place.of, store=store, group=group, device=device)

    @property
    def is_first(self) -> bool:
        """Whether this rank speaks for all."""
        return self.number == 0

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Put the sum over all ranks into each tensor, the same bits on each rank.

        Args:
            tensors: Of floating point, on one device; on every rank the same shapes in the same order.

        Raises:
            RankLost: Another rank is gone, or did not come to add up in time.
        """
        if self.of == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1).float() for tensor in bucket])
            summed = flat if self._device is None else flat.to(self._device)
            with _named(self.number, self.of):
                self._group.allreduce([summed]).wait()
            parts = summed.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def collect(self, own: Any) -> list[Any]:
        """What every rank says, by number; elsewhere than on rank 0 only what this rank says itself.

        Args:
            own: What JSON can hold.

        Raises:
            RankLost: Another rank said nothing in time.
        """
        if self.of == 1:
            return [own]
        turn = next(self._turns)
        with _named(self.number, self.of):
            if not self.is_first:
                self._store.set(f"said/{turn}/{self.number}", json.dumps(own))
                return [own]
            said = [own]
            for number in range(1, self.of):
                key = f"said/{turn}/{number}"
                said.append(json.loads(self._store.get(key)))
                self._store.delete_key(key)
        return said


def open_store(host: str) -> Any:
    """The store where ranks meet, on a free port of one address of this machine. It lives as long as what is returned.

    Args:
        host: The address; the store listens there alone.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, 0), family=family)
    port = listening.getsockname()[1]
    return torch.distributed.TCPStore(
        host, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
    )


def checksum(parameters: Iterable[Tensor]) -> int:
    """A number that is the same for weights that are equal bit for bit, computed where they are.

    The bits of each tensor are read as integers and summed; the sums are weighed by the place of the tensor.
    """
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = [each.detach().view(integers[each.element_size()]).sum(dtype=torch.int64) for each in parameters]
    found = torch.stack(sums)
    return int((found * torch.arange(1, 2 * len(sums), 2, device=found.device)).sum().item())


def _gloo(store: Any, place: RankPlace, timeout: timedelta) -> Any:
    gloo = torch.distributed.ProcessGroupGloo
    options = gloo._Options()
    options._timeout = timeout
    # By itself gloo takes the address of the machine's name, at which other nodes may not reach it.
    options._devices = [gloo.create_device(hostname=place.host)]
    return gloo(store, place.number, place.of, options)


def _nccl(store: Any, place: RankPlace, timeout: timedelta) -> Any:
    nccl = torch.distributed.ProcessGroupNCCL
    options = nccl.Options()
    options._timeout = timeout
    return nccl(store, place.number, place.of, options)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours together, up to `BUCKET_BYTES` in float32; a larger tensor alone."""
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


@contextmanager
def _named(number: int, of: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # as all of torch.distributed's are
        # "[<file of its source>] Connection closed by peer. <what one might do>"
        reason = re.sub(r"^\[\S+\] ", "", str(error)).split(". ")[0].partition("\n")[0]
        raise RankLost(f"rank {number} of {of} of the learner hears nothing from another one: {reason}") from error
