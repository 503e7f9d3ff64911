"""The ranks of a learner: processes that train one policy together. They meet in a store and sum their gradients.

Each rank holds the whole model and receives the whole step, but computes only its share of the completions. The ranks
sum their gradients once before each optimizer step, so all of them take the same step and keep equal weights.

rft creates the process groups without `torch.distributed.init_process_group`, so TRL, Transformers and accelerate act
as in a single process. The divisor of a loss is therefore the same for any number of ranks.
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
"""Size of the buffer in which tensors are summed."""


class Ranks:
    """The ranks of one learner, seen from one of them. Without arguments: a single process.

    Args:
        number: Number of this rank.
        of: Number of ranks.
        store: torch's key-value store, shared by all ranks.
        group: torch's process group.
        device: Device on which the group sums tensors; None sums them on their own.
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
        """Wait for the other ranks, and join their process group.

        Args:
            place: Number and addresses of this rank.
            timeout_s: Deadline for joining, and for each sum.

        Raises:
            RankLost: Another rank did not join in time.
        """
        timeout = timedelta(seconds=timeout_s)
        host, _, port = place.address.rpartition(":")
        with _naming_rank(place.number, place.of):
            store = torch.distributed.TCPStore(host, int(port), is_master=False, timeout=timeout)
            make = _nccl if place.backend == "nccl" else _gloo
            group = make(torch.distributed.PrefixStore(place.backend, store), place, timeout)
        device = torch.device("cpu") if place.backend == "gloo" else None
        return cls(place.number, place.of, store=store, group=group, device=device)

    @property
    def is_first(self) -> bool:
        """Whether this rank reports, publishes and saves for all ranks."""
        return self.number == 0

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, bit for bit the same on each rank.

        Args:
            tensors: Floating-point tensors on one device, with the same shapes in the same order on every rank.

        Raises:
            RankLost: Another rank has died, or did not join the sum in time.
        """
        if self.of == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1).float() for tensor in bucket])
            summed = flat if self._device is None else flat.to(self._device)
            with _naming_rank(self.number, self.of):
                self._group.allreduce([summed]).wait()
            parts = summed.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def collect(self, own: Any) -> list[Any]:
        """Return the values of all ranks, by number; on ranks above 0 only the rank's own value.

        Args:
            own: This rank's value, which JSON can represent.

        Raises:
            RankLost: Another rank did not send its value in time.
        """
        if self.of == 1:
            return [own]
        turn = next(self._turns)
        with _naming_rank(self.number, self.of):
            if not self.is_first:
                self._store.set(f"collect/{turn}/{self.number}", json.dumps(own))
                return [own]
            values = [own]
            for number in range(1, self.of):
                key = f"collect/{turn}/{number}"
                values.append(json.loads(self._store.get(key)))
                self._store.delete_key(key)
        return values


def open_store(host: str) -> Any:
    """Open the store in which ranks meet, on a free port of this machine. It closes with the returned object.

    Args:
        host: The only address on which the store listens.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, 0), family=family)
    port = listening.getsockname()[1]
    return torch.distributed.TCPStore(
        host, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
    )


def checksum(parameters: Iterable[Tensor]) -> int:
    """Return a number that is equal for weights that are equal bit for bit, computed on their device.

    The bits of each tensor are summed as integers. The position of a tensor is the weight of its sum.
    """
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = [each.detach().view(integers[each.element_size()]).sum(dtype=torch.int64) for each in parameters]
    sums_by_tensor = torch.stack(sums)
    return int((sums_by_tensor * torch.arange(1, 2 * len(sums), 2, device=sums_by_tensor.device)).sum().item())


def _gloo(store: Any, place: RankPlace, timeout: timedelta) -> Any:
    gloo = torch.distributed.ProcessGroupGloo
    options = gloo._Options()
    options._timeout = timeout
    # By default gloo uses the address of the host name, which other nodes may not reach.
    options._devices = [gloo.create_device(hostname=place.host)]
    return gloo(store, place.number, place.of, options)


def _nccl(store: Any, place: RankPlace, timeout: timedelta) -> Any:
    nccl = torch.distributed.ProcessGroupNCCL
    options = nccl.Options()
    options._timeout = timeout
    return nccl(store, place.number, place.of, options)


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


@contextmanager
def _naming_rank(number: int, of: int) -> Iterator[None]:
    """Turn errors of torch.distributed into errors that name this rank."""
    try:
        yield
    except RuntimeError as error:  # the base of all errors of torch.distributed
        # "[<source file>] Connection closed by peer. <advice>"
        reason = re.sub(r"^\[\S+\] ", "", str(error)).split(". ")[0].partition("\n")[0]
        raise RankLost(f"rank {number} of {of} of the learner lost contact with another rank: {reason}") from error
