"""Waits have names and deadlines."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from rft.errors import WaitTimeout
from rft.waiting import (
    Wait,
    blocking,
    current_wait,
    current_waits,
    timeouts_observed,
    together,
    wait_for,
    waiting,
    within,
)


def what() -> str | None:
    wait = current_wait()
    return wait and wait.what


def test_the_wait_that_began_last_is_shown() -> None:
    assert current_wait() is None
    with waiting("a model"):
        with waiting("a file"):
            assert what() == "a file"
        assert what() == "a model"
    assert current_wait() is None


def test_a_wait_ends_with_an_error_too() -> None:
    with pytest.raises(KeyError), waiting("a model"):
        raise KeyError
    assert current_wait() is None


def test_equal_waits_that_end_out_of_order_leave_nothing() -> None:
    async def run() -> None:
        first_ends, second_ends = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(wait_for(first_ends.wait(), what="first", deadline_s=60))
        await asyncio.sleep(0)
        second = asyncio.create_task(wait_for(second_ends.wait(), what="second", deadline_s=60))
        await asyncio.sleep(0)
        assert what() == "second"
        first_ends.set()
        await first
        assert what() == "second"
        second_ends.set()
        await second

    asyncio.run(run())
    assert current_wait() is None


def test_the_result_comes_through() -> None:
    async def answer() -> int:
        assert what() == "an answer"
        return 42

    assert asyncio.run(wait_for(answer(), what="an answer", deadline_s=60)) == 42


def test_the_deadline_cancels_what_is_awaited() -> None:
    cancelled = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(WaitTimeout, match=r"timed out after 0.01 s waiting for a sign") as caught:
        asyncio.run(wait_for(forever(), what="a sign", deadline_s=0.01))
    assert (caught.value.what, caught.value.deadline_s) == ("a sign", 0.01)
    assert cancelled == [True]
    assert current_wait() is None


def test_an_error_comes_through() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(wait_for(fail(), what="an answer", deadline_s=60))
    assert current_wait() is None


def test_a_timeout_error_of_the_awaited_itself_is_not_taken_for_the_deadline() -> None:
    async def fail() -> None:
        raise TimeoutError("the database did not answer")

    with pytest.raises(TimeoutError, match="the database did not answer"):
        asyncio.run(wait_for(fail(), what="an answer", deadline_s=60))


@pytest.mark.parametrize("how", ["blocking", "within"])
def test_a_call_that_blocks_has_a_deadline_too(how: str) -> None:
    def wait(call: Callable[[], object], deadline_s: float) -> object:
        if how == "within":
            return within(call, what="a file", deadline_s=deadline_s)
        return asyncio.run(blocking(call, what="a file", deadline_s=deadline_s))

    def fail() -> None:
        raise TimeoutError("of its own")

    ends = threading.Event()
    assert wait(lambda: 42, 60) == 42
    with pytest.raises(TimeoutError, match="of its own"):
        wait(fail, 60)
    with pytest.raises(WaitTimeout, match=r"timed out after 0\.01 s waiting for a file"):
        wait(ends.wait, 0.01)
    ends.set()
    assert current_wait() is None


def test_where_one_fails_the_others_are_cancelled_before_its_error_is_raised() -> None:
    ended = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("endless")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("this one")

    async def job() -> None:
        with pytest.raises(KeyError, match="this one"):
            await together(endless(), fails())
        assert ended == ["endless"]

    asyncio.run(asyncio.wait_for(job(), 60))


def test_a_wait_is_long_after_a_quarter_of_its_deadline_and_5_seconds() -> None:
    wait = Wait("1 of 64 completions", since=10.0, deadline_s=300.0)
    assert [wait.quarters(10.0 + waited_s) for waited_s in (0, 74, 75, 149, 150, 225, 300)] == [0, 0, 1, 1, 2, 3, 4]
    assert [Wait("a file", 10.0, 8.0).quarters(10.0 + waited_s) for waited_s in (2, 4.9, 5)] == [0, 0, 2]
    assert Wait("trials to end", 10.0).quarters(1e6) == 0
    assert wait.text(85.0) == "waiting 75 of 300 s for 1 of 64 completions"
    assert Wait("a model", 10.0).text(85.0) == "waiting 75 s for a model"


def test_the_name_of_a_wait_can_change() -> None:
    missing = ["task 417", "task 9"]
    with waiting(lambda: f"{len(missing)} completions: {', '.join(missing)}"):
        assert what() == "2 completions: task 417, task 9"
        missing.pop()
        assert what() == "1 completions: task 417"

    with pytest.raises(WaitTimeout, match=r"^timed out after 0\.01 s waiting for task 417$"):
        asyncio.run(wait_for(asyncio.sleep(60), what=lambda: missing[0], deadline_s=0.01))


def test_a_timeout_calls_the_observer_of_its_context_before_it_is_raised() -> None:
    seen: list[tuple[str, list[str]]] = []

    async def observe(wait: Wait) -> None:
        seen.append((wait.what, [one.what for one in current_waits()]))
        with pytest.raises(WaitTimeout):  # a timeout of the observer itself calls no observer
            await wait_for(asyncio.sleep(60), what="an answer", deadline_s=0.01)

    async def in_time() -> None:
        await wait_for(asyncio.sleep(0), what="a nap", deadline_s=60)

    async def too_late(name: str) -> None:
        with pytest.raises(WaitTimeout, match=name):
            await wait_for(asyncio.sleep(60), what=name, deadline_s=0.01)

    async def job() -> None:
        with timeouts_observed(observe):
            await in_time()
            await asyncio.create_task(too_late("a task of the block"))
            await too_late("the block")
        await too_late("after the block")

    asyncio.run(job())
    assert seen == [("a task of the block", ["a task of the block"]), ("the block", ["the block"])]
