"""Episodes of tools with a policy that follows a script."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rft.config.tools import ToolConfig
from rft.data.tool_calls import ToolCall
from rft.episodes.contract import EpisodeOver, LoadedEnvironment, Reply
from rft.episodes.left_threads import in_thread, num_left
from rft.episodes.tools.loading import load_tools
from rft.episodes.tools.play import NO_SCORE, ToolEnvironment
from rft.episodes.tools.tool import OpenTools, Tool, ToolFault
from rft.types import Score, Split, Status, Task

TOOLS = '''
import asyncio, threading, time
from rft.episodes.tools.tool import ToolError

def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a + b

def named(function: str) -> str:
    """A parameter with a name that rft uses, too.

    Args:
        function: A text.
    """
    return function

async def nap(name: str, seconds: float) -> dict:
    """Sleep.

    Args:
        name: Who sleeps.
        seconds: How long.
    """
    await asyncio.sleep(seconds)
    return {"slept": name}

def block(seconds: float) -> str:
    """Sleep in a thread.

    Args:
        seconds: How long.
    """
    time.sleep(seconds)
    return threading.current_thread().name

def find(city: str | None = None) -> str:
    """Find a city.

    Args:
        city: The city.
    """
    if city == "crash":
        raise ConnectionError("refused")
    if city is None:
        raise ToolError("name a city")
    return "in " + city

def own(task, seed, text: str, suffix: str) -> list:
    """What a call is given besides the model's argument.

    Args:
        text: A text.
    """
    return [text, suffix, seed, task.item["answer"]]

class Counter:
    made = []

    def __init__(self, start: int = 0):
        self.value = start
        self.log = []

    def reset(self, answer, **row):
        Counter.made.append(self)
        self.answer = answer
        return f"Count to {answer}."

    def up(self, by: int) -> int:
        """Count up.

        Args:
            by: By how much.
        """
        self.log.append(("in", by))
        time.sleep(0.01)
        self.log.append(("out", by))
        self.value += by
        return self.value

    def _hidden(self):
        pass

    async def get_reward(self):
        return float(self.value == self.answer)

    def close(self):
        self.log.append("closed")

class Broken:
    def __init__(self):
        raise OSError("no disk")

    def read(self) -> str:
        """Read."""
'''
TASK = Task(id="t", messages=({"role": "user", "content": "go"},), item={"answer": 5}, split=Split.TRAIN)


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """`load("add", "find", max_invalid_calls=2)`: an environment of these tools."""
    file = tmp_path / "tools.py"
    file.write_text(TOOLS)

    def make(*names: str, max_invalid_calls: int = 3, **settings: Any) -> LoadedEnvironment:
        entries = {name: ToolConfig(use=f"{file}:{name}", **settings) for name in names}
        return load_tools(entries, max_invalid_calls=max_invalid_calls)

    return make


class Script:
    """A policy that makes these calls, turn by turn, and keeps what it hears."""

    def __init__(self, *turns: Sequence[tuple[str, dict[str, Any]] | ToolCall]) -> None:
        self.turns = [
            tuple(
                each if isinstance(each, ToolCall) else ToolCall(id=f"c{turn}{place}", name=each[0], arguments=each[1])
                for place, each in enumerate(calls)
            )
            for turn, calls in enumerate(turns)
        ]
        self.heard: list[Any] = []

    async def __call__(self, said: Any = None) -> Reply:
        self.heard.append(said)
        if len(self.heard) > len(self.turns):
            return Reply(text="done", stop="stop")
        return Reply(text="", stop="stop", calls=self.turns[len(self.heard) - 1])

    @property
    def results(self) -> list[str]:
        return [message["content"] for said in self.heard[1:] for message in said]


def play(environment: LoadedEnvironment, script: Any) -> Any:
    return asyncio.run(environment.call(task=TASK, policy=script, seed=7))


def test_results_come_back_in_the_order_of_the_calls(load: Any) -> None:
    script = Script([("nap", {"name": "a", "seconds": 0.05}), ("add", {"a": 1, "b": 2}), ("add", {"a": 1})])
    score = play(load("nap", "add"), script)
    assert script.heard == [
        None,
        [
            {"role": "tool", "tool_call_id": "c00", "name": "nap", "content": '{"slept": "a"}'},
            {"role": "tool", "tool_call_id": "c01", "name": "add", "content": "3"},
            {"role": "tool", "tool_call_id": "c02", "name": "add", "content": "2"},
        ],
    ]
    assert score == Score(value=None, status=Status.SKIPPED, reason=NO_SCORE)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("subtract", {}), "error: there is no tool 'subtract'; the tools are: add, find"),
        (("add", {"a": "x"}), "error: wrong arguments for add: a: 'x' is not of type 'integer'"),
        (("add", {"b": 1}), "error: wrong arguments for add: 'a' is a required property"),
        (("add", {"a": 1, "c": 1}), "error: wrong arguments for add: Additional properties are not allowed"),
        (("find", {}), "error: name a city"),
        (("find", {"city": None}), "error: name a city"),
        (("find", {"city": "Rome"}), "in Rome"),
        (ToolCall(id="c", name="add", problem="it is no JSON"), "error: the call cannot be read: it is no JSON"),
    ],
)
def test_what_the_model_did_wrong_is_told_to_the_model(load: Any, call: Any, told: str) -> None:
    script = Script([call])
    play(load("add", "find"), script)
    assert script.results[0].startswith(told)


def test_invalid_calls_in_a_row_end_the_episode(load: Any) -> None:
    wrong, right = ("add", {}), ("add", {"a": 1})
    script = Script([wrong], [right], [wrong], [right, wrong], [right])
    score = play(load("add", max_invalid_calls=2), script)
    assert len(script.heard) == 4
    assert score.reason == "2 turns in a row with an invalid call (environment.max_invalid_calls)"


def test_a_fault_of_a_tool_has_its_cause(load: Any) -> None:
    with pytest.raises(ToolFault, match=r"^tool find: ConnectionError: refused \(.*tools\.py:\d+\)$"):
        play(load("find", "nap"), Script([("nap", {"name": "a", "seconds": 60}), ("find", {"city": "crash"})]))
    with pytest.raises(ToolFault, match=r"^tool Broken: OSError: no disk"):
        play(load("Broken"), Script())


def test_a_parameter_may_have_any_name(load: Any) -> None:
    script = Script([("named", {"function": "f"})])
    play(load("named"), script)
    assert script.results == ["f"]


def test_a_tool_that_takes_too_long_is_a_fault(load: Any) -> None:
    with pytest.raises(ToolFault, match=r"^tool nap: no result within 0.01 s \(tools\.nap\.timeout_s\)$"):
        play(load("nap", timeout_s=0.01), Script([("nap", {"name": "a", "seconds": 60})]))


class Programs:
    """A source of one tool, whose calls run programs of the policy for up to 5 s."""

    name, file, sha256 = "run", "", ""
    has_score = speaks = False

    @asynccontextmanager
    async def open(self, task: Task, seed: int) -> AsyncIterator[OpenTools]:
        async def call(arguments: Any) -> str:
            return "done"

        yield OpenTools(tools=(Tool(name="run", description="", parameters={}, call=call, program_s=5.0),))

    def declarations(self) -> list[Any]:
        return []


@pytest.mark.parametrize(("timeout_s", "num_results"), [(60.0, 3), (6.0, 1)])
def test_programs_of_the_policy_end_the_episode_before_the_time_of_the_environment_is_up(
    timeout_s: float, num_results: int
) -> None:
    """Another program could exceed 0.8 of 6 s, which would be a fault of the environment."""
    environment = ToolEnvironment([Programs()], max_invalid_calls=3, timeout_s=timeout_s)
    script = Script(*[[("run", {})]] * 3)
    score = asyncio.run(environment.play(TASK, script, 7))
    assert script.results == ["done"] * num_results
    assert score.reason == (
        NO_SCORE if num_results == 3 else "programs of the policy have run for 0 s (environment.timeout_s)"
    )


def test_a_call_that_hangs_is_counted_until_it_returns() -> None:
    begun, release = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait()

    async def main() -> int:
        call = asyncio.create_task(in_thread(hang))
        await asyncio.to_thread(begun.wait)
        call.cancel()
        await asyncio.wait([call])
        during = num_left()
        release.set()
        return during

    assert asyncio.run(main()) == 1
    assert num_left() == 0  # the loop has waited for its threads


def test_what_a_call_is_given_besides_the_models_arguments(load: Any) -> None:
    environment = load("own", options={"suffix": "!"})
    [schema] = environment.tools
    assert list(schema["function"]["parameters"]["properties"]) == ["text"]
    script = Script([("own", {"text": "a"})])
    play(environment, script)
    assert script.results == ['["a", "!", 7, 5]']


def test_a_class_has_one_instance_for_each_episode(load: Any) -> None:
    environment = load("Counter", options={"start": 1})
    assert (environment.has_score, environment.speaks) == (True, True)
    assert [tool["function"]["name"] for tool in environment.tools] == ["up"]
    script = Script([("up", {"by": 1}), ("up", {"by": 3})])
    assert play(environment, script) == 1.0
    assert script.heard[0] == "Count to 5."
    assert script.results == ["2", "5"]
    assert play(environment, Script([("up", {"by": 1})])) == 0.0
    [first, second] = environment.call.__self__._sources[0]._class.made  # type: ignore[attr-defined]
    assert first.log == [("in", 1), ("out", 1), ("in", 3), ("out", 3), "closed"]
    assert second.log[-1] == "closed"


def test_an_episode_at_a_limit_is_scored_as_it_stands(load: Any) -> None:
    class Limited(Script):
        async def __call__(self, said: Any = None) -> Reply:
            if self.heard:
                raise EpisodeOver("environment.max_turns=1")
            return await super().__call__(said)

    assert play(load("Counter"), Limited([("up", {"by": 5})])) == 1.0
    score = play(load("add"), Limited([("add", {"a": 5})]))
    assert (score.value, score.status, score.reason) == (None, Status.SKIPPED, "environment.max_turns=1")
