"""The two calls of OpenAI's grader API as functions, with the documented requests and responses.

    validate({"grader": {...}})                                     -> {"grader": {...}}
    run({"grader": {...}, "item": {...}, "model_sample": "..."})    -> {"reward": 1.0, "metadata": {...}, ...}

One difference: if a grader fails, OpenAI's `reward` is 0, and rft's is null.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Any

from rft.grading.foreign.openai_spec.faults import SpecError, error_flags
from rft.grading.foreign.openai_spec.outcome import Case, Outcome, Services
from rft.grading.foreign.openai_spec.sample import sample_of_text


def validate(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer `POST /graders/validate`.

    Args:
        request: `{"grader": {...}}`.

    Returns:
        The grader as parsed, with names and defaults filled in.

    Raises:
        SpecError: The grader is invalid; the message lists all problems.
    """
    from rft.grading.foreign.openai_spec.parsing import parse_grader

    _require(request, {"grader": dict})
    grader = parse_grader(request["grader"], "$.grader")
    return {"grader": grader.model_dump(mode="json", exclude_none=True)}


def run(request: Mapping[str, Any], *, services: Services | None = None) -> dict[str, Any]:
    """Answer `POST /graders/run`. Inside a running event loop, use `arun`."""
    return asyncio.run(arun(request, services=services))


async def arun(request: Mapping[str, Any], *, services: Services | None = None) -> dict[str, Any]:
    """Answer `POST /graders/run`.

    Args:
        request: `{"grader": {...}, "item": {...}, "model_sample": "..."}`; the item is optional.
        services: Judge, sandbox and other services; None uses those that the environment names.

    Returns:
        `reward` (null if the grader failed), `sub_rewards`, `model_grader_token_usage_per_model`, `metadata`.

    Raises:
        SpecError: The request is invalid; the message lists all problems.
    """
    from rft.grading.foreign.openai_spec.evaluate import evaluate
    from rft.grading.foreign.openai_spec.parsing import parse_grader

    _require(request, {"grader": dict, "model_sample": str}, {"item": dict})
    grader = parse_grader(request["grader"], "$.grader")
    sample = sample_of_text(request["model_sample"])
    case = Case(sample=sample.as_dict(), item=request.get("item") or {}, trace_id=uuid.uuid4().hex)
    started = time.perf_counter()
    outcome = await evaluate(grader, case, services or Services())
    scores = {key: part.value for key, part in outcome.parts.items()}
    usage = {model: dict(tokens) for model, tokens in outcome.usage.items()}
    return {
        "reward": outcome.value,
        "sub_rewards": scores,
        "model_grader_token_usage_per_model": usage,
        "metadata": {
            "name": grader.name,
            "type": grader.type,
            "execution_time": time.perf_counter() - started,
            "scores": scores,
            "token_usage": _total(outcome),
            "sampled_model_name": outcome.model,
            "errors": error_flags(outcome.faults),
        },
    }


def _total(outcome: Outcome) -> int | None:
    """Return the tokens of all calls; None if no judge was called."""
    totals = [tokens.get("total_tokens", 0) for tokens in outcome.usage.values()]
    return sum(totals) if totals else None


def _require(request: Any, needed: Mapping[str, type], optional: Mapping[str, type] | None = None) -> None:
    if not isinstance(request, Mapping):
        raise SpecError([f"$: {request!r:.80} is not a JSON object"])
    known = {**needed, **(optional or {})}
    problems = [f"$.{key}: missing" for key in needed if key not in request]
    problems += [f"$.{key}: unknown key; the keys are {', '.join(known)}" for key in request if key not in known]
    for key, kind in known.items():
        value = request.get(key)
        if key in request and not isinstance(value, kind) and not (value is None and key not in needed):
            problems.append(f"$.{key}: {value!r:.80} is not {'a text' if kind is str else 'a JSON object'}")
    if problems:
        raise SpecError(problems)
