"""Coroutines run from ordinary functions, with and without an event loop around them. The signals are real."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from rft.terminal.event_loop import run_to_end
from rft.terminal.interrupt import Interrupt

T = TypeVar("T")


def in_notebook(cell: Callable[[], T]) -> T:
    """Call a function as Jupyter runs a cell: on the main thread, inside a running event loop."""

    async def run_cell() -> T:
        return cell()

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(run_cell())
    finally:
        loop.close()


async def thread_name() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


async def fail() -> None:
    raise ValueError("the coroutine failed")


def test_without_a_loop_the_coroutine_runs_on_this_thread() -> None:
    assert run_to_end(thread_name()) == threading.current_thread().name


def test_inside_a_loop_the_coroutine_runs_on_another_thread() -> None:
    assert in_notebook(lambda: run_to_end(thread_name())) == "rft: event loop"
    with pytest.raises(ValueError, match="the coroutine failed"):
        in_notebook(lambda: run_to_end(fail()))


def test_ctrl_c_cancels_a_coroutine_that_does_not_listen() -> None:
    ended: list[str] = []

    async def job() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            ended.append("in order")

    with pytest.raises(KeyboardInterrupt):
        in_notebook(lambda: run_to_end(job()))
    assert ended == ["in order"]


def test_a_signal_that_does_not_wake_the_waiting_thread_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rft.terminal.event_loop.SIGNAL_POLL_S", 0.01)

    async def job() -> None:
        waiting = threading.main_thread().ident or 0
        while sys._current_frames()[waiting].f_code.co_name != "wait":
            await asyncio.sleep(0.01)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # interrupts this thread alone
        await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        in_notebook(lambda: run_to_end(job()))


def test_ctrl_c_reaches_an_interrupt_that_listens() -> None:
    async def job() -> int | None:
        with Interrupt(lambda _: None) as interrupt:
            interrupt.can_wait = True
            os.kill(os.getpid(), signal.SIGINT)
            while not interrupt.requested:
                await asyncio.sleep(0)
            return interrupt.exit_code

    before = signal.getsignal(signal.SIGINT)
    assert in_notebook(lambda: run_to_end(job())) == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_on_another_thread_signals_are_left_alone() -> None:
    async def job() -> str:
        with Interrupt(lambda _: None):
            return threading.current_thread().name

    names: list[str] = []
    thread = threading.Thread(target=lambda: names.append(run_to_end(job())), name="a server's")
    thread.start()
    thread.join()
    assert names == ["a server's"]
