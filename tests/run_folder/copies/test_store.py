"""Copies in the background: the loop never waits, and nothing that fails is silent."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from rft.errors import StorageError
from rft.run_folder.copies import Store
from rft.storage import Place


class Copies:
    """Stands for a copier: says what was asked for, and fails as often as it is told."""

    place = Place("memory://bucket/runs/a")

    def __init__(self, failures: int = 0, may_end: threading.Event | None = None) -> None:
        self.asked: list[int] = []
        self.failures = failures
        self.begun = threading.Event()
        self.may_end = may_end
        self.given_up: threading.Event | None = None

    def copy(self, last_step: int, given_up: threading.Event) -> list[str]:
        self.asked.append(last_step)
        self.given_up = given_up
        self.begun.set()
        if self.may_end is not None:
            self.may_end.wait(60)
        if self.failures:
            self.failures -= 1
            raise StorageError("s3://bucket: no such bucket")
        return []


def with_store(copies: Copies, body: Callable[[Store], Any], **options: Any) -> tuple[Any, list[str]]:
    """Run a body in an event loop; its result, and the warnings."""
    warnings: list[str] = []

    async def run() -> Any:
        options_of_all = {"timeout_s": 60.0, "pauses_s": (0.0, 0.0)} | options
        return await body(Store(copies, warn=warnings.append, **options_of_all))  # type: ignore[arg-type]

    return asyncio.run(run()), warnings


def test_asking_does_not_wait_and_what_piles_up_is_one_copy() -> None:
    copies = Copies(may_end=threading.Event())

    async def body(store: Store) -> str | None:
        store.ask(1)
        await asyncio.to_thread(copies.begun.wait, 60)
        for step in (2, 3, 4):
            store.ask(step)
        assert copies.asked == [1]
        copies.may_end.set()  # type: ignore[union-attr]
        while len(copies.asked) < 2:
            await asyncio.sleep(0.001)
        return await store.finish(5)

    assert with_store(copies, body) == (None, [])
    assert copies.asked == [1, 4, 5]


def test_a_failed_attempt_is_made_again() -> None:
    copies = Copies(failures=2)
    assert with_store(copies, lambda store: store.finish(7)) == (None, [])
    assert copies.asked == [7, 7, 7]


def test_a_copy_that_fails_is_told_and_counted_and_the_next_one_goes_on() -> None:
    copies = Copies(failures=3)

    async def body(store: Store) -> tuple[str | None, list[int]]:
        store.ask(10)
        while store.failed_copies == 0:
            await asyncio.sleep(0.001)
        failed = [store.take_failed_copies(), store.take_failed_copies()]
        return await store.finish(20), failed

    result, warnings = with_store(copies, body)
    assert result == (None, [1, 0])
    assert copies.asked == [10, 10, 10, 20]
    assert warnings == [
        "step 10 is not in storage: s3://bucket: no such bucket; the run continues, and the next copy retries"
    ]


def test_the_last_copy_says_why_it_failed() -> None:
    async def body(store: Store) -> tuple[str | None, int]:
        return await store.finish(7), store.failed_copies

    result, warnings = with_store(Copies(failures=9), body)
    assert (result, warnings) == (("s3://bucket: no such bucket", 1), [])


def test_the_deadline_gives_up() -> None:
    copies = Copies(may_end=threading.Event())
    result, _ = with_store(copies, lambda store: store.finish(7), timeout_s=0.01)
    assert result == "timed out after 0.01 s waiting for the copy of the run to memory://bucket/runs/a"
    assert copies.given_up is not None
    assert copies.given_up.is_set()
    copies.may_end.set()  # type: ignore[union-attr]


def test_ctrl_c_ends_the_last_copy() -> None:
    copies = Copies(may_end=threading.Event())

    async def body(store: Store) -> str | None:
        ending = asyncio.create_task(store.finish(7))
        await asyncio.to_thread(copies.begun.wait, 60)
        os.kill(os.getpid(), signal.SIGINT)
        return await ending

    assert with_store(copies, body) == ("it was stopped", ["stopping at once"])
    copies.may_end.set()  # type: ignore[union-attr]
