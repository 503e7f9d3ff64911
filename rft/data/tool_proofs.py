"""Proves at a start that the chat template of a model can carry tool calls and their results.

Calls: what the template writes for a call must read back as the same call. The same proof chooses, of the response
templates that rft knows, the one that fits the model; the name of the model does not matter.

Results: the tokens after a turn with one call, and with two, must not depend on the turns before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rft.data.continuation import SENTINEL, CannotContinue, Continuation, call_style
from rft.data.rendering import OTHER_TEMPLATE, Renderer
from rft.data.tool_calls import CallParser, MarkedParser, ParsedTurn, Schema, TemplateParser, ToolCall
from rft.errors import DataError
from rft.types import Message

_KNOWN = Path(__file__).parent / "response_templates.json"
"""Response templates of TRL by model family; `tests/data/test_tool_proofs.py` compares them."""
CALL_OPEN, CALL_CLOSE = "<call>", "</call>"
"""Markers of calls for a model whose chat template knows no tools."""

_PROPERTIES = {
    "text": {"type": "string", "description": "A text."},
    "count": {"type": "integer", "description": "A number."},
}
_TOOL: Schema = {
    "type": "function",
    "function": {
        "name": "repeat",
        "description": "Repeat a text.",
        "parameters": {"type": "object", "properties": _PROPERTIES, "required": ["text", "count"]},
    },
}
_USER: Message = {"role": "user", "content": "a"}
_CALL = ToolCall(id="c00000000", name="repeat", arguments={"text": SENTINEL, "count": 3})
_LONGER: tuple[Message, ...] = (
    {"role": "user", "content": "b"},
    {"role": "assistant", "content": "c"},
    {"role": "user", "content": "d"},
)


def call_parser(
    renderer: Renderer,
    tokenizer: Any,
    *,
    template: Mapping[str, Any] | None = None,
    markers: tuple[str, str] | None = None,
) -> CallParser:
    """Return the parser of the calls of a model: the given one, the tokenizer's, a known one, or the regular form.

    A known one, and the regular form, must read the chat template's own call back, if the template writes calls.

    Args:
        renderer: Renders the prompts of the run.
        tokenizer: The base model's.
        template: A response template of the user's own.
        markers: Texts before and after a call, in place of a response template.

    Raises:
        DataError: No parser reads the calls that the chat template writes.
    """
    if markers is not None:
        return MarkedParser(tokenizer, *markers)
    written = _written_call(renderer)
    reasons = []
    for origin, candidate in _candidates(tokenizer, template, is_written=written is not None):
        try:
            parser = TemplateParser(tokenizer, candidate, origin=origin)
        except ValueError as error:
            reasons.append(f"{origin}: {error}")
            continue
        if written is None or _is_call(parser.parse_text("", written, [_TOOL], 0)):
            return parser
        reasons.append(f"{origin}: it does not read the template's own call back")
    marked = MarkedParser(tokenizer, CALL_OPEN, CALL_CLOSE)
    if template is None and (written is None or _is_call(marked.parse_text(written, [_TOOL], 0))):
        return marked
    raise DataError(
        "prompts",
        [
            "no response template reads the calls that the model's chat template writes "
            f"({'; '.join(reasons)}); set model.response_template=<file.json>, or the texts around a call with "
            "model.call_open and model.call_close"
        ],
    )


def _candidates(
    tokenizer: Any, template: Mapping[str, Any] | None, *, is_written: bool
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield response templates with their origins; known ones only if the chat template writes a call to compare."""
    if template is not None:
        yield "model.response_template", template
        return
    if own := getattr(tokenizer, "response_template", None):
        yield "of the tokenizer", own
    if is_written:
        for family, known in json.loads(_KNOWN.read_text(encoding="utf-8")).items():
            yield f"of {family}", known


def _written_call(renderer: Renderer) -> str | None:
    """Return a chat that ends with a call, as the template writes it; None if it writes no calls."""
    if (style := call_style(renderer)) is None:
        return None
    message = style.message([_CALL], [_CALL.arguments])
    text, _ = renderer.text([dict(_USER), message], [dict(_TOOL)], begins_answer=False)
    return text


def _is_call(turn: ParsedTurn) -> bool:
    """Whether a turn holds `_CALL`, and no other."""
    return [(call.name, call.arguments, call.problem) for call in turn.calls] == [(_CALL.name, _CALL.arguments, "")]


def shows_tools(renderer: Renderer, tools: Sequence[Schema]) -> bool:
    """Whether the chat template shows the names of tools to the model."""
    if renderer.is_raw:
        return False
    text, _ = renderer.text([dict(_USER)], [dict(tool) for tool in tools], begins_answer=True)
    return all(str(tool.get("function", tool)["name"]) in text for tool in tools)


def require_results(continuation: Continuation, tools: Sequence[Schema]) -> bool:
    """Check that the template appends the results of tools in the same way after any chat.

    Args:
        continuation: The continuation of the run.
        tools: The tools of the run.

    Returns:
        Whether a turn may have several calls.

    Raises:
        DataError: The reason why tools are not possible with this template.
    """
    try:
        _require_results(continuation, tools, 1)
    except CannotContinue as problem:
        raise DataError(
            "prompts", [f"tools are not possible with the model's chat template: {problem}; {OTHER_TEMPLATE}"]
        ) from problem
    try:
        _require_results(continuation, tools, 2)
    except CannotContinue:
        return False
    return True


def _require_results(continuation: Continuation, tools: Sequence[Schema], number: int) -> None:
    calls = [ToolCall(id=f"c0000000{place}", name=_name(tools, place)) for place in range(number)]
    results = [{"role": "tool", "tool_call_id": call.id, "name": call.name, "content": "e"} for call in calls]
    shown = [dict(tool) for tool in tools] or None
    dummies = [continuation.between(results, before=before, calls=calls, tools=shown) for before in ((_USER,), _LONGER)]
    if dummies[0] != dummies[1]:
        raise CannotContinue("the text after the assistant's call depends on the turns before it")


def _name(tools: Sequence[Schema], place: int) -> str:
    return str(tools[place % len(tools)].get("function", {}).get("name", "repeat")) if tools else "repeat"
