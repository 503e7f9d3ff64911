"""The store in which the ranks of a learner meet: it knows which rank is late, and every wait has a deadline."""

from __future__ import annotations

import itertools
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed

from rft.errors import RankLost
from rft.learning.spec import RankPlace, rank_name


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


class RankStore:
    """A rank's connection to the store. The constructor waits for all ranks.

    Args:
        place: Number and addresses of this rank.
        timeout_s: Deadline of each wait. Waits of one `step` share this time.

    Raises:
        RankLost: Names the ranks that did not arrive in time.
    """

    def __init__(self, place: RankPlace, *, timeout_s: float) -> None:
        self._number = place.number
        self._timeout_s = timeout_s
        self._ends_s: float | None = None
        self._meetings = itertools.count()
        self.names: Sequence[str] = [rank_name(number, place.of) for number in range(place.of)]
        """Name of each rank for messages: its number, host and GPU."""
        host, _, port = place.address.rpartition(":")
        with naming_rank(place.name):
            self.client: Any = torch.distributed.TCPStore(
                host, int(port), is_master=False, timeout=timedelta(seconds=timeout_s)
            )
            """torch's store."""
        self.send("name", place.name)
        self.names = self.receive("name")

    @contextmanager
    def step(self) -> Iterator[None]:
        """Make all waits of the block share one deadline, so that they end before the step's own deadline."""
        self._ends_s = time.monotonic() + self._timeout_s
        try:
            yield
        finally:
            self._ends_s = None

    def meet(self, text: str = "") -> list[str]:
        """Wait until every rank has called this method as often as this rank; return the texts of all ranks.

        Args:
            text: This rank's text.

        Raises:
            RankLost: Names the ranks that did not arrive in time.
        """
        meeting = next(self._meetings)
        self.send(f"meeting/{meeting}", text)
        texts = self.receive(f"meeting/{meeting}")
        if meeting:  # all ranks have left the last meeting
            self.client.delete_key(_key(f"meeting/{meeting - 1}", self._number))
        return texts

    def send(self, topic: str, text: str) -> None:
        """Store this rank's text under a topic."""
        with naming_rank(self.names[self._number]):
            self.client.set(_key(topic, self._number), text)

    def receive(self, topic: str) -> list[str]:
        """Wait for the texts of all ranks under a topic; return them by rank.

        Raises:
            RankLost: Names the ranks that sent nothing in time.
        """
        self._wait(topic)
        with naming_rank(self.names[self._number]):
            return [text.decode() for text in self.client.multi_get(self._keys(topic))]

    def forget(self, topic: str) -> None:
        """Delete the texts of all ranks under a topic."""
        for key in self._keys(topic):
            self.client.delete_key(key)

    def _wait(self, topic: str) -> None:
        left_s = self._timeout_s if self._ends_s is None else max(0.0, self._ends_s - time.monotonic())
        keys = self._keys(topic)
        try:
            self.client.wait(keys, timedelta(seconds=left_s))
        except torch.distributed.DistStoreError as error:
            missing = [name for name, key in zip(self.names, keys, strict=True) if not self.client.check([key])]
            if missing:
                raise RankLost(
                    f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} lost: "
                    f"{self.names[self._number]} waited {self._timeout_s:g} s"
                ) from error
        except RuntimeError as error:
            raise RankLost(f"{self.names[0]} is lost: the store in its process closed") from error

    def _keys(self, topic: str) -> list[str]:
        return [_key(topic, number) for number in range(len(self.names))]


@contextmanager
def naming_rank(name: str) -> Iterator[None]:
    """Turn errors of torch.distributed into errors that name the rank that noticed them.

    Args:
        name: Name of this rank.
    """
    try:
        yield
    except RuntimeError as error:  # the base of all errors of torch.distributed
        # "[<source file>] Connection closed by peer. <advice>"
        reason = re.sub(r"^\[\S+\] ", "", str(error)).split(". ")[0].partition("\n")[0]
        raise RankLost(f"{name} lost contact with another rank: {reason}") from error


def _key(topic: str, number: int) -> str:
    return f"{topic}/{number}"
