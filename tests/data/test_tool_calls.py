"""The tool calls in the tokens of a turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rft.data.tool_calls import MarkedParser, ParsedTurn, ToolCall, require_declared
from rft.models.base_model import load_tokenizer


def tool(name: str, **types: str) -> dict[str, Any]:
    properties = {parameter: {"type": kind} for parameter, kind in types.items()}
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}


TOOLS = [tool("add", a="integer", b="integer"), tool("calculate", expression="string")]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model, None)


def read(tokenizer: Any, text: str) -> ParsedTurn:
    parser = MarkedParser(tokenizer, "<call>", "</call>")
    return parser.parse([*tokenizer.encode(text, add_special_tokens=False), 2], prefix=(), tools=TOOLS, turn=3)


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("<call>add(1, 2)</call>", "add", {"a": 1, "b": 2}),
        ("<call> add(1, b=-2) </call>", "add", {"a": 1, "b": -2}),
        ('<call>{"name": "add", "arguments": {"a": 1, "b": 2}}</call>', "add", {"a": 1, "b": 2}),
        ("<call>calculate((523+184)*2)</call>", "calculate", {"expression": "(523+184)*2"}),
        ("<call>calculate()</call>", "calculate", {"expression": ""}),
        ("<call>other()</call>", "other", {}),
    ],
)
def test_the_regular_form(tokenizer: Any, text: str, name: str, arguments: dict[str, Any]) -> None:
    assert read(tokenizer, text) == ParsedTurn(
        content="", calls=(ToolCall(id="c00030000", name=name, arguments=arguments),)
    )


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        ("<call>add(1, 2)", "unknown", "it has no </call>"),
        ("<call>add</call>", "unknown", "write name(arguments)"),
        ("<call></call>", "unknown", "write name(arguments)"),
        ("<call>add(1, 2, 3)</call>", "add", "3 values, but parameters: a, b"),
        ("<call>add(1, a=2)</call>", "add", "a twice"),
        ("<call>add(x)</call>", "add", "arguments are wrong"),
        ("<call>add(1))(2)</call>", "add", "arguments are wrong"),
        ("<call>add(" + "(" * 2000 + ")</call>", "add", "arguments are wrong"),
        ('<call>{"name": "add", "arguments": {"a": 1,}}</call>', "add", "it is no JSON"),
        ('<call>{"arguments": {"a": 1}}</call>', "unknown", 'it has no "name"'),
        ('<call>{"name": "add", "arguments": [1, 2]}</call>', "add", "its arguments are no JSON object"),
        ("<call>add(b'x', 2)</call>", "add", "cannot be written as JSON"),
        ("<call>add({1, 2}, 2)</call>", "add", "cannot be written as JSON"),
        ("<call>add({(1, 2): 3}, 2)</call>", "add", "cannot be written as JSON"),
        ("<call>add(1j, ...)</call>", "add", "cannot be written as JSON"),
        ("<call>add('\\ud800', 2)</call>", "add", "cannot be written as JSON"),
        ('<call>{"name": "add", "arguments": {"a": "\\ud800"}}</call>', "add", "cannot be written as JSON"),
        ('<call>{"name": "add", "arguments": {"a": 1e999}}</call>', "add", "cannot be written as JSON"),
    ],
)
def test_a_call_that_cannot_be_read_is_told(tokenizer: Any, text: str, name: str, problem: str) -> None:
    [call] = read(tokenizer, text).calls
    assert (call.name, call.arguments) == (name, {})
    assert problem in call.problem
    assert json.dumps(call.as_message(), ensure_ascii=False).encode()


def test_several_calls_and_the_text_beside_them(tokenizer: Any) -> None:
    turn = read(tokenizer, "first <call>add(1, 2)</call><call>add(</call> then")
    assert turn.content == "first  then"
    assert [call.id for call in turn.calls] == ["c00030000", "c00030001"]
    assert [bool(call.problem) for call in turn.calls] == [False, True]
    message = turn.as_message()
    assert message["tool_calls"][0] == {
        "id": "c00030000",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'},
    }
    assert message["tool_calls"][1]["function"] == {"name": "unknown", "arguments": "add("}


def test_a_turn_without_a_call(tokenizer: Any) -> None:
    assert read(tokenizer, "16").as_message() == {"role": "assistant", "content": "16"}


@pytest.mark.parametrize("parameters", [None, {"type": "object"}, {"type": "object", "properties": {"a": True}}])
def test_schemas_without_types(tokenizer: Any, parameters: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "", "parameters": parameters}}]
    require_declared(tools)
    ids = tokenizer.encode("<call>f()</call>", add_special_tokens=False)
    [call] = MarkedParser(tokenizer, "<call>", "</call>").parse(ids, prefix=(), tools=tools, turn=0).calls
    assert (call.name, call.arguments, call.problem) == ("f", {}, "")


@pytest.mark.parametrize(
    "tools",
    ["abc", [5], [{"name": "f"}], [{"type": "function", "function": {"name": "f", "parameters": {"properties": []}}}]],
)
def test_tools_that_are_none(tools: Any) -> None:
    with pytest.raises(ValueError, match="not "):
        require_declared(tools)
