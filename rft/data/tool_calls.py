"""Reads the tool calls in the tokens of a sampled turn.

Two forms of calls are known. A response template of Transformers describes the form of a model family; its parser reads
the turn. The regular form is text between two markers:

    <call>{"name": "add", "arguments": {"a": 1, "b": 2}}</call>
    <call>add(a=1, b=2)</call>
    <call>calculate(523+184)</call>         a tool with one string parameter takes the text as it is

A call that cannot be read is a call with a problem, so that the model can be told. A turn that was cut must not be
read: half a call may be a valid one.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

Schema = Mapping[str, Any]
"""A tool in OpenAI's format: `{"type": "function", "function": {"name", "description", "parameters"}}`."""

UNKNOWN = "unknown"
"""Name of the tool of a call whose name cannot be read."""

_NAME = re.compile(r'"name"\s*:\s*"([^"\\]+)"')
_APPLICATION = re.compile(r"([\w.-]+)\s*\((.*)\)", re.DOTALL)
_READING = (ValueError, KeyError, TypeError, RecursionError)
"""Errors of the parsers, which read what a model wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool by the policy.

    Example:
        ToolCall(id="c00000000", name="add", arguments={"a": 1, "b": 2})
    """

    id: str
    """Identity of the call in its episode; nine letters and digits, as some templates require."""
    name: str
    """Name of the tool; `unknown` if it cannot be read."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The arguments; empty if they cannot be read."""
    problem: str = ""
    """Why the call cannot be read; empty for a call that can."""
    written: str = ""
    """What the model wrote in place of a call that can be read."""

    def as_message(self) -> dict[str, Any]:
        """Return the call in OpenAI's format, whose arguments are a JSON text."""
        arguments = self.written or json.dumps(dict(self.arguments), ensure_ascii=False)
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedTurn:
    """What a turn says and calls.

    Example:
        ParsedTurn(content="Let me add.", calls=(ToolCall(id="c00000000", name="add", arguments={"a": 1, "b": 2}),))
    """

    content: str
    """The text beside the calls and the reasoning."""
    reasoning: str = ""
    """The reasoning; empty if there is none, or if it is part of the content."""
    calls: tuple[ToolCall, ...] = ()
    """The calls, in the order of the turn."""

    def as_message(self) -> dict[str, Any]:
        """Return the turn as an assistant's message in OpenAI's format."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        return message | ({"tool_calls": [call.as_message() for call in self.calls]} if self.calls else {})


class CallParser(Protocol):
    """Reads turns of one form."""

    form: str
    """The form in words, for messages."""

    def parse(self, ids: Sequence[int], *, prefix: Sequence[int], tools: Sequence[Schema], turn: int) -> ParsedTurn:
        """Read a turn that ended by itself. Never raises for what a model wrote.

        Args:
            ids: `[C]` tokens of the turn.
            prefix: Tokens before it, from the start of the assistant's message or earlier.
            tools: The tools of the episode.
            turn: Number of the turn in its episode, for the ids of calls.
        """


class TemplateParser:
    """Reads turns with a response template of Transformers.

    Args:
        tokenizer: The base model's.
        template: The response template.
        origin: Origin of the template, for messages.

    Raises:
        ValueError: The template is invalid.
    """

    def __init__(self, tokenizer: Any, template: Mapping[str, Any], *, origin: str) -> None:
        from transformers.utils.chat_parsing.response_templates import load_response_template

        self._tokenizer = tokenizer
        self._template = _lenient(template)
        self.form = f"the response template {origin}"
        load_response_template(self._template)

    def parse(self, ids: Sequence[int], *, prefix: Sequence[int], tools: Sequence[Schema], turn: int) -> ParsedTurn:
        """Read a turn; see `CallParser`."""
        return self.parse_text(self._tokenizer.decode(list(ids)), self._tokenizer.decode(list(prefix)), tools, turn)

    def parse_text(self, text: str, prefix: str, tools: Sequence[Schema], turn: int) -> ParsedTurn:
        """Read a turn from its text, with control tokens; see `CallParser`."""
        try:
            parsed = self._tokenizer.parse_response(text, self._template, prefix=prefix, tools=[*tools])
        except _READING as error:
            return ParsedTurn(content="", calls=(_unreadable(_id(turn, 0), text, str(error)),))
        entries, calls = parsed.get("tool_calls") or [], list[ToolCall]()
        for entry in entries if isinstance(entries, list) else [entries]:
            own = entry.get("id") if isinstance(entry, Mapping) else None
            is_new = isinstance(own, str) and own and own not in {call.id for call in calls}
            calls.append(_recordable(_call(entry, str(own) if is_new else _id(turn, len(calls)))))
        reasoning = parsed.get("reasoning_content") or parsed.get("thinking") or ""
        return ParsedTurn(content=str(parsed.get("content") or ""), reasoning=str(reasoning), calls=tuple(calls))


class MarkedParser:
    """Reads calls between two markers.

    Args:
        tokenizer: The base model's.
        call_open: Text before a call.
        call_close: Text after a call.
    """

    def __init__(self, tokenizer: Any, call_open: str, call_close: str) -> None:
        self._tokenizer = tokenizer
        self._open, self._close = call_open, call_close
        self.form = f"{call_open}...{call_close}"

    def parse(self, ids: Sequence[int], *, prefix: Sequence[int], tools: Sequence[Schema], turn: int) -> ParsedTurn:
        """Read a turn; see `CallParser`."""
        return self.parse_text(self._tokenizer.decode(list(ids)), tools, turn)

    def parse_text(self, text: str, tools: Sequence[Schema], turn: int) -> ParsedTurn:
        """Read a turn from its text, with control tokens; see `CallParser`."""
        while name := next((name for name in self._tokenizer.all_special_tokens if name and text.endswith(name)), None):
            text = text.removesuffix(name)
        content, *segments = text.split(self._open)
        calls: list[ToolCall] = []
        for segment in segments:
            body, closed, rest = segment.partition(self._close)
            content += rest
            call = self._call(body.strip(), _id(turn, len(calls)), tools, is_closed=bool(closed))
            calls.append(_recordable(call))
        return ParsedTurn(content=content.strip(), calls=tuple(calls))

    def _call(self, body: str, call_id: str, tools: Sequence[Schema], *, is_closed: bool) -> ToolCall:
        if not is_closed:
            return _unreadable(call_id, body, f"it has no {self._close}")
        if body.startswith("{"):
            try:
                return _call({"function": json.loads(body)}, call_id)
            except _READING as error:
                return _unreadable(call_id, body, f"it is no JSON: {error}")
        if not (match := _APPLICATION.fullmatch(body)):
            return _unreadable(call_id, body, 'write name(arguments), or {"name": ..., "arguments": {...}}')
        name, inner = match[1], match[2]
        try:
            return ToolCall(id=call_id, name=name, arguments=_applied(inner, _parameters(name, tools)))
        except (*_READING, SyntaxError, MemoryError) as error:
            return ToolCall(id=call_id, name=name, problem=f"its arguments are wrong: {error}", written=inner)


def require_declared(tools: Any) -> None:
    """Check tools that an agent or an environment brings.

    Raises:
        ValueError: They are no list of tools in OpenAI's format; the message shows the first one that is none.
    """
    if not isinstance(tools, (list, tuple)):
        raise ValueError(f"tools must be a list, not {tools!r:.200}")
    for tool in tools:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        parameters = (function.get("parameters") or {}) if isinstance(function, Mapping) else None
        has_name = isinstance(function, Mapping) and isinstance(function.get("name"), str)
        if (
            not has_name
            or not isinstance(parameters, Mapping)
            or not isinstance(parameters.get("properties", {}), dict)
        ):
            raise ValueError(
                'a tool must be {"type": "function", "function": {"name": ..., "description": ..., "parameters": '
                f'{{"type": "object", "properties": {{...}}}}}}}}, not {tool!r:.200}'
            )


def _parameters(name: str, tools: Sequence[Schema]) -> Mapping[str, Any]:
    """Return the schemas of a tool's parameters, by name; empty for an unknown tool."""
    functions = (tool.get("function", tool) for tool in tools)
    found: list[Mapping[str, Any]] = [each for each in functions if each.get("name") == name]
    properties = (found[0].get("parameters") or {}).get("properties") or {} if found else {}
    # JSON Schema allows `true` in place of a schema.
    return {key: schema if isinstance(schema, Mapping) else {} for key, schema in properties.items()}


def _applied(inner: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Read arguments: the text as it is for one string parameter, else literals of Python by position or name.

    Raises:
        SyntaxError: They are no literals.
        ValueError: They are no literals, or too many.
    """
    [*only] = parameters.items()
    if len(only) == 1 and only[0][1].get("type") == "string":
        return {only[0][0]: inner}
    call = ast.parse(f"f({inner})", mode="eval").body
    if not isinstance(call, ast.Call):
        raise ValueError("it is no single call")
    if len(call.args) > len(parameters):
        raise ValueError(f"{len(call.args)} values, but parameters: {', '.join(parameters) or 'none'}")
    by_place = dict(zip(parameters, map(ast.literal_eval, call.args), strict=False))
    by_name = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    if twice := sorted(by_place.keys() & by_name.keys()):
        raise ValueError(f"{', '.join(twice)} twice")
    return by_place | by_name


def _call(entry: Any, call_id: str) -> ToolCall:
    """Return the call of a parsed entry, `{"function": {"name", "arguments"}}`."""
    function = entry.get("function") if isinstance(entry, Mapping) else entry
    if not isinstance(function, Mapping):
        return _unreadable(call_id, str(function), "it is no JSON object")
    name, arguments = function.get("name"), function.get("arguments", function.get("parameters"))
    if not isinstance(name, str) or not name:
        return _unreadable(call_id, json.dumps(function), 'it has no "name"')
    written = arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except _READING as error:
            return ToolCall(id=call_id, name=name, problem=f"its arguments are no JSON: {error}", written=str(written))
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return ToolCall(id=call_id, name=name, problem="its arguments are no JSON object", written=str(written))
    return ToolCall(id=call_id, name=name, arguments=arguments)


def _recordable(call: ToolCall) -> ToolCall:
    """Return a call; one that JSON or UTF-8 cannot hold, such as bytes or half a surrogate pair, has a problem."""
    try:
        parts = [call.id, call.name, dict(call.arguments), call.written, call.problem]
        json.dumps(parts, ensure_ascii=False, allow_nan=False).encode()
    except _READING as error:
        call_id, name, written, problem = (
            text.encode(errors="backslashreplace").decode()
            for text in (call.id, call.name, call.written or repr(call.arguments), call.problem or str(error))
        )
        return ToolCall(id=call_id, name=name, problem=f"it cannot be written as JSON: {problem}", written=written)
    return call


def _unreadable(call_id: str, written: str, problem: str) -> ToolCall:
    name = _NAME.search(written)
    return ToolCall(id=call_id, name=name[1] if name else UNKNOWN, problem=problem, written=written)


def _id(turn: int, place: int) -> str:
    return f"c{turn:04d}{place:04d}"


def _lenient(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a response template that keeps calls that are no JSON as text, so that the other calls can be read."""
    changed = deepcopy(dict(template))
    calls = changed.get("fields", {}).get("tool_calls", {})
    if isinstance(calls, dict) and calls.get("content") == "json":
        calls["content_args"] = {**calls.get("content_args", {}), "allow_non_json": True}
    return changed
