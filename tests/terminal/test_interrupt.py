"""Ctrl-C once, twice, and too early. The signals are real and sent to this very process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from rft.terminal.interrupt import Interrupt, listen_again


async def send(number: signal.Signals) -> None:
    """Send a signal to this process, and let the loop handle it."""
    os.kill(os.getpid(), number)
    # The handler runs in a later turn of the loop; a few turns that end by themselves are no wait on the clock.
    for _ in range(5):
        await asyncio.sleep(0.001)


def run(job: Callable[[Interrupt], Awaitable[str]]) -> tuple[str, Interrupt, list[str]]:
    """Run a job as the app does; what it returned, or "cancelled"."""
    said: list[str] = []

    async def guarded() -> tuple[str, Interrupt]:
        with Interrupt(said.append) as interrupt:
            try:
                return await job(interrupt), interrupt
            except asyncio.CancelledError:
                return "cancelled", interrupt

    result, interrupt = asyncio.run(guarded())
    return result, interrupt, said


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_waits_for_the_step(number: signal.Signals, exit_code: int) -> None:
    async def job(interrupt: Interrupt) -> str:
        interrupt.can_wait = True
        assert not interrupt.requested
        await send(number)
        assert interrupt.requested
        return "the step was finished"

    result, interrupt, said = run(job)
    assert (result, interrupt.exit_code) == ("the step was finished", exit_code)
    assert said == ["stopping after the current step is finished and saved (press again to stop at once)"]


def test_the_second_signal_stops_at_once() -> None:
    async def job(interrupt: Interrupt) -> str:
        interrupt.can_wait = True
        await send(signal.SIGINT)
        await send(signal.SIGTERM)
        return "not reached"

    result, interrupt, said = run(job)
    assert (result, interrupt.exit_code) == ("cancelled", 143)
    assert said[1:] == ["stopping at once"]


def test_before_there_is_a_step_to_finish_the_first_stops_at_once() -> None:
    async def job(interrupt: Interrupt) -> str:
        await send(signal.SIGINT)
        return "not reached"

    result, interrupt, said = run(job)
    assert (result, interrupt.exit_code, said) == ("cancelled", 130, ["stopping at once"])


def test_without_a_signal_nothing_is_asked_and_nothing_stays() -> None:
    async def job(interrupt: Interrupt) -> str:
        return "done"

    before = signal.getsignal(signal.SIGINT)
    result, interrupt, said = run(job)
    assert (result, interrupt.exit_code, said) == ("done", None, [])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_library_that_puts_its_own_handlers_in_place_does_not_keep_them() -> None:
    taken: list[int] = []

    async def job(interrupt: Interrupt) -> str:
        interrupt.can_wait = True
        signal.signal(signal.SIGTERM, lambda number, _: taken.append(number))  # as Ray's core worker, from C++
        listen_again()
        await send(signal.SIGTERM)
        return "the step was finished"

    result, interrupt, _ = run(job)
    assert (result, interrupt.exit_code, taken) == ("the step was finished", 143, [])


def test_where_nobody_listens_the_handlers_stay() -> None:
    before = signal.getsignal(signal.SIGTERM)
    listen_again()
    assert signal.getsignal(signal.SIGTERM) is before
