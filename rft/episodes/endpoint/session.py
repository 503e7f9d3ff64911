"""One episode behind the endpoint: its requests, one after another, and its limits."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from rft.data.tool_calls import Schema
from rft.episodes.contract import EpisodeOver, Reply
from rft.episodes.conversation import NOTHING_WRITTEN, Conversation, Written
from rft.episodes.endpoint.answers import Answer
from rft.episodes.endpoint.asked import Asked, Refused
from rft.episodes.endpoint.cutting import cut, text_of
from rft.episodes.endpoint.history import Forked, added, digest, joined
from rft.types import Message, Rollout, Score, StopReason

BUSY = "the policy is still speaking, and a conversation has one turn at a time"


class Session:
    """The requests of one episode.

    Args:
        conversation: The policy's side of the episode.
        url: Address of the episode, without a slash at the end.
        tokenizer: The policy's.
    """

    def __init__(self, conversation: Conversation, url: str, tokenizer: Any) -> None:
        self.conversation = conversation
        self.base_url = f"{url}/v1"
        """What an OpenAI client needs as its `base_url`."""
        self.reward_url = f"{url}/reward"
        """Where an agent may post the reward of its episode."""
        self.api_key = secrets.token_urlsafe(32)
        """The key that every request must send."""
        self.tokenizer = tokenizer
        """The policy's tokenizer."""
        self.posted: Score | None = None
        """The score that the agent has posted."""
        self.fork = ""
        """How the agent has rewritten its history; empty if it has not."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception if the policy could not be sampled."""
        self.limit = ""
        """The limit that the episode has reached, in words; empty if it has not."""
        self.counts: Counter[str] = Counter()
        """Requests by what became of them, and ignored parameters."""
        self.has_ended = False
        """Whether the episode is over, so that no request gets a turn any more."""
        self._answers: dict[str, Answer] = {}
        self._turn: tuple[str, asyncio.Task[Answer]] | None = None
        self._said: tuple[str, ...] = ()
        self._tools: tuple[Schema, ...] = ()
        self._waited_s = 0.0
        self._since: float | None = None

    @property
    def address(self) -> dict[str, str]:
        """What an agent in an environment needs to know."""
        return {"base_url": self.base_url, "api_key": self.api_key}

    @property
    def waited_s(self) -> float:
        """Seconds in which the agent waited for the policy."""
        return self._waited_s + (0.0 if self._since is None else time.monotonic() - self._since)

    async def say(self, messages: Sequence[Message], tools: Sequence[Schema] | None = None) -> Reply:
        """Sample the next turn for an environment in rft's own process, like `Conversation.say`.

        Raises:
            RuntimeError: A request is being answered.
        """
        if self._turn is not None:
            raise ValueError(BUSY)
        self._said = ()
        return await self.conversation.say(messages, tools)

    def reward(self, value: float) -> None:
        """Reward the last turn of the policy, like `Conversation.reward`."""
        self.conversation.reward(value)

    @property
    def rewarded(self) -> float | None:
        """Sum of the rewards by turn; None if there are none."""
        return self.conversation.rewarded

    async def ask(self, asked: Asked, *, is_retry: bool) -> Answer:
        """Return the turn that a request asks for; a repeated request gets the same turn.

        Args:
            asked: The request.
            is_retry: Whether the client says that it has sent the request before.

        Raises:
            Refused: The episode is over, it is at a limit, the agent has rewritten its history, or the messages cannot
                be rendered.
            RftError: The turn could not be sampled.
        """
        self._require_open()
        self.counts.update(f"ignored {name}" for name in asked.ignored)
        key = digest(asked.messages, asked.tools)
        answer = self._answers.get(key)
        if self._turn is not None and self._turn[0] == key:
            self.counts["joined"] += 1
        elif answer is not None and (is_retry or not answer.is_delivered):
            self.counts["replayed"] += 1
            return answer
        else:
            self._begin(asked, key)
        assert self._turn is not None
        _, turn = self._turn
        try:
            return await asyncio.shield(turn)
        except asyncio.CancelledError:
            if turn.cancelled():
                self._require_open()
            raise

    def _require_open(self) -> None:
        if self.has_ended:
            raise Refused(410, "episode_over", "the episode is over")
        if self.fork:
            raise Refused(400, "history_rewritten", self.fork)
        if self.limit:
            raise Refused(400, "limit", self.limit)

    def _begin(self, asked: Asked, key: str) -> None:
        """Start the turn, in a task that a client cannot cancel."""
        try:
            if self._turn is not None:
                raise Forked(f"it sends a second request while {BUSY}")
            written, news = self._added(asked)
        except Forked as fork:
            self.conversation.over = StopReason.FORK
            self.fork = f"the agent has rewritten its history: {fork}"
            raise Refused(400, "history_rewritten", self.fork) from fork
        self._turn = (key, asyncio.create_task(self._sample(asked, key, written, news), name="turn of an agent"))

    def _added(self, asked: Asked) -> tuple[Written, list[Message]]:
        transcript = self.conversation.transcript
        if transcript is None:
            self._tools = asked.tools
            return NOTHING_WRITTEN, list(asked.messages)
        if list(asked.tools) != list(self._tools):
            raise Forked("its tools have changed")
        recorded = joined([*self.conversation.prompt, *(each for turn in transcript.turns for each in turn.messages)])
        return added(recorded, asked.messages, said=self._said)

    async def _sample(self, asked: Asked, key: str, written: Written, news: Sequence[Message]) -> Answer:
        self._since = time.monotonic()
        limits = partial(cut, max_tokens=asked.max_tokens, stop=asked.stop, tokenizer=self.tokenizer)
        is_first = self.conversation.transcript is None
        try:
            tools = asked.tools if is_first and asked.tools else None
            await self.conversation.say(news, tools, is_whole=is_first, written=written, cut=limits)
        except EpisodeOver as over:
            self.limit = str(over)
            raise Refused(400, "limit", self.limit) from over
        except ValueError as refusal:
            raise Refused(400, "invalid_request", str(refusal)) from refusal
        except Exception as error:  # the step fails with it
            if not self.failed.done():
                self.failed.set_exception(error)
            raise
        finally:
            self._waited_s, self._since, self._turn = self.waited_s, None, None
        return self._answered(asked, key)

    def _answered(self, asked: Asked, key: str) -> Answer:
        transcript = self.conversation.transcript
        assert transcript is not None and transcript.last is not None
        self._said = self._readings(transcript.last, asked.stop)
        [message] = transcript.turns[-1].messages
        answer = Answer(rollout=transcript.last, message=message, number=transcript.num_policy_turns - 1)
        self._answers[key] = answer
        self.counts["turns"] += 1
        return answer

    def _readings(self, rollout: Rollout, stop: Sequence[str]) -> tuple[str, ...]:
        """Return how an agent may read a turn that a text of `stop` ended, from the longest; none for other turns."""
        whole = text_of(rollout.completion_ids, self.tokenizer)
        if whole == rollout.text or rollout.stop is not StopReason.STOP:
            return ()
        stops = [each for each in stop if whole[len(rollout.text) :].startswith(each)]
        return (whole, *(rollout.text + each for each in sorted(stops, key=len, reverse=True)), rollout.text)

    def end(self) -> None:
        """End the episode: cancel its turn, and refuse further requests."""
        self.has_ended = True
        if self._turn is not None:
            self._turn[1].cancel()
        if not self.failed.done():
            self.failed.cancel()
