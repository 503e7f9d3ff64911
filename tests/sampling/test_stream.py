"""What a stream of completions leaves behind, with sources that stand for Ray's generators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from rft.sampling.stream import Dispatch, RolloutStream, cause
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


class Context(BaseModel):
    """Checked as vLLM checks its arguments."""

    tokens: int

    @field_validator("tokens")
    @classmethod
    def at_most_320(cls, value: int) -> int:
        if value > 320:
            raise ValueError(f"the context of {value} tokens is longer than 320")
        return value


def test_the_cause_is_what_pydantic_found_and_not_its_link() -> None:
    with pytest.raises(ValidationError) as caught:
        Context(tokens=1000)
    story = f"ray::SamplerActor.start()\n  File ..., line 3\npydantic_core.ValidationError: {caught.value}"
    assert cause(story) == "Value error, the context of 1000 tokens is longer than 320"
    assert cause("Traceback:\nValueError: no such thing [type=3]") == "ValueError: no such thing [type=3]"
