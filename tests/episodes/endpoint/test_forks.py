"""Requests that come twice, at once, or with another history."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from rft.types import Score, Status, StopReason

from .conftest import END, POLICY, Episode, says

FAULT = Score(value=None, status=Status.ENVIRONMENT_ERROR, reason="forked")


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (("Write a title",), r"it begins another conversation, with user: 'Write a title'"),
        (("1 + 1",), "it asks once more for its last turn"),
        (("1 + 1", says("17"), "higher"), r"message 2 is now assistant: '17', but the policy said assistant: '16'"),
        (("1 + 1", says("16 and more"), "higher"), "message 2 is now assistant: '16 and more'"),
        (("1 + 1", says("16"), says("8"), "higher"), "message 3 is the assistant's, but the policy never said it"),
    ],
)
def test_a_history_that_is_rewritten(play: Any, second: tuple[Any, ...], reason: str) -> None:
    async def agent(episode: Episode) -> None:
        await episode.ask("1 + 1")
        with pytest.raises(openai.BadRequestError, match=reason) as caught:
            await episode.ask(*second)
        assert caught.value.code == "history_rewritten"
        # What was the conversation cannot go on either: the agent has seen an answer that nobody gave.
        with pytest.raises(openai.BadRequestError, match="rewritten its history"):
            await episode.ask("1 + 1", says("16"), "higher")
        rollout = episode.conversation.rollout(0, FAULT, policy=POLICY, filler=END)
        assert rollout.stop is StopReason.FORK

    play(agent, "16", "8")


def test_a_return_to_an_earlier_turn(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        await episode.ask("1 + 1")
        await episode.ask("1 + 1", says("16"), "higher")
        with pytest.raises(openai.BadRequestError, match="message 3 is now user: 'lower', but it was user: 'higher'"):
            await episode.ask("1 + 1", says("16"), "lower")

    play(agent, "16", "8")


def test_a_retry_gets_the_same_turn(play: Any) -> None:
    """rllm-org/rllm#707: a client that sends again resets the tokens, and splits the episode."""

    async def agent(episode: Episode) -> None:
        first = await episode.ask("1 + 1")
        again = await episode.ask("1 + 1", retries=1)
        assert again.to_dict() == first.to_dict()
        await episode.ask("1 + 1", says("16"), "higher", retries=1)  # its first attempt was lost on the way
        assert (await episode.ask("1 + 1", retries=2)).to_dict() == first.to_dict()
        assert episode.session.counts == {"turns": 2, "replayed": 2}
        assert len(episode.policy.requests) == 2

    play(agent, "16", "8")


def test_a_retry_joins_a_turn_under_way(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        episode.policy.may_answer.clear()
        first = asyncio.create_task(episode.ask("1 + 1"))
        while not episode.policy.requests:
            await asyncio.sleep(0)
        second = asyncio.create_task(episode.ask("1 + 1", retries=1))
        while not episode.session.counts["joined"]:
            await asyncio.sleep(0)
        episode.policy.may_answer.set()
        assert (await first).to_dict() == (await second).to_dict()
        assert len(episode.policy.requests) == 1

    play(agent, "16")


def test_two_calls_at_once(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        episode.policy.may_answer.clear()
        first = asyncio.create_task(episode.ask("1 + 1"))
        while not episode.policy.requests:
            await asyncio.sleep(0)
        with pytest.raises(openai.BadRequestError, match="a second request while the policy is still speaking"):
            await episode.ask("2 + 2")
        episode.policy.may_answer.set()
        assert (await first).choices[0].message.content == "16"
        assert episode.session.fork

    play(agent, "16")


def test_the_end_of_an_episode_ends_its_turn(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        episode.policy.may_answer.clear()
        first = asyncio.create_task(episode.ask("1 + 1"))
        while not episode.policy.requests:
            await asyncio.sleep(0)
        episode.session.end()
        with pytest.raises(openai.APIStatusError) as caught:
            await first
        assert caught.value.status_code == 410

    play(agent, "16")
