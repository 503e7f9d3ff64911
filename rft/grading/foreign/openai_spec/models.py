"""score_model and label_model: a judge behind an OpenAI-compatible endpoint.

The judge replies in JSON, `{"steps": [{"description", "conclusion"}], "result"}`. OpenAI asks for `result` first; rft
asks for the steps first, so the judge reasons before it decides. A number outside `range` is clipped.

OpenAI gives a reward of 0 for a reply without a number. rft reports `model_grader_parse_error` and gives no reward,
because the judge failed, not the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rft.grading.clients.model_client import ModelCallError, Reply, strict_object
from rft.grading.foreign.openai_spec.faults import Fault, Flag
from rft.grading.foreign.openai_spec.outcome import Case, Outcome, Services
from rft.grading.foreign.openai_spec.spec import AudioBlock, ImageBlock, InputMessage, LabelModel, ScoreModel, TextBlock
from rft.grading.foreign.openai_spec.templates import Template


async def score(spec: ScoreModel, case: Case, services: Services) -> Outcome:
    """Return a judge's number.

    Raises:
        Fault: A variable is missing, or the judge cannot be reached, refuses, or replies without a number.
    """
    reply = await _ask(spec, case, services, {"type": "number"})
    result = _result(reply)
    if isinstance(result, bool) or not isinstance(result, (int, float)) or not math.isfinite(result):
        raise _no_verdict(spec.model, reply, "no finite number")
    lowest, highest = spec.range
    return _outcome(spec.model, reply, min(highest, max(lowest, float(result))))


async def label(spec: LabelModel, case: Case, services: Services) -> Outcome:
    """Return a judge's label as a score.

    Raises:
        Fault: A variable is missing, or the judge cannot be reached, refuses, or replies with another label.
    """
    reply = await _ask(spec, case, services, {"type": "string", "enum": spec.labels})
    result = _result(reply)
    if result not in spec.labels:
        raise _no_verdict(spec.model, reply, f"none of {spec.labels}")
    return _outcome(spec.model, reply, float(result in spec.passing_labels))


async def _ask(spec: ScoreModel | LabelModel, case: Case, services: Services, result: dict[str, Any]) -> Reply:
    messages = [_message(message, case) for message in spec.input]
    sampling = spec.sampling_params.model_dump(exclude_none=True) if spec.sampling_params else {}
    if "max_completions_tokens" in sampling:  # the grader spec's spelling; the API has another
        sampling["max_completion_tokens"] = sampling.pop("max_completions_tokens")
    try:
        reply = await services.model(spec.model).chat(messages, schema=_schema(result), sampling=sampling)
    except ModelCallError as error:
        raise Fault(Flag.MODEL_GRADER_SERVER_ERROR, str(error)) from error
    if reply.refusal:
        detail = f"{spec.model} refused: {reply.refusal}"
        raise Fault(Flag.MODEL_GRADER_REFUSAL_ERROR, detail, usage={spec.model: reply.usage})
    return reply


def _schema(result: dict[str, Any]) -> dict[str, Any]:
    step = {name: {"type": "string"} for name in ("description", "conclusion")}
    properties = {"steps": {"type": "array", "items": strict_object(step)}, "result": result}
    return strict_object(properties)


def _message(message: InputMessage, case: Case) -> dict[str, Any]:
    """Fill in a message, and convert its blocks to those of chat completions."""
    content = message.content
    if isinstance(content, Template):
        return {"role": message.role, "content": content.render(case.sample, case.item)}
    blocks: Sequence[Any] = content if isinstance(content, list) else [content]
    return {"role": message.role, "content": [_block(block, case) for block in blocks]}


def _block(block: Template | TextBlock | ImageBlock | AudioBlock, case: Case) -> Mapping[str, Any]:
    if isinstance(block, ImageBlock):
        image = {"url": block.image_url.render(case.sample, case.item)}
        return {"type": "image_url", "image_url": image | ({"detail": block.detail} if block.detail else {})}
    if isinstance(block, AudioBlock):
        data = block.input_audio.data.render(case.sample, case.item)
        return {"type": "input_audio", "input_audio": {"data": data, "format": block.input_audio.format}}
    text = block.text if isinstance(block, TextBlock) else block
    return {"type": "text", "text": text.render(case.sample, case.item)}


def _result(reply: Reply) -> Any:
    return reply.parsed.get("result") if isinstance(reply.parsed, Mapping) else None


def _no_verdict(model: str, reply: Reply, what: str) -> Fault:
    detail = f"{model} replied with {what}: {reply.text!r:.200}"
    return Fault(Flag.MODEL_GRADER_PARSE_ERROR, detail, usage={model: reply.usage})


def _outcome(model: str, reply: Reply, value: float) -> Outcome:
    return Outcome(value=value, model=model, usage={model: reply.usage})
