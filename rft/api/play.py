"""`rft play`: one episode of an environment, in this process and without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from rft.config import EvaluateConfig
from rft.config.environment import SCORE, plays_episodes
from rft.data.tool_calls import Schema
from rft.episodes.contract import EpisodeOver, Reply
from rft.episodes.conversation import Conversation
from rft.episodes.workers import Ending
from rft.errors import ConfigError
from rft.imports import require_packages
from rft.run.episodes import episode_rules, player_of_run
from rft.run.inputs import Prepared, read_inputs, render_prompts
from rft.run.local_engine import open_local_engine
from rft.run.measured_adapter import with_base_model
from rft.sampling.engine import Engine, Request, SamplingOptions, sample_all
from rft.types import Message, Policy, Rollout, Task

HERE = ("vllm", "transformers", "fake")
"""Samplers whose engine runs in this process."""

Show = Callable[[str, str], None]
"""Receives the author of a message and its text."""


def play(config: EvaluateConfig, show: Show) -> Rollout:
    """Play an episode with the first task of `data.test`, and show it turn by turn.

    Args:
        config: A checked configuration with an environment.
        show: Receives every message as it is said.

    Returns:
        The episode, with the environment's score.

    Raises:
        ConfigError: The configuration has no environment, or a sampler that runs elsewhere.
        UsageError: With everything that is wrong with the model, the tasks and the environment.
        RftError: The engine failed.
    """
    problems = []
    if not plays_episodes(config):
        problems.append(
            "environment.use is missing: the environment to play, such as my_env.py:guess; or an agent as "
            "environment.command, or tools"
        )
    if config.sampler.kind not in HERE:
        problems.append(f"sampler={config.sampler.kind}: rft play samples in this process; use sampler=vllm")
    if problems:
        raise ConfigError("configuration", problems)
    require_packages("rft play", *config.sampler.libraries)
    config, adapter = with_base_model(config)
    if config.tools:  # an episode is shown even if nothing would reward it
        config = config.model_copy(update={"graders": {**config.graders, SCORE: {"use": SCORE, "weight": 0.0}}})
    prepared = render_prompts(read_inputs(config, needs_training_tasks=False, adapter=adapter))
    engine = open_local_engine(config.sampler.kind, prepared.model, adapter, seed=config.seed, num_completions=1)
    return asyncio.run(_play(config, prepared, engine, show))


async def _play(config: EvaluateConfig, prepared: Prepared, engine: Engine, show: Show) -> Rollout:
    options = SamplingOptions(
        temperature=config.evaluation.temperature,
        max_completion_tokens=config.sampler.max_completion_tokens,
        stop=config.sampler.stop_strings,
    )
    rules = episode_rules(config, prepared)

    async def sample(request: Request) -> Rollout:
        [rollout] = await asyncio.to_thread(sample_all, engine, [request], options)
        return rollout

    task = prepared.tasks.test[0]
    player = player_of_run(config, prepared)

    def begin() -> ShownConversation:
        identity = (config.seed, "play", 0, task.id, 0)
        return ShownConversation(task, 0, seed_parts=identity, rules=rules, sample=sample, show=show)

    try:
        ending, conversation = await player.play(task, config.seed, begin)
    finally:
        await player.close()
    _show_end(ending, show)
    policy: Policy = engine.policies[-1]
    return conversation.rollout(0, ending.score, policy=policy, filler=min(prepared.end_ids))


class ShownConversation(Conversation):
    """A conversation that shows every message.

    Args:
        task: The task; the messages of its prompt are shown first.
        show: Receives the messages.
        options: Further arguments of `Conversation`.
    """

    def __init__(self, task: Task, number: int, *, show: Show, **options: object) -> None:
        super().__init__(task, number, **options)  # type: ignore[arg-type]
        self._show = show
        self._shown_prompt = list(task.messages)

    async def say(self, messages: Sequence[Message], tools: Sequence[Schema] | None = None, **options: Any) -> Reply:
        """Show the messages and the reply, like `Conversation.say`."""
        for message in (*([] if options.get("is_whole") else self._shown_prompt), *messages):
            self._show(str(message["role"]), str(message["content"]))
        self._shown_prompt = []
        try:
            reply = await super().say(messages, tools, **options)
        except EpisodeOver as over:
            self._show("limit", str(over))
            raise
        self._show("policy", reply.text if reply.stop == "stop" else f"{reply.text}  (cut)")
        for call in reply.calls:
            arguments = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
            self._show(
                "call",
                (call.problem and f"{call.name}: {call.written}  ({call.problem})") or f"{call.name}({arguments})",
            )
        return reply


def _show_end(ending: Ending, show: Show) -> None:
    score = ending.score
    show("score", "none" if score.value is None else f"{score.value:g}")
    if score.reason:
        show("reason", score.reason)
    if ending.traceback:
        show("traceback", ending.traceback.rstrip())
