"""Ctrl-C once, twice, and too early. The signals are real and sent to this very process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator

import pytest

from rft.terminal import interrupt as interrupt_module
from rft.terminal.interrupt import Interrupt, SweepInterrupt, handled_signals, listen_again, tell_listeners_of_notice


@pytest.fixture(autouse=True)
def no_nohup() -> Iterator[None]:
    """Without it, SIGHUP is ignored in tests that were started with `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


async def send(number: signal.Signals) -> None:
    """Send a signal to this process, and let the loop handle it."""
    os.kill(os.getpid(), number)
    # The handler runs in a later turn of the loop; a few turns that end by themselves are no wait on the clock.
    for _ in range(5):
        await asyncio.sleep(0.001)


def run(
    job: Callable[[Interrupt], Awaitable[str]], step_timeout_s: float | None = None
) -> tuple[str, Interrupt, list[str]]:
    """Run a job as the app does; what it returned, or "cancelled"."""
    said: list[str] = []

    async def guarded() -> tuple[str, Interrupt]:
        with Interrupt(said.append, step_timeout_s=step_timeout_s) as interrupt:
            try:
                return await job(interrupt), interrupt
            except asyncio.CancelledError:
                return "cancelled", interrupt

    result, interrupt = asyncio.run(guarded())
    return result, interrupt, said


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
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


@pytest.mark.parametrize(("first", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_after_another_signal_stops_at_once(first: signal.Signals, exit_code: int) -> None:
    async def job(interrupt: Interrupt) -> str:
        interrupt.can_wait = True
        await send(first)
        await send(signal.SIGINT)
        return "not reached"

    result, interrupt, said = run(job)
    assert (result, interrupt.exit_code) == ("cancelled", exit_code)
    assert said[1:] == ["stopping at once"]


@pytest.mark.parametrize(
    ("first", "exit_code"), [(None, 75), (signal.SIGHUP, 129), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_only_ctrl_c_stops_before_the_step_is_saved(first: signal.Signals | None, exit_code: int) -> None:
    async def job(interrupt: Interrupt) -> str:
        interrupt.can_wait = True
        if first is None:
            tell_listeners_of_notice("the machine goes")
        else:
            await send(first)
        deadline = interrupt._deadline
        assert (deadline is None) == (first is signal.SIGINT)
        await send(signal.SIGTERM)
        await send(signal.SIGHUP)
        tell_listeners_of_notice("the machine goes")
        assert interrupt._deadline is not None
        assert deadline in (None, interrupt._deadline), "a second signal does not extend the deadline"
        interrupt.can_wait = False  # the step is complete and is being saved
        await send(signal.SIGTERM)
        return "the step was saved"

    result, interrupt, said = run(job, step_timeout_s=3600)
    assert (result, interrupt.exit_code) == ("the step was saved", exit_code)
    assert ("the current step has 3600 s" in said) == (first is signal.SIGINT)
    assert "stopping at once" not in said


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


def test_under_nohup_the_end_of_the_terminal_is_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        async def job(interrupt: Interrupt) -> str:
            await send(signal.SIGHUP)
            return "goes on"

        result, interrupt, said = run(job)
        assert (result, interrupt.exit_code, said) == ("goes on", None, [])
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert list(handled_signals()) == [signal.SIGINT, signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_output_to_a_closed_terminal_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = os.pipe()
    saved = os.dup(1)
    try:
        os.dup2(second, 1)
        monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == 1)
        interrupt_module._leave_terminal()
        os.write(1, b"the final report")
        os.close(second)
        os.set_blocking(first, False)
        assert os.read(first, 100) == b""
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(first)


def test_a_notice_ends_the_run_after_the_step_with_an_exit_code_of_its_own() -> None:
    async def job(interrupt: Interrupt) -> str:
        interrupt.can_wait = True
        tell_listeners_of_notice("the machine goes")
        tell_listeners_of_notice("the machine goes")  # another run of the process watches, too
        await asyncio.sleep(0)
        return "the step was finished"

    result, interrupt, said = run(job, step_timeout_s=3600)
    assert (result, interrupt.exit_code) == ("the step was finished", 75)
    assert said == [
        "the machine goes",
        "stopping after the current step is finished and saved, for which it has 3600 s (press again to stop at once)",
    ]


@pytest.mark.parametrize(("can_drop", "result"), [(True, "cancelled"), (False, "the step was finished")])
def test_a_step_that_takes_too_long_is_dropped_while_it_can_be(can_drop: bool, result: str) -> None:
    async def job(interrupt: Interrupt) -> str:
        interrupt.can_wait = True
        interrupt.can_drop_step = lambda: can_drop
        await send(signal.SIGTERM)
        # Without the drop, the job ends once the deadline has passed.
        deadline = interrupt._deadline
        assert deadline is not None
        while asyncio.get_running_loop().time() <= deadline.when() or interrupt.has_dropped_step:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)
        return "the step was finished"

    got, interrupt, said = run(job, step_timeout_s=0.01)
    assert (got, interrupt.exit_code, interrupt.has_dropped_step) == (result, 143, can_drop)
    dropped = "the current step took longer than 0.01 s; saving the step before it"
    assert (dropped in said) == can_drop


def test_ctrl_c_waits_for_the_step_however_long_it_takes() -> None:
    async def job(interrupt: Interrupt) -> str:
        interrupt.can_wait = True
        await send(signal.SIGINT)
        assert interrupt._deadline is None
        return "the step was finished"

    result, _, said = run(job, step_timeout_s=0.0)
    assert (result, said) == (
        "the step was finished",
        ["stopping after the current step is finished and saved (press again to stop at once)"],
    )


def test_a_notice_stops_a_sweep_with_its_trials() -> None:
    said: list[str] = []

    async def job() -> tuple[int | None, int | None]:
        with SweepInterrupt(said.append) as sweep, Interrupt(said.append) as trial:
            trial.can_wait = True
            tell_listeners_of_notice("the machine goes")
            return sweep.exit_code, trial.exit_code

    assert asyncio.run(job()) == (75, 75)
    assert any("no further trial starts" in line for line in said)


@pytest.mark.parametrize("can_drop", [False, True])
def test_a_learner_that_starts_again_gets_no_further_time(monkeypatch: pytest.MonkeyPatch, can_drop: bool) -> None:
    """It is lost in its step, or when the step before a dropped one is to be saved."""
    monkeypatch.setattr(interrupt_module, "OVERDUE_CHECK_S", 0.001)

    async def job(interrupt: Interrupt) -> str:
        interrupt.can_wait = True
        interrupt.can_drop_step = lambda: can_drop
        interrupt.is_learner_restarting = lambda: interrupt.has_dropped_step or not can_drop
        try:
            await send(signal.SIGTERM)  # the step may be overdue before this returns
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if not interrupt.has_dropped_step:
                raise
            await asyncio.sleep(3600)
        return "the learner is back"

    got, interrupt, said = run(job, step_timeout_s=0.01)
    assert (got, interrupt.exit_code, interrupt.has_dropped_step) == ("cancelled", 143, can_drop)
    end = "the current step took longer than 0.01 s, and the learner starts again; stopping with the last checkpoint"
    assert said[-1] == end
