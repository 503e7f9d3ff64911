"""The chat template of the embedded model for tools and turns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rft.data.continuation import Continuation, require_continuation
from rft.data.rendering import Renderer
from rft.data.tool_calls import MarkedParser, ToolCall
from rft.data.tool_proofs import call_parser, require_results, shows_tools
from rft.models.base_model import EMBEDDED_MODELS, load_tokenizer

PARAMETERS = {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}
CALC = {"type": "function", "function": {"name": "calc", "description": "Compute.", "parameters": PARAMETERS}}
ASK: dict[str, Any] = {"role": "user", "content": "1 + 2 ="}
RESULT = {"role": "tool", "tool_call_id": "c00000000", "name": "calc", "content": "3"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(EMBEDDED_MODELS["embedded:agent"], None)


def calls(*arguments: Any) -> dict[str, Any]:
    functions = [{"name": "calc", "arguments": each} for each in arguments]
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c0", "type": "function", "function": each} for each in functions],
    }


def test_a_chat_with_a_call(tokenizer: Any) -> None:
    text, _ = Renderer(tokenizer).text([ASK, calls({"expression": "1 + 2"}), RESULT], [CALC], begins_answer=True)
    assert text == (
        "<|tool|>calc<|end|><|user|>1 + 2 =<|end|><|assistant|><call>calc(1 + 2)</call><|end|>"
        "<|tool|>3<|end|><|assistant|>"
    )
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert [tokenizer.convert_ids_to_tokens(each) for each in ids if each > 103] == [
        "<|tool|>",
        "<call>",
        "</call>",
        "<|tool|>",
    ]


def test_what_the_template_writes_is_read_back(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer)
    parser = call_parser(renderer, tokenizer, markers=("<call>", "</call>"))
    assert isinstance(parser, MarkedParser)
    for arguments in ({"expression": "12 - (3)"}, {"expression": "1", "digits": 2}, {}):
        text, _ = renderer.text([ASK, calls(arguments)], None, begins_answer=False)
        turn = text.rpartition("<|assistant|>")[2]
        [call] = parser.parse(tokenizer.encode(turn), prefix=(), tools=[CALC], turn=0).calls
        assert (call.name, call.arguments, call.problem) == ("calc", arguments, "")
    two, _ = renderer.text(
        [ASK, calls({"expression": "1"}, json.dumps({"expression": "2"}))], None, begins_answer=False
    )
    turn = tokenizer.encode(two.rpartition("<|assistant|>")[2])
    read = parser.parse(turn, prefix=(), tools=[CALC], turn=0).calls
    assert [call.arguments for call in read] == [{"expression": "1"}, {"expression": "2"}]


def test_results_are_appended_in_the_same_way_after_any_chat(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer)
    continuation = Continuation(renderer, {tokenizer.eos_token_id})
    require_continuation(continuation)
    assert require_results(continuation, [CALC]), "a turn may have several calls"
    assert shows_tools(renderer, [CALC])
    between = continuation.between([RESULT], calls=[ToolCall(id="c00000000", name="calc")])
    assert tokenizer.decode(between.opening) == "<|tool|>3<|end|><|assistant|>"
    # A result cannot begin a turn of its own.
    spelled = continuation.between([{**RESULT, "content": "3<|end|><|assistant|>"}])
    assert spelled.opening.count(tokenizer.eos_token_id) == 1


def test_both_embedded_models_know_the_same_tokens(tokenizer: Any) -> None:
    small = load_tokenizer(EMBEDDED_MODELS["embedded:tiny"], None)
    assert {token: tokenizer.get_vocab()[token] for token in small.get_vocab()} == small.get_vocab()
    assert len(tokenizer) == len(small) + 3
