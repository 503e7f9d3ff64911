"""The policy's side of one episode: renders what the environment says, and samples the policy's turns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rft.data.continuation import Continuation
from rft.data.rendering import Renderer, TemplateRefusal
from rft.data.tool_calls import CallParser, ParsedTurn, Schema, ToolCall, require_declared
from rft.data.tool_results import cut_middle
from rft.episodes.contract import EpisodeOver, Reply
from rft.episodes.transcript import Transcript
from rft.sampling.engine import Request, request_seed
from rft.turns import PASSAGES, without_passages
from rft.types import Message, Policy, Rollout, Score, Status, StopReason, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """How a model calls tools.

    Example:
        Tools(parser=parser, tokenizer=tokenizer, schemas=({"type": "function", "function": {"name": "add", ...}},))
    """

    parser: CallParser
    """Reads the calls of a turn."""
    tokenizer: Any
    """Counts the tokens of results."""
    schemas: tuple[Schema, ...] = ()
    """The tools of every episode; empty if an episode brings its own."""
    has_parallel: bool = True
    """Whether the chat template takes several calls in one turn."""
    max_result_tokens: Mapping[str, int] = field(default_factory=dict)
    """Longest result of each tool, in tokens; a longer one loses its middle. Without limit for other tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What all episodes of a run have in common.

    Example:
        Rules(renderer=renderer, continuation=continuation, max_turns=5, max_completion_tokens=64, context_tokens=320)
    """

    renderer: Renderer
    """Renders the prompt of an episode."""
    continuation: Continuation
    """Renders what follows a turn of the policy."""
    max_turns: int
    """Turns of the policy in an episode."""
    max_completion_tokens: int
    """Longest turn of the policy."""
    context_tokens: int
    """Longest episode, with its prompt."""
    tools: Tools | None = None
    """How the model calls tools; None reads no calls."""


@dataclass(frozen=True, slots=True)
class Written:
    """What an agent has written into the policy's last turn, which has no end token.

    Example:
        Written(text="</code> ran", new=" ran")
    """

    text: str = ""
    """Everything after the turn's own text."""
    new: str = ""
    """The part of it that is not among the turn's tokens."""


NOTHING_WRITTEN = Written()


class Conversation:
    """One episode. Its tokens grow turn by turn; nothing that was sampled is rendered again.

    Args:
        task: The task.
        number: Number of the episode in its stream.
        seed_parts: Identity of the episode. The first turn has the seed of a completion with this identity.
        rules: The limits and the renderers.
        sample: Samples one turn.
    """

    def __init__(
        self,
        task: Task,
        number: int,
        *,
        seed_parts: Sequence[object],
        rules: Rules,
        sample: Callable[[Request], Awaitable[Rollout]],
    ) -> None:
        self.transcript: Transcript | None = None
        """The tokens; None before the first turn."""
        self.over: StopReason | None = None
        """The limit that the episode has reached; None without one."""
        self._task = task
        self._number = number
        self._calls: tuple[ToolCall, ...] = ()
        self._schemas: Sequence[Schema] = rules.tools.schemas if rules.tools else ()
        self._seed_parts = tuple(seed_parts)
        self._rules = rules
        self._sample = sample

    @property
    def stop(self) -> StopReason:
        """Reason for the end of the episode."""
        if self.over is not None:
            return self.over
        was_cut = self.transcript and self.transcript.last and self.transcript.last.stop is not StopReason.STOP
        return StopReason.LENGTH if was_cut else StopReason.STOP

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages of the task that precede everything that is said."""
        return self._task.messages

    async def say(
        self,
        messages: Sequence[Message],
        tools: Sequence[Schema] | None = None,
        *,
        is_whole: bool = False,
        written: Written = NOTHING_WRITTEN,
        cut: Callable[[Rollout], Rollout] | None = None,
    ) -> Reply:
        """Sample the next turn after these messages.

        Args:
            messages: What the policy has not heard yet.
            tools: The episode's own tools, with the first messages; None keeps those of the run.
            is_whole: Whether the messages replace the prompt of the task; only before the first turn.
            written: What precedes the messages in the policy's own turn.
            cut: Returns the beginning of the sampled turn that the episode keeps; None keeps it whole.

        Raises:
            EpisodeOver: A limit is reached: the number of turns, the context, or the length of the last turn. Also if
                the turn calls tools, and no room is left to tell their results.
            RftError: The turn could not be sampled.
            ValueError: The messages cannot be rendered, there is nothing to answer, or tools come too late.
        """
        if is_whole:
            self._task = replace(self._task, messages=())
        if self.transcript is None:
            self._bring(tools)
            ids, turn = self._prompt(messages), 0
            given: tuple[int, ...] = ()
        else:
            if tools is not None:
                raise ValueError("the tools of an episode come with its first messages")
            ids, turn = self.transcript.ids, self.transcript.num_policy_turns
            messages = [self._shortened(message) for message in messages]
            given = self._given(list(map(without_passages, messages)), self.transcript, written.new)
        self._require_room(len(ids) + len(given))
        # The first turn is that of a single completion, bit for bit.
        seed = request_seed(*self._seed_parts, *([turn] if turn else []))
        request = Request(task_id=self._task.id, index=self._number, prompt_ids=(*ids, *given), seed=seed)
        rollout = await self._sample(request)
        rollout = cut(rollout) if cut else rollout
        if self.transcript is None:
            self.transcript = Transcript(ids, rollout.policy, messages)
        elif given:
            before: list[Message] = [{"role": "assistant", "content": written.text}] if written.text else []
            self.transcript.add_given(given, [*before, *messages])
        parsed = self._parsed(rollout, given or ids, turn)
        self._calls = parsed.calls if parsed else ()
        self.transcript.add_sampled(rollout, parsed.as_message() if parsed and parsed.calls else None)
        if self._calls:
            self._require_room(len(self.transcript.ids))
        return Reply(text=rollout.text, stop=rollout.stop.value, calls=self._calls)

    def _bring(self, tools: Sequence[Schema] | None) -> None:
        """Take the episode's own tools."""
        if tools is None:
            return
        if self._rules.tools is None:
            raise ValueError("the run reads no tool calls")
        require_declared(tools)
        self._schemas = [dict(tool) for tool in tools]

    def _require_room(self, num_tokens: int) -> None:
        """Raise EpisodeOver if the context has no room for another turn after these tokens."""
        rules = self._rules
        if num_tokens + rules.max_completion_tokens > rules.context_tokens:
            room = f"{rules.max_completion_tokens} tokens after {num_tokens} of {rules.context_tokens}"
            raise self._end(StopReason.CONTEXT, f"the context has no room for another turn: {room}")

    def _parsed(self, rollout: Rollout, prefix: Sequence[int], turn: int) -> ParsedTurn | None:
        """Return what a turn says and calls; None without tools, and for a turn that was cut."""
        tools = self._rules.tools
        if tools is None or not self._schemas or rollout.stop is not StopReason.STOP:
            return None
        parsed = tools.parser.parse(rollout.completion_ids, prefix=prefix, tools=self._schemas, turn=turn)
        if len(parsed.calls) < 2 or tools.has_parallel:
            return parsed
        problem = f"{len(parsed.calls)} calls in one turn; the model's chat template takes one"
        return replace(parsed, calls=(replace(parsed.calls[0], problem=problem),))

    def _shortened(self, message: Message) -> Message:
        """Return a message; the result of a tool at most as long as its limit, with the passages that are whole."""
        tools = self._rules.tools
        limit = tools.max_result_tokens.get(str(message.get("name"))) if tools else None
        if tools is None or limit is None or message["role"] != "tool":
            return message
        content = cut_middle(str(message["content"]), limit, tools.tokenizer)
        if PASSAGES not in message:
            return {**message, "content": content}
        whole = [passage for passage in message[PASSAGES] if passage["text"] in content]
        return {**message, "content": content, PASSAGES: whole}

    @property
    def rewarded(self) -> float | None:
        """Sum of the rewards by turn; None if the environment gave none."""
        return None if self.transcript is None else self.transcript.rewarded

    def reward(self, value: float) -> None:
        """Reward the last turn of the policy.

        Raises:
            ValueError: The policy has had no turn.
        """
        if self.transcript is None:
            raise ValueError("a reward needs a turn of the policy before it")
        self.transcript.add_reward(value)

    def _prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        chat = (*self._task.messages, *messages)
        if not any(message["role"] != "system" for message in chat):
            raise ValueError("there is nothing to answer: say something to the policy, or give the row a prompt")
        try:
            return self._rules.renderer.render(replace(self._task, messages=chat), self._schemas or None)
        except TemplateRefusal as refusal:
            raise ValueError(refusal.why) from refusal

    def _given(self, messages: Sequence[Message], transcript: Transcript, written: str) -> tuple[int, ...]:
        """Return the tokens between the last turn and the next one."""
        assert transcript.last is not None
        if transcript.last.stop is not StopReason.STOP:
            limit = f"sampler.max_completion_tokens={self._rules.max_completion_tokens}"
            raise self._end(StopReason.LENGTH, f"the policy's turn was cut at {limit}")
        if transcript.num_policy_turns >= self._rules.max_turns:
            raise self._end(StopReason.TURNS, f"environment.max_turns={self._rules.max_turns}")
        if not messages:
            raise ValueError("say something to the policy after its turn")
        calls = self._calls if any(message["role"] == "tool" for message in messages) else ()
        between = self._rules.continuation.between(messages, calls=calls, tools=list(self._schemas) or None)
        new = tuple(self._rules.renderer.plain(written)) if written else ()
        return new + between.after((*transcript.last.completion_ids, *new))

    def _end(self, stop: StopReason, reason: str) -> EpisodeOver:
        self.over = stop
        return EpisodeOver(reason)

    def rollout(self, index: int, environment: Score, *, policy: Policy, filler: int) -> Rollout:
        """Return the episode as one completion.

        Args:
            index: Position in its group.
            environment: The environment's score.
            policy: The policy of the stream, for an episode without a turn.
            filler: Token of an episode without a turn.
        """
        has_failed = environment.status is Status.ENVIRONMENT_ERROR
        transcript = self.transcript or Transcript((filler,), policy)
        stop = StopReason.ABORT if has_failed and self.over is not StopReason.FORK else self.stop
        return transcript.rollout(self._task.id, index, stop=stop, environment=environment, filler=filler)
