"""What a stream of completions leaves behind, with sources that stand for Ray's generators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from rft.sampling.stream import Dispatch, RolloutStream
from rft.types import Rollout


async def never_ending(batches: list[list[Rollout]]) -> AsyncIterator[Awaitable[list[Rollout]]]:
    """An actor that has handed everything over and does not end, as when it is killed meanwhile."""
    for batch in ([], *batches):
        answer: asyncio.Future[list[Rollout]] = asyncio.get_running_loop().create_future()
        answer.set_result(batch)
        yield answer
    await asyncio.Event().wait()


@pytest.mark.parametrize("num_read", [0, 1, 2])
def test_a_stream_that_was_closed_has_nothing_at_work(make_rollout: Any, num_read: int) -> None:
    rollouts = [make_rollout("t", index) for index in range(2)]
    gave_up = []

    async def job() -> None:
        dispatch = Dispatch(
            rollouts[0].policy, [("sampler 0", never_ending([rollouts]))], lambda: gave_up.append("given up")
        )
        stream = RolloutStream(lambda: dispatch, after=None, total=2, deadline_s=60)
        assert [await anext(stream) for _ in range(num_read)] == rollouts[:num_read]
        assert not stream.is_over
        await stream.aclose()
        assert stream.is_over
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(job())
    assert len(gave_up) == (num_read < 2), "an actor is told only where something is missing"
