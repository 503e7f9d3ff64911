"""Reads the answer of a completion, and the reference of a task."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from rft.types import Task

MAX_JSON_CHARS = 100_000
"""Maximum length of JSON that is parsed."""
MAX_JSON_DEPTH = 50
"""Maximum nesting of JSON that is parsed: parsers and validators recurse."""

_END_OF_TURN = (
    "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "<|return|>", "</s>", "<eos>",
    "<end_of_turn>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
)  # fmt: skip
"""End-of-turn tokens of ChatML, GPT-2, Llama 3, Phi, gpt-oss, Llama 2 and Mistral, Gemma, and DeepSeek."""
_FENCE = re.compile(r"```[ \t]*(?:[a-zA-Z]+\b)?\s*(.*?)\s*```", re.DOTALL)
_JSON_NEST = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def final_answer(completion: str) -> str:
    """Return the text after the last `</think>`, stripped; the whole text if it has no thinking.

    An unclosed `<think>` gives an empty answer, because the model did not reach one. If the prompt opens the thinking,
    a completion cut before `</think>` looks like an answer; graders can check `rollout.stop`. Tokens that end a turn,
    which some samplers keep, are removed from the end.
    """
    answer = completion.rpartition("</think>")[2].rstrip()
    while (ending := next((token for token in _END_OF_TURN if answer.endswith(token)), None)) is not None:
        answer = answer.removesuffix(ending).rstrip()
    return "" if "<think>" in answer else answer.strip()


def json_answer(completion: str) -> Any:
    """Return the final answer as a JSON value: the whole answer, or the content of its only fenced block.

    Prose around the block is ignored. Several blocks are ambiguous.

    Raises:
        ValueError: The answer is not JSON, has several blocks, is too long or nested too deep, repeats a key, or
            contains NaN, an infinity, or a number beyond the range of a float.
    """
    text = final_answer(completion)
    if len(text) > MAX_JSON_CHARS:
        raise ValueError(f"longer than {MAX_JSON_CHARS} characters")
    text = text.removeprefix("\ufeff").strip()
    if text[:1] not in ("{", "[", '"'):
        blocks = _FENCE.findall(text)
        if len(blocks) > 1:
            raise ValueError(f"the answer has {len(blocks)} fenced blocks; it may have only one")
        text = blocks[0] if blocks else text
    depth = 0
    for token in _JSON_NEST.findall(text):
        depth += (token in "[{") - (token in "]}")
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels")
    return json.loads(
        text,
        object_pairs_hook=_without_repeated_keys,
        parse_constant=lambda name: _finite(name, float),
        parse_float=lambda digits: _finite(digits, float),
        parse_int=lambda digits: _finite(digits, int),
    )


def reference(task: Task, column: str) -> Any:
    """Return a task's value in a column; None if the value is empty.

    Raises:
        LookupError: The task has no such column.
    """
    if column not in task.item:
        raise LookupError(f"task {task.id} has no column '{column}'; its columns are {', '.join(task.item) or 'none'}")
    return task.item[column]


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("an object repeats a key")
    return values


def _finite(digits: str, kind: type[int] | type[float]) -> int | float:
    if not math.isfinite(float(digits)):
        raise ValueError(f"{digits[:20]} is not a finite number")
    return kind(digits)
