"""What a stream of completions leaves behind, with sources that stand for Ray's generators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from rft.sampling.engine import Request, SamplingOptions
from rft.sampling.engines import SamplerHandle
from rft.sampling.failures import cause
from rft.sampling.stream import RolloutStream, Unfinished
from rft.types import Rollout
from rft.waiting import current_wait


class FakeOwner:
    """One sampler, which hands over these completions and does not end, as when it is killed meanwhile."""

    def __init__(self, rollouts: list[Rollout]) -> None:
        self._rollouts = rollouts
        self.num_aborts = 0

    def assign(self, stream: RolloutStream) -> None:
        requests, stream.unassigned, stream.policy = stream.unassigned, [], self._rollouts[0].policy
        stream.send(SamplerHandle("sampler 0", None), requests, self._messages(), self._abort)

    def _abort(self) -> None:
        self.num_aborts += 1

    async def _messages(self) -> AsyncIterator[Awaitable[list[Rollout]]]:
        for batch in ([], self._rollouts):
            answer: asyncio.Future[list[Rollout]] = asyncio.get_running_loop().create_future()
            answer.set_result(batch)
            yield answer
        await asyncio.Event().wait()


@pytest.mark.parametrize("num_read", [0, 1, 2])
def test_a_stream_that_was_closed_has_nothing_at_work(make_rollout: Any, num_read: int) -> None:
    rollouts = [make_rollout("t", index) for index in range(2)]
    requests = [Request(task_id="t", index=index, prompt_ids=(5, 6), seed=index) for index in range(2)]
    options = SamplingOptions(temperature=1.0, max_completion_tokens=2)
    owner = FakeOwner(rollouts)

    async def job() -> None:
        stream = RolloutStream(owner, requests, options=options, ready=None, deadline_s=60)  # type: ignore[arg-type]
        assert [await anext(stream) for _ in range(num_read)] == rollouts[:num_read]
        assert not stream.is_over
        await stream.aclose()
        assert stream.is_over
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(job())
    assert owner.num_aborts == (num_read == 0), "only where completions have not arrived"


def test_equal_requests_of_a_small_step_each_get_a_completion(make_rollout: Any) -> None:
    request = Request(task_id="t", index=0, prompt_ids=(5, 6), seed=1)
    unfinished = Unfinished([request, request])
    rollout = make_rollout("t", 0)
    assert [unfinished.end(rollout) for _ in range(3)] == [True, True, False]
    assert not unfinished


@pytest.mark.parametrize(
    ("num_read", "expected"),
    [
        (1, "4 of 5 completions from sampler 0"),
        (3, "2 of 5 completions from sampler 0: task t, sampling; task u, sampling"),
    ],
)
def test_a_wait_names_the_last_missing_tasks(make_rollout: Any, num_read: int, expected: str) -> None:
    pairs = [("t", 0), ("t", 1), ("t", 2), ("t", 3), ("u", 0)]
    requests = [Request(task_id=task_id, index=index, prompt_ids=(5, 6), seed=index) for task_id, index in pairs]
    owner = FakeOwner([make_rollout("t", index) for index in range(num_read)])
    options = SamplingOptions(temperature=1.0, max_completion_tokens=2)

    async def job() -> None:
        stream = RolloutStream(owner, requests, options=options, ready=None, deadline_s=60)  # type: ignore[arg-type]
        for _ in range(num_read):
            await anext(stream)
        waiting = asyncio.create_task(anext(stream))
        for _ in range(10):
            await asyncio.sleep(0)
        wait = current_wait()
        assert wait is not None and wait.what == expected
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(job())


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
