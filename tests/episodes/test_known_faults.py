"""Faults that others have reported of their own systems, each as a test.

Three of the fifteen stand with what they concern: rllm-org/rllm#707 in endpoint/test_forks.py,
modelcontextprotocol/python-sdk#577 in tools/test_mcp_session.py, huggingface/Repo2RLEnv#144 in tools/test_built_in.py.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rft.config.environment import EnvironmentConfig
from rft.data.chat_templates import shipped_template
from rft.data.continuation import Continuation
from rft.data.messages import as_messages
from rft.data.tool_calls import MarkedParser, ToolCall
from rft.episodes.contract import EpisodeOver
from rft.episodes.conversation import Conversation, Rules, Tools
from rft.episodes.workers import EnvironmentWorkers
from rft.sampling.engine import Request
from rft.types import Message, Policy, Rollout, Score, Split, Status, StopReason, Task
from tests.data.test_continuation import THEIRS, TRL, marks, renderer_for

POLICY = Policy(version=0, fingerprint="base")
FAULTS = """
trl#5224 trl#5144 verl#6501 slime#2263 SkyRL#2075 SkyRL#213 prime-rl#1334 vllm#58228 tinker-cookbook#506 rllm#707
OpenEnv#1000 slime#1861 python-sdk#577 UniRL#214 Repo2RLEnv#144
"""
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


class Episode:
    """A conversation under a template, with turns given as texts or token ids."""

    def __init__(self, template: str, turns: Sequence[str | Sequence[int]] = (), **limits: Any) -> None:
        self.renderer, self.ends = renderer_for(template)
        self.tokenizer: Any = self.renderer._tokenizer
        self.continuation = Continuation(self.renderer, self.ends)
        self.turns = list(turns)
        self.stops: list[StopReason] = limits.pop("stops", [])
        self.requests: list[Request] = []
        tools = None
        if limits.pop("has_tools", False):
            parser = MarkedParser(self.tokenizer, "<call>", "</call>")
            tools = Tools(parser=parser, tokenizer=self.tokenizer, schemas=(ADD,))
        given = {"max_turns": 5, "max_completion_tokens": 50, "context_tokens": 10_000} | limits
        rules = Rules(renderer=self.renderer, continuation=self.continuation, tools=tools, **given)
        task = Task(id="t", messages=limits.get("messages", ()), item={}, split=Split.TRAIN)
        self.it = Conversation(task, 0, seed_parts=(0,), rules=rules, sample=self._sample)

    def ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def text(self, ids: Sequence[int]) -> str:
        found: str = self.tokenizer.decode(list(ids))
        return found

    async def _sample(self, request: Request) -> Rollout:
        turn = self.turns[len(self.requests)]
        stop = self.stops[len(self.requests)] if self.stops else StopReason.STOP
        self.requests.append(request)
        ids = self.ids(turn) if isinstance(turn, str) else tuple(turn)
        return Rollout(
            task_id=request.task_id,
            index=request.index,
            prompt_ids=request.prompt_ids,
            completion_ids=ids,
            logprobs=(-0.5,) * len(ids),
            text=self.text(ids),
            stop=stop,
            policy=POLICY,
        )

    def say(self, *said: str | Message | Sequence[Message]) -> list[Any]:
        async def all_of_them() -> list[Any]:
            return [await self.it.say(as_messages(each)) for each in said]

        return asyncio.run(all_of_them())

    def between(self, number: int = 1) -> tuple[int, ...]:
        """What was given between a turn and the next one."""
        before, after = self.requests[number - 1 : number + 1]
        turn = self.turns[number - 1]
        grown = (*before.prompt_ids, *(self.ids(turn) if isinstance(turn, str) else turn))
        assert after.prompt_ids[: len(grown)] == grown
        return after.prompt_ids[len(grown) :]

    def rollout(self, score: Score | None = None) -> Rollout:
        return self.it.rollout(0, score or Score(value=1.0), policy=POLICY, filler=min(self.ends))


def chatml(*turns: str | Sequence[int], **limits: Any) -> Episode:
    return Episode(shipped_template("chatml"), turns, **limits)


def theirs(name: str) -> str:
    return (TRL / f"{name}.jinja").read_text()


def result(call: str, content: str) -> Message:
    return {"role": "tool", "tool_call_id": call, "name": "add", "content": content}


def test_1_sampled_tokens_are_not_tokenized_again() -> None:
    """huggingface/trl#5224: text is decoded and tokenized anew, so that log-probabilities belong to other tokens."""
    episode = chatml("16<|im_end|>", "8<|im_end|>")
    broken = next(token for token in range(256) if episode.text([token]) == "\ufffd")  # half a character
    episode.turns[0] = (broken, *episode.ids("<|im_end|>"))
    assert episode.ids(episode.text(episode.turns[0])) != episode.turns[0]
    episode.say("guess", "higher")
    episode.between()
    assert episode.rollout().completion_ids[:2] == episode.turns[0]


def test_2_the_mask_is_as_long_as_the_completion() -> None:
    """huggingface/trl#5144: the mask of tools is longer than the completion, and the loss crashes."""
    episode = chatml("1<|im_end|>", "2<|im_end|>", context_tokens=260)
    with pytest.raises(EpisodeOver):
        episode.say("a", "b", "word " * 60)  # what is said last has no room, and no turn follows it
    rollout = episode.rollout()
    assert len(rollout.trained) == len(rollout.completion_ids) == len(rollout.logprobs)
    assert rollout.trained[-1]


def test_3_the_separator_after_a_turn_is_kept() -> None:
    """verl-project/verl#6501: the newline after the end token, which the model does not write, is lost."""
    episode = chatml("16<|im_end|>", "8<|im_end|>")
    episode.say("guess", "higher")
    assert episode.text(episode.between()) == "\n<|im_start|>user\nhigher<|im_end|>\n<|im_start|>assistant\n"


def test_4_parallel_results_are_one_turn() -> None:
    """THUDM/slime#2263: two results become two user turns, where the template writes one."""
    episode = Episode(theirs("qwen3"))
    calls = [ToolCall(id=f"c0000000{number}", name="add") for number in (0, 1)]
    results = [result(call.id, content) for call, content in zip(calls, ("first", "second"), strict=True)]
    text = episode.text(episode.continuation.between(results, calls=calls, tools=[ADD]).opening)
    assert text.count("<|im_start|>user") == 1
    assert re.findall(r"<tool_response>\n(\w+)\n</tool_response>", text) == ["first", "second"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in THEIRS if "think" in theirs(name)])
def test_5_an_observation_keeps_its_head(name: str) -> None:
    """NovaSky-AI/SkyRL#2075: it is cut out by its expected place, which a template with thinking moves."""
    episode = Episode(theirs(name))
    said = "HEAD of what is said, and its TAIL"
    assert episode.text(episode.continuation.between(as_messages(said)).opening).count(said) == 1


def test_6_what_the_environment_says_first_is_part_of_the_prompt() -> None:
    """NovaSky-AI/SkyRL#213: messages that the environment adds to the prompt are trained."""
    episode = chatml("16<|im_end|>")
    episode.say([{"role": "system", "content": "play"}, {"role": "user", "content": "guess"}])
    rollout = episode.rollout()
    assert "play" in episode.text(rollout.prompt_ids)
    assert rollout.completion_ids == episode.ids("16<|im_end|>")
    assert all(rollout.trained)


def test_7_a_template_that_drops_thoughts_changes_no_earlier_turn() -> None:
    """PrimeIntellect-ai/prime-rl#1334 and #947: with Qwen3, the chat of a later turn does not begin as before."""
    said = "<think>\nmaybe 16\n</think>\n\n16<|im_end|>"
    episode = Episode(theirs("qwen3"), [said, "8<|im_end|>"])
    episode.say("guess", "higher")
    chat = [*as_messages("guess"), {"role": "assistant", "content": said.removesuffix("<|im_end|>")}]
    whole = episode.tokenizer.apply_chat_template([*chat, *as_messages("higher")], tokenize=False)
    assert "maybe" not in whole, "the template drops thoughts"
    assert "maybe 16" in episode.text(episode.requests[1].prompt_ids)
    episode.between()


def test_8_a_call_that_was_cut_is_not_run() -> None:
    """vllm-project/vllm#58228: a call cut by the limit of tokens is reported as a call, and executed."""
    turns = ["<call>add(1, 2)</call><|im_end|>", "<call>add(1, 2)</call> and"]
    episode = chatml(*turns, stops=[StopReason.STOP, StopReason.LENGTH], has_tools=True)
    whole, cut = episode.say("go", [result("c00000000", "3")])
    assert [call.arguments for call in whole.calls] == [{"a": 1, "b": 2}]
    assert (cut.calls, cut.stop) == ((), "length")
    assert episode.rollout().stop is StopReason.LENGTH


def test_9_a_full_context_ends_the_episode_and_no_more() -> None:
    """thinking-machines-lab/tinker-cookbook#506: it crashes the training; a cut reply is punished as a wrong call."""
    episode = chatml("<call>add(1, 2)</call><|im_end|>", has_tools=True, context_tokens=900)
    episode.say("go")
    with pytest.raises(EpisodeOver, match="the context has no room for another turn"):
        episode.say([result("c00000000", "word " * 200)])
    rollout = episode.rollout(Score(value=0.5))
    assert (rollout.stop, rollout.environment) == (StopReason.CONTEXT, Score(value=0.5))
    assert rollout.completion_ids == episode.ids(str(episode.turns[0])), "the result that did not fit is left out"


ENVIRONMENTS = """
import asyncio, os
from pathlib import Path

OPEN = []

async def play(task, policy, folder):
    if task.id == "counting":
        await policy(f"{len(OPEN)} open")
        return 1.0
    OPEN.append(task.id)
    try:
        reply = await policy("first")
        policy.reward(0.25)
        if task.id == "raising":
            raise ConnectionError("the server is down")
        marker = Path(folder, "died")
        if task.id == "dying" and not marker.exists():
            marker.touch()
            os._exit(9)
        await policy("second")
        return 1.0
    finally:
        OPEN.remove(task.id)
"""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Episodes of one process: ten are cancelled, one counts the open ones, one fails, and one ends its process."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "envs.py").write_text(ENVIRONMENTS)
    config = EnvironmentConfig(use=f"{folder}/envs.py:play", num_workers=1, options={"folder": str(folder)})
    turns = ["1<|im_end|>", "2<|im_end|>"]

    async def main() -> dict[str, Any]:
        workers = EnvironmentWorkers(config)
        found: dict[str, Any] = {}

        async def play(name: str, begin: Any) -> None:
            ending, talk = await workers.play(Task(id=name, messages=(), item={}, split=Split.TRAIN), 0, begin)
            found[name] = ending, talk

        try:
            hanging = [Hanging() for _ in range(10)]
            tasks = [
                asyncio.create_task(play(f"hanging {n}", lambda talk=talk: talk)) for n, talk in enumerate(hanging)
            ]
            asked = asyncio.gather(*(talk.asked.wait() for talk in hanging))
            either: list[asyncio.Future[Any]] = [asked, *tasks]
            for ended in (await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED))[0]:
                ended.result()  # raises if the processes could not start
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            found["left"] = await workers.count_left()
            for name in ("counting", "raising", "dying"):
                begun: list[Episode] = []

                def begin(begun: list[Episode] = begun) -> Conversation:
                    begun.append(chatml(*turns))
                    return begun[-1].it

                await play(name, begin)
                found[name] = found[name][0], begun
        finally:
            await workers.close()
        return found

    return asyncio.run(main())


class Hanging:
    """A policy that never answers."""

    rewarded = None

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def say(self, messages: Sequence[Message], tools: Any = None) -> Any:
        self.asked.set()
        await asyncio.Event().wait()

    def reward(self, value: float) -> None:
        raise AssertionError


def test_11_cancelled_episodes_leave_nothing_open(played: dict[str, Any]) -> None:
    """huggingface/OpenEnv#1000: connections that are half open leak sessions until the capacity is gone."""
    assert played["left"] == 0
    _, [episode] = played["counting"]
    assert "0 open" in episode.text(episode.requests[0].prompt_ids)


def test_12_an_episode_that_begins_anew_keeps_nothing(played: dict[str, Any]) -> None:
    """THUDM/slime#1861: an episode that is played again appends to its former state."""
    ending, [first, second] = played["dying"]
    assert ending.score == Score(value=1.25)
    assert len(first.requests) == 1
    assert second.requests[0] == first.requests[0], "the same prompt and seed"
    rollout = second.rollout(ending.score)
    assert [turn.reward for turn in rollout.turns if turn.reward is not None] == [0.25, 1.0]
    assert rollout.completion_ids == second.ids("1<|im_end|>") + second.between() + second.ids("2<|im_end|>")


def test_14_a_failed_environment_gives_no_reward(played: dict[str, Any]) -> None:
    """Tencent-Hunyuan/UniRL#214: every exception becomes an ordinary end, with the reward so far."""
    ending, [episode] = played["raising"]
    assert (ending.score.value, ending.score.status) == (None, Status.ENVIRONMENT_ERROR)
    assert "ConnectionError: the server is down" in str(ending.score.reason)
    assert episode.rollout(ending.score).stop is StopReason.ABORT


def test_every_fault_has_a_test() -> None:
    texts = "\n".join(file.read_text() for file in Path(__file__).parent.rglob("test_*.py"))
    for fault in FAULTS.split():
        assert re.search(rf'"""[^"]*/{fault}\b', texts), fault
