"""The sample: a completion as graders see it, in the format of OpenAI's chat completions.

    {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "4", ...}}],
     "output_text": "4", "output_json": null, "output_tools": [], "output_audio": null}

- `output_text` is the final answer: the text after the last `</think>`, without tool calls and outer whitespace, as
  hosted models return it.
- `output_json` is set with a `response_format`, otherwise null; in `/graders/run` it is set if the text is JSON.
- `output_tools` are the calls in `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, the format of most open
  models; `arguments` is JSON text, as with OpenAI. Without calls the list is empty. Of an episode with tools, they are
  the calls of all turns.
- `output_audio` is always null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft.grading.answers import final_answer
from rft.grading.foreign.openai_spec.faults import Fault, Flag
from rft.types import Status, StopReason

MAX_DEPTH = 100
"""Maximum nesting of JSON that is parsed; Python's own limit depends on its version."""

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A parsed completion."""

    output_text: str
    """The final answer."""
    output_json: Any = None
    """The final answer as JSON, or None."""
    output_tools: tuple[Mapping[str, Any], ...] = ()
    """Tool calls, as `{"id": "call_0", "type": "function", "function": {"name": ..., "arguments": ...}}`."""
    finish_reason: str = "stop"
    """`stop`, `length` or `tool_calls`."""
    fault: Fault | None = None
    """The reason why no grader can grade it, or None."""

    def as_dict(self) -> dict[str, Any]:
        """Return the sample as graders see it."""
        tools = [dict(tool) for tool in self.output_tools]
        message = {"role": "assistant", "content": self.output_text, "tool_calls": tools}
        return {
            "choices": [{"index": 0, "finish_reason": self.finish_reason, "message": message}],
            "output_text": self.output_text,
            "output_json": self.output_json,
            "output_tools": tools,
            "output_audio": None,
        }


def sample_of_completion(
    completion: str,
    *,
    stop: StopReason = StopReason.STOP,
    response_format: Mapping[str, Any] | None = None,
    calls: Sequence[Mapping[str, Any]] = (),
) -> Sample:
    """Parse a completion of a run.

    Args:
        completion: The text with its thinking.
        stop: The reason why it ended.
        response_format: The required format: `{"type": "json_schema", "json_schema": {"schema": ...}}`.
        calls: The calls of all turns of an episode, in place of those in the text.
    """
    text, tools = _split_tools(final_answer(completion))
    tools = tuple(calls) or tools
    was_cut = stop is StopReason.LENGTH
    output_json, fault = None, None
    if was_cut and not text and not tools:
        detail = "the completion was cut before its answer"
        fault = Fault(Flag.TRUNCATED_OBSERVATION_ERROR, detail, Status.NO_ANSWER)
    elif response_format is not None and (calls or not tools):
        try:
            output_json = read_json(text)
            _require_schema(output_json, response_format)
        except ValueError as error:
            detail = f"the answer does not follow response_format: {error}"
            fault = Fault(Flag.SAMPLE_PARSE_ERROR, detail, Status.INVALID_OUTPUT)
    finish_reason = "length" if was_cut else "tool_calls" if tools and not calls else "stop"
    return Sample(
        output_text=text, output_json=output_json, output_tools=tools, finish_reason=finish_reason, fault=fault
    )


def sample_of_text(model_sample: str) -> Sample:
    """Parse `model_sample` of `/graders/run`: the unchanged text, and its JSON value if it is JSON."""
    try:
        output_json = read_json(model_sample)
    except ValueError:
        output_json = None
    return Sample(output_text=model_sample, output_json=output_json)


def read_json(text: str) -> Any:
    """Parse JSON of a model.

    Raises:
        ValueError: The text is not JSON (NaN and Infinity are not), or nested deeper than `MAX_DEPTH`.
    """

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    too_deep = f"nested deeper than {MAX_DEPTH}"
    try:
        value = json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError(too_deep) from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise ValueError(too_deep)
    return value


def _split_tools(text: str) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """Return the text without its tool calls, and the tool calls. Unreadable calls stay in the text."""
    kept, *blocks = text.split(_OPEN)
    tools: list[Mapping[str, Any]] = []
    for block in blocks:
        body, closed, rest = block.partition(_CLOSE)
        call = _tool_call(body) if closed else None
        if call is None:
            kept += _OPEN + block
        else:
            tools.append({"id": f"call_{len(tools)}", "type": "function", "function": call})
            kept += rest
    return kept.strip(), tuple(tools)


def _tool_call(body: str) -> dict[str, str] | None:
    try:
        call = read_json(body)
    except ValueError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    return {"name": call["name"], "arguments": arguments}


def _require_schema(value: Any, response_format: Mapping[str, Any]) -> None:
    """Raise ValueError if the answer does not follow the schema, if any."""
    schema = response_format.get("json_schema", {}).get("schema")
    if schema is None:
        return
    import jsonschema
    from referencing import Registry

    # An empty registry: a schema with an external reference must not trigger a download.
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    error = next(validator(schema, registry=Registry()).iter_errors(value), None)
    if error is not None:
        raise ValueError(f"{error.json_path}: {error.message[:200]}")
