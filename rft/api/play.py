"""`rft play`: one episode of an environment, in this process and without Ray."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft.config import EvaluateConfig
from rft.config.environment import SCORE, plays_episodes
from rft.config.mixture import graders_by_family
from rft.data.tool_calls import Schema
from rft.episodes.attempt import Ending
from rft.episodes.contract import EpisodeOver, Reply
from rft.episodes.conversation import Conversation
from rft.episodes.process import LOG
from rft.episodes.tools.play import NO_SCORE
from rft.errors import ConfigError
from rft.grading.panel import Panel
from rft.imports import require_packages
from rft.run.base_models.measured_adapter import with_base_model
from rft.run.inputs.prepare import Prepared, read_inputs, render_prompts
from rft.run.local_engine import open_local_engine
from rft.run.playing.episodes import episode_rules, player_of_run
from rft.sampling.engine import Engine, Request, SamplingOptions, sample_all
from rft.types import Grade, Message, Policy, Rollout, Task

HERE = ("vllm", "transformers", "fake")
"""Samplers whose engine runs in this process."""

Show = Callable[[str, str], None]
"""Receives the author of a message and its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """An episode that was played, with its scores.

    Example:
        Played(episode=Rollout(...), grade=Grade(scores={"correct": Score(value=1.0)}, reward=1.0))
    """

    episode: Rollout
    """The episode, with the environment's score."""
    grade: Grade | None
    """The scores of the graders; None if the environment failed, so that there is nothing to grade."""

    @property
    def has_failed(self) -> bool:
        """Whether the environment or a grader failed."""
        return self.grade is None or any(score.status.is_grader_fault for score in self.grade.scores.values())


def play(config: EvaluateConfig, show: Show) -> Played:
    """Play an episode with the first task of `data.test`, show it turn by turn, and grade it.

    Args:
        config: A checked configuration with an environment.
        show: Receives every message as it is said.

    Returns:
        The episode and its scores. A fault of the environment or of a grader is shown, and not raised.

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


async def _play(config: EvaluateConfig, prepared: Prepared, engine: Engine, show: Show) -> Played:
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
    with tempfile.TemporaryDirectory() as folder:
        output = _Output(Path(folder) / LOG, task, show)
        player = player_of_run(config, prepared, log=output.file if config.environment.command is None else None)

        def begin() -> ShownConversation:
            identity = (config.seed, "play", 0, task.id, 0)
            return ShownConversation(
                task, 0, seed_parts=identity, rules=rules, sample=sample, show=show, before=output.show_new
            )

        try:
            ending, conversation = await player.play(task, config.seed, begin)
        finally:
            await player.close()
            output.show_new()
    policy: Policy = engine.policies[-1]
    episode = conversation.rollout(0, ending.score, policy=policy, filler=min(prepared.end_ids))
    if ending.score.status.is_grader_fault:
        _show_fault(config, ending, show)
        return Played(episode=episode, grade=None)
    grade = await _graded(config, prepared, task, episode)
    _show_scores(config, prepared, ending, grade, show)
    return Played(episode=episode, grade=grade)


async def _graded(config: EvaluateConfig, prepared: Prepared, task: Task, episode: Rollout) -> Grade:
    panel = Panel(
        prepared.graders,
        max_fault_share=1.0,
        num_workers=1,
        worker_memory_mb=config.grading.worker_memory_mb,
        families=graders_by_family(config.data),
    )

    async def stream() -> AsyncIterator[Rollout]:
        yield episode

    try:
        [group] = await panel.grade([task], stream(), rollouts_per_task=1)
        return group.grades[0]
    finally:
        panel.close()


class _Output:
    """What an environment prints, shown as it comes."""

    def __init__(self, file: Path, task: Task, show: Show) -> None:
        self.file = file
        self._traceback = f"task {task.id}:\nTraceback"
        self._show = show
        self._num_shown = 0

    def show_new(self) -> None:
        """Show what was printed since the last call. The traceback of a fault is shown at the end of the episode."""
        if not self.file.is_file():
            return
        new = self.file.read_bytes()[self._num_shown :]
        self._num_shown += len(new)
        if text := new.decode(errors="replace").partition(self._traceback)[0].rstrip():
            self._show("output", text)


class ShownConversation(Conversation):
    """A conversation that shows every message.

    Args:
        task: The task; the messages of its prompt are shown first.
        show: Receives the messages.
        before: Called before the messages of each turn are shown.
        options: Further arguments of `Conversation`.
    """

    def __init__(self, task: Task, number: int, *, show: Show, before: Callable[[], None], **options: object) -> None:
        super().__init__(task, number, **options)  # type: ignore[arg-type]
        self._show = show
        self._before = before
        self._shown_prompt = list(task.messages)

    async def say(self, messages: Sequence[Message], tools: Sequence[Schema] | None = None, **options: Any) -> Reply:
        """Show the messages and the reply, like `Conversation.say`."""
        self._before()
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


def _show_fault(config: EvaluateConfig, ending: Ending, show: Show) -> None:
    show("fault", ending.score.reason or ending.score.status.value)
    if ending.traceback:
        show("traceback" if config.environment.command is None else "output", ending.traceback.rstrip())


def _show_scores(config: EvaluateConfig, prepared: Prepared, ending: Ending, grade: Grade, show: Show) -> None:
    """Show the environment's score, if it may give one, and those of the graders."""
    graders = {name: score for name, score in grade.scores.items() if name != SCORE}
    has_score = prepared.environment is not None and prepared.environment.has_score
    if has_score or not graders:
        show("score", "none" if ending.score.value is None else f"{ending.score.value:g}")
    if not has_score and not graders:
        show(
            "reason",
            "tools give no score; set graders of the final answer, such as graders.correct.use=exact, or give a class "
            "of tools a method get_reward",
        )
    elif ending.score.reason not in (None, NO_SCORE):
        show("reason", ending.score.reason)
    for name, score in graders.items():
        worth = f"{score.status}" if score.value is None else f"{score.value:g}"
        show("grader", f"{name}: {worth}{f' ({score.reason})' if score.reason else ''}")
    if graders:
        show("reward", "none" if grade.reward is None else f"{grade.reward:g}")
