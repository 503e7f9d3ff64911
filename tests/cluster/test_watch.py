"""A head that dies under a run."""

import asyncio

import pytest

from rft.cluster import watch
from rft.cluster.watch import watched
from rft.errors import ClusterError


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether it answers, question by question; the last answer stays."""
    answers: list[bool] = []

    def ask(address: str, *, deadline_s: float) -> None:
        if not (answers.pop(0) if len(answers) > 1 else answers[0]):
            raise ClusterError("no answer")

    monkeypatch.setattr(watch, "check_alive", ask)
    monkeypatch.setattr(watch, "POLL_S", 0.01)
    monkeypatch.setattr(watch, "SILENCE_S", 0.2)
    return answers


async def work_for_ever() -> None:
    async with watched("10.0.0.1:6379"):
        await asyncio.Event().wait()


def test_a_head_that_dies(head: list[bool]) -> None:
    head[:] = [True, True, False]
    with pytest.raises(ClusterError, match=r"the Ray head at 10\.0\.0\.1:6379 has been silent for 0\.2 s .* resume="):
        asyncio.run(asyncio.wait_for(work_for_ever(), 60))


def test_a_short_silence_is_no_death(head: list[bool]) -> None:
    head[:] = [False, False, True, False, True]

    async def work() -> str:
        async with watched("10.0.0.1:6379"):
            while len(head) > 1:
                await asyncio.sleep(0)
            return "done"

    assert asyncio.run(asyncio.wait_for(work(), 60)) == "done"


def test_who_cancels_the_run_is_told_so(head: list[bool]) -> None:
    head[:] = [True]

    async def cancelled() -> None:
        task = asyncio.create_task(work_for_ever())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
