"""Environments of OpenEnv and verifiers and tools of inspect_ai, in the shapes of their packages.

docs/environments.md says with which versions of the packages the adapters were tried.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rft.data.tool_calls import ToolCall
from rft.episodes.contract import EpisodeOver, Reply
from rft.episodes.loading import load_environment
from rft.episodes.tools.inspect_tools import InspectSource, is_inspect_tool
from rft.episodes.tools.tool import ToolError, ToolFault
from rft.grading.loading.targets import find_target
from rft.types import Split, Task

FILES = {
    "openenv/__init__.py": """
from typing import Any, Dict, Generic, TypeVar
A, O, S = TypeVar("A"), TypeVar("O"), TypeVar("S")

class EnvClient(Generic[A, O, S]):
    open = 0
    def __init__(self, base_url):
        self.url = base_url

    async def __aenter__(self):
        EnvClient.open += 1
        return self

    async def __aexit__(self, *_):
        EnvClient.open -= 1

class MCPClientBase(EnvClient[Any, dict, dict]): pass
""",
    "verifiers/__init__.py": """
class Error(Exception): pass
class OverlongPromptError(Error): pass
class ToolParseError(Error): pass
""",
    "verifiers/types.py": """
from types import SimpleNamespace
class AssistantMessage(SimpleNamespace): role = "assistant"
class ResponseMessage(SimpleNamespace): role = "assistant"
class Response(SimpleNamespace): pass
class ToolCall(SimpleNamespace): pass
class Tool(SimpleNamespace): pass
""",
    "verifiers/clients.py": """
class OpenAIChatCompletionsClient:
    def __init__(self, client):
        assert client is None

    async def to_native_prompt(self, messages):
        return [m if isinstance(m, dict) else {"role": m.role, "content": m.content} for m in messages], {}
""",
    "inspect_ai/__init__.py": "",
    "inspect_ai/registry.py": """
class RegistryInfo:
    def __init__(self, type):
        self.type = type
""",
    "inspect_ai/tool.py": """
from inspect_ai.registry import RegistryInfo

class ToolError(Exception): pass

class ToolDef:
    def __init__(self, tool):
        self.description = tool.__doc__
        self.parameters = self

    def model_dump(self, **_):
        return {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}

def tool(make):
    make.__registry_info__ = RegistryInfo("tool")
    return make
""",
    "user.py": '''
from types import SimpleNamespace
from typing import Any, Dict
import openenv, verifiers
from inspect_ai.tool import ToolError, tool
from pydantic import BaseModel
from verifiers.types import Tool

class Guess(BaseModel):
    number: str
    metadata: dict = {}

class Move(BaseModel):
    x: int
    y: int = 0

class Client(openenv.EnvClient[Guess, dict, dict]):
    """Right is the number that the seed names; the second wrong guess is the last."""
    async def reset(self, **given):
        self.given, self.left = given, 2
        return SimpleNamespace(observation={"text": f"guess at {self.url}", "done": False}, reward=None, done=False)

    async def step(self, action):
        self.left -= 1
        is_right = action.number == str(self.given["seed"])
        seen = {"said": action.number, "given": sorted(self.given), "reward": 0}
        return SimpleNamespace(observation=seen, reward=float(is_right), done=is_right or not self.left)

class Walk(openenv.EnvClient[Move, dict, dict]):
    async def reset(self, **given):
        return SimpleNamespace(observation=Move(x=0), reward=None, done=False)

    async def step(self, action):
        return SimpleNamespace(observation=action, reward=action.x + action.y, done=True)

class Free(openenv.EnvClient[Dict[str, Any], dict, dict]):
    reset = Walk.reset
    async def step(self, action):
        return SimpleNamespace(observation={}, reward=action["x"], done=True)

class Shop(openenv.MCPClientBase):
    async def reset(self, **given):
        return SimpleNamespace(observation={}, reward=None, done=False)

    async def list_tools(self):
        return [SimpleNamespace(name="buy", description="Buy.", input_schema={"type": "object"})]

    async def call_tool(self, tool, **arguments):
        if "what" not in arguments:
            raise RuntimeError("Tool 'buy' failed: what?")
        if arguments["what"] == "all":
            raise ConnectionError("the server is gone")
        return {"bought": arguments["what"]}

class Untyped(Free, openenv.EnvClient[Any, dict, dict]):
    pass

class Game:
    """An environment of verifiers that asks for three turns, and scores the number of them."""
    tool_defs = [Tool(name="add", description="Add.", parameters={"type": "object"})]
    system_prompt, few_shot = "Be short.", []

    def __init__(self, fails=None, rewrites=False):
        self.fails, self.rewrites, self.rubric = fails, rewrites, self

    async def rollout(self, row, client, model, sampling):
        state = {"row": row, "turns": [], "error": None}
        messages = row["prompt"]
        try:
            for number in range(3):
                response = await client.get_response(messages, model, sampling, tools=self.tool_defs)
                said = {"role": "assistant", "content": response.message.content}
                state["turns"].append(response.message)
                answers = [{"role": "tool", "tool_call_id": call.id, "content": call.arguments}
                           for call in response.message.tool_calls or []]
                messages = [*messages, said, *(answers or [{"role": "user", "content": f"go on {number}"}])]
                if self.rewrites:
                    messages = messages[1:]
        except verifiers.OverlongPromptError:
            pass
        if self.fails:
            state["error"] = getattr(verifiers, self.fails)("broken")
        return state

    async def score_rollout(self, state):
        state["reward"] = len(state["turns"])

    async def cleanup(self, state):
        pass

def load(**options):
    return Game(**options)

@tool
def lookup(table="numbers"):
    async def execute(x):
        """Look up."""
        if x < 0:
            raise ToolError("no negative numbers")
        if x == 0:
            raise FileNotFoundError("no file 0")
        if x == 9:
            raise KeyError("broken")
        image, text = SimpleNamespace(type="image"), SimpleNamespace(type="text", text="a picture")
        return [image, text] if x == 2 else x + 1
    return execute

def unmarked(): ...

class Pages:
    """A class as TRL's `environment_factory` takes it."""
    def __init__(self, length=3):
        self.length = length

    def reset(self, place, **row) -> str:
        self.place, self.row = place, sorted(row)
        return f"page {place} of {self.length}"

    def turn(self, by: int) -> str:
        """
        Turn pages.

        Args:
            by: Number of pages.

        Returns:
            The page.
        """
        if self.place + by > self.length:
            raise ValueError("Game over.")
        if by == 0:
            raise KeyError("broken")
        self.place += by
        return f"page {self.place}"

    def get_reward(self) -> float:
        return float(self.place)

class NoReset:
    def turn(self, by: int) -> str: ...
''',
}
TASK = Task(
    id="t", messages=({"role": "user", "content": "hello"},), item={"answer": "17", "place": 3}, split=Split.TRAIN
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("packages")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    before = set(sys.modules)
    yield folder / "user.py"
    for name in set(sys.modules) - before:  # the next test may want the real packages
        if name.partition(".")[0] in ("openenv", "verifiers", "inspect_ai"):
            del sys.modules[name]


class Policy:
    """Says what it is given, and notes what it hears."""

    def __init__(self, replies: Sequence[Any]) -> None:
        self.heard: list[Any] = []
        self.rewards: list[float] = []
        self.tools: Any = None
        self._replies = iter(replies)

    async def __call__(self, said: Any = None, tools: Any = None) -> Reply:
        self.heard.append(said)
        self.tools = tools or self.tools
        reply = next(self._replies)
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, Reply) else Reply(text=reply, stop="stop")

    def reward(self, value: float) -> None:
        self.rewards.append(value)


def play(
    file: Path, name: str, replies: Sequence[Any], task: Task = TASK, style: str | None = None, **options: Any
) -> tuple[Any, Policy]:
    """The score, and the policy."""
    policy = Policy(replies)
    loaded = load_environment(f"{file}:{name}", options, style)
    given = {"task": task, "policy": policy, "seed": 7}
    arguments = {each: given[each] for each in loaded.takes}
    return asyncio.run(loaded.call(**arguments, **options)), policy


def calling(name: str, **arguments: Any) -> Reply:
    return Reply(text="", stop="stop", calls=(ToolCall(id="c1", name=name, arguments=arguments),))


def test_openenv(file: Path) -> None:
    _, policy = play(file, "Client", ["6", "7"], base_url="u", columns=["place"])
    assert policy.heard == ["guess at u", '{"said": "6", "given": ["place", "seed"]}']
    assert policy.rewards == [0.0, 1.0]
    assert sys.modules["openenv"].EnvClient.open == 0


def test_openenv_actions_of_several_fields(file: Path) -> None:
    _, policy = play(file, "Walk", ["left", '{"x": "far"}', '{"x": 2, "y": 3}'], base_url="u")
    assert policy.rewards == [5.0]
    assert policy.heard[:2] == ['{"x": 0, "y": 0}', "'left' is no action; answer with a JSON object with x, y"]
    assert policy.heard[2].startswith("this is no action with x, y:") and "x" in policy.heard[2]
    assert play(file, "Free", ['{"x": 4}'], base_url="u")[1].rewards == [4.0]


def test_openenv_with_tools(file: Path) -> None:
    garbled = ToolCall(id="c2", name="buy", problem="it is no JSON", written="{")
    calls = ToolCall(id="c1", name="buy", arguments={"what": "tea"}), garbled, ToolCall(id="c3", name="buy")
    _, policy = play(file, "Shop", [Reply(text="", stop="stop", calls=calls), "done"], base_url="u")
    assert policy.tools[0]["function"] == {"name": "buy", "description": "Buy.", "parameters": {"type": "object"}}
    assert policy.heard[0] is None
    said = ['{"bought": "tea"}', "error: the call cannot be read: it is no JSON", "error: Tool 'buy' failed: what?"]
    assert [message["content"] for message in policy.heard[1]] == said
    with pytest.raises(ConnectionError):
        play(file, "Shop", [calling("buy", what="all")], base_url="u")


def test_openenv_without_actions(file: Path) -> None:
    with pytest.raises(ValueError, match="Untyped has no action class"):
        play(file, "Untyped", [], base_url="u")


def test_verifiers(file: Path) -> None:
    score, policy = play(file, "load", ["a", "b", "c"], style="verifiers")
    assert score == 3.0
    assert policy.heard == [None, *([{"role": "user", "content": f"go on {number}"}] for number in range(2))]


def test_verifiers_with_tools_and_a_question(file: Path) -> None:
    call = ToolCall(id="c1", name="add", arguments={"a": 1})
    task = Task(id="t", messages=(), item={"question": "sum?"}, split=Split.TRAIN)
    score, policy = play(file, "load", [Reply(text="", stop="stop", calls=(call,)), "b", "c"], task, "verifiers")
    assert score == 3.0
    opening = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "sum?"}]
    result = {"role": "tool", "tool_call_id": "c1", "content": '{"a": 1}', "name": "add"}
    assert policy.heard == [opening, [result], [{"role": "user", "content": "go on 1"}]]
    (tool,) = load_environment(f"{file}:load", {}, "verifiers").tools
    assert tool == {
        "type": "function",
        "function": {"name": "add", "description": "Add.", "parameters": {"type": "object"}},
    }


def test_verifiers_at_a_limit_is_scored_as_it_stands(file: Path) -> None:
    assert play(file, "load", ["a", EpisodeOver("no room")], style="verifiers")[0] == 1.0


def test_verifiers_whose_fault_it_is(file: Path) -> None:
    with pytest.raises(Exception, match="broken"):
        play(file, "load", ["a", "b", "c"], style="verifiers", fails="Error")
    assert play(file, "load", ["a", "b", "c"], style="verifiers", fails="ToolParseError")[0] == 3.0
    with pytest.raises(RuntimeError, match="rewrote what the policy has said or heard"):
        play(file, "load", ["a", "b"], style="verifiers", rewrites=True)
    with pytest.raises(RuntimeError, match="the engine is gone"):
        play(file, "load", [RuntimeError("the engine is gone")], style="verifiers")


def test_trl(file: Path) -> None:
    """A `ValueError` of a tool is told to the policy, as TRL recommends it; any other error is a fault."""
    replies = [calling("turn", by=2), calling("turn", by=9), "done"]
    score, policy = play(file, "Pages", replies, style="trl", length=5)
    assert score == 5.0
    assert policy.heard[0] == "page 3 of 5"
    assert [said[0]["content"] for said in policy.heard[1:]] == ["page 5", "error: Game over."]
    (tool,) = load_environment(f"{file}:Pages", {}, "trl").tools
    assert tool["function"]["name"] == "turn"
    assert tool["function"]["parameters"]["properties"]["by"] == {"type": "integer", "description": "Number of pages."}
    with pytest.raises(ToolFault, match="tool turn: KeyError: 'broken'"):
        play(file, "Pages", [calling("turn", by=0)], style="trl")
    for name in ("NoReset", "unmarked"):
        with pytest.raises(ValueError, match="style=trl: name a class with a method reset"):
            load_environment(f"{file}:{name}", {}, "trl")


def test_inspect_ai(file: Path) -> None:
    target = find_target(f"{file}:lookup")
    assert is_inspect_tool(target.object) and not is_inspect_tool(find_target(f"{file}:unmarked").object)
    source = InspectSource("find", target, {"table": "primes"}, 5.0)
    (tool,) = source.declarations()
    assert tool["function"]["name"] == "find" and tool["function"]["description"] == "Look up."

    async def call(x: int) -> str:
        async with source.open(TASK, 0) as opened:
            return str(await opened.tools[0].call({"x": x}))

    assert asyncio.run(call(1)) == "2"
    assert asyncio.run(call(2)) == "[image left out]\na picture"
    for x, told in ((-1, "no negative numbers"), (0, "no file 0")):
        with pytest.raises(ToolError, match=told):
            asyncio.run(call(x))
    with pytest.raises(KeyError):
        asyncio.run(call(9))
    with pytest.raises(ValueError, match="the tool cannot be made: TypeError"):
        InspectSource("find", target, {"nothing": 1}, 5.0)
