"""The tokens of one episode, which only grow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from rft.turns import Author, Turn
from rft.types import Message, Policy, Rollout, Score, StopReason


class Transcript:
    """The tokens of an episode: the prompt, and after it turns of the policy and of the environment.

    Args:
        prompt_ids: `[P]` tokens of the prompt.
        policy: The policy of all turns.
        opening: Messages of the environment in the prompt. They become a first turn without tokens.
    """

    def __init__(self, prompt_ids: Sequence[int], policy: Policy, opening: Sequence[Message] = ()) -> None:
        self.prompt_ids = tuple(prompt_ids)
        self.policy = policy
        self.turns: list[Turn] = []
        self.last: Rollout | None = None
        """The last turn of the policy; None before the first one."""
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        if opening:
            self.add_given((), opening)

    @property
    def ids(self) -> tuple[int, ...]:
        """All tokens: what the policy continues."""
        return (*self.prompt_ids, *self._ids)

    @property
    def num_policy_turns(self) -> int:
        """Number of turns of the policy."""
        return sum(turn.author is Author.POLICY for turn in self.turns)

    def add_sampled(self, rollout: Rollout, message: Message | None = None) -> None:
        """Append a turn of the policy, token by token as the engine sampled it.

        Args:
            rollout: The turn.
            message: The turn as a message; None takes its text.

        Raises:
            ValueError: The engine continued other tokens, or another policy sampled the turn.
        """
        if rollout.prompt_ids != self.ids or rollout.policy != self.policy:
            raise ValueError("a turn does not continue the tokens of its episode under its policy")
        self.last = rollout
        said = {"role": "assistant", "content": rollout.text} if message is None else message
        self._add(Author.POLICY, rollout.completion_ids, rollout.logprobs, (said,))

    def add_given(self, ids: Sequence[int], messages: Sequence[Message]) -> None:
        """Append tokens that the policy did not sample."""
        self._add(Author.ENVIRONMENT, ids, (0.0,) * len(ids), messages)

    @property
    def rewarded(self) -> float | None:
        """Sum of the rewards of the turns; None if the environment gave none."""
        rewards = [turn.reward for turn in self.turns if turn.reward is not None]
        return math.fsum(rewards) if rewards else None

    def add_reward(self, reward: float) -> None:
        """Add to the reward of the policy's last turn.

        Raises:
            ValueError: The policy has had no turn.
        """
        place = max((place for place, turn in enumerate(self.turns) if turn.author is Author.POLICY), default=None)
        if place is None:
            raise ValueError("a reward needs a turn of the policy before it")
        self.turns[place] = replace(self.turns[place], reward=(self.turns[place].reward or 0.0) + reward)

    def _add(self, author: Author, ids: Sequence[int], logprobs: Sequence[float], messages: Sequence[Message]) -> None:
        start = len(self._ids)
        self._ids += ids
        self._logprobs += logprobs
        self.turns.append(Turn(author=author, start=start, end=len(self._ids), messages=tuple(messages)))

    def rollout(self, task_id: str, index: int, *, stop: StopReason, environment: Score, filler: int) -> Rollout:
        """Return the episode as one completion, which ends with the last sampled token.

        Args:
            task_id: `Task.id` of the task.
            index: Position in its group.
            stop: Reason for the end.
            environment: The environment's score.
            filler: Token of an episode without a token of the policy; the learner needs one, and does not train on it.
        """
        turns = list(self.turns)
        while turns and turns[-1].author is Author.ENVIRONMENT:
            turns.pop()
        length = turns[-1].end if turns else 0
        if not length:  # no turn, or only turns without a token
            turns.append(Turn(author=Author.ENVIRONMENT, start=0, end=1))
        return Rollout(
            task_id=task_id,
            index=index,
            prompt_ids=self.prompt_ids,
            completion_ids=tuple(self._ids[:length]) or (filler,),
            logprobs=tuple(self._logprobs[:length]) or (0.0,),
            text=self.last.text if self.last else "",
            stop=stop,
            policy=self.policy,
            turns=tuple(turns),
            environment=environment,
        )
