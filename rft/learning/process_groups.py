"""Process groups of torch.distributed that sum tensors over the ranks, without `init_process_group`."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch.distributed

from rft.learning.spec import RankPlace


def join_group(store: Any, place: RankPlace, *, timeout_s: float) -> Any:
    """Join the other ranks' process group.

    Args:
        store: torch's key-value store, which all ranks reach.
        place: Number and addresses of this rank.
        timeout_s: Deadline of the connections and of each sum.

    Returns:
        The group. Waiting for a sum blocks until the sum is done, and raises a RuntimeError if a rank is lost.
    """
    join = _nccl if place.backend == "nccl" else _gloo
    return join(torch.distributed.PrefixStore(place.backend, store), place, timedelta(seconds=timeout_s))


def interface_of(address: str) -> str | None:
    """Return the name of the network interface with an IP address; None if this machine has no such interface."""
    import psutil

    names = [
        name for name, of_name in psutil.net_if_addrs().items() if any(each.address == address for each in of_name)
    ]
    return names[0] if names else None


def _gloo(store: Any, place: RankPlace, timeout: timedelta) -> Any:
    gloo = torch.distributed.ProcessGroupGloo
    options = gloo._Options()
    options._timeout = timeout
    # By default gloo uses the address of the host name, which other nodes may not reach.
    options._devices = [gloo.create_device(hostname=place.host)]
    return gloo(store, place.number, place.of, options)


def _nccl(store: Any, place: RankPlace, timeout: timedelta) -> Any:
    # By default a wait blocks only the stream, and torch's watchdog ends the process if a rank is lost.
    os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"
    # By default NCCL chooses among all interfaces, some of which other nodes may not reach. "=": the exact name.
    if (interface := interface_of(place.host)) is not None:
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={interface}")
    nccl = torch.distributed.ProcessGroupNCCL
    options = nccl.Options()
    options._timeout = timeout
    return nccl(store, place.number, place.of, options)
