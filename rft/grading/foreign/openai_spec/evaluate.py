"""Runs a grader of any type on one completion, including multi graders, which combine the scores of several graders.

A completion that is itself at fault gets the grader's minimum: the lower end of a score_model's range, otherwise 0. A
multi grader combines these minimums like other scores, unless it has an `invalid_grade`. If one of its graders has no
value, the multi grader has none.
"""

from __future__ import annotations

import asyncio
import traceback

from rft.grading.foreign.openai_spec import endpoint, models, python_grader, string_check, text_similarity
from rft.grading.foreign.openai_spec.faults import Fault, Flag
from rft.grading.foreign.openai_spec.outcome import Case, Outcome, Services
from rft.grading.foreign.openai_spec.spec import (
    Endpoint,
    Grader,
    LabelModel,
    Multi,
    Python,
    ScoreModel,
    StringCheck,
    TextSimilarity,
)


async def evaluate(spec: Grader, case: Case, services: Services, fault: Fault | None = None) -> Outcome:
    """Run a grader. Never raises an error of the grader; the outcome contains it.

    Args:
        spec: The grader.
        case: The completion and its task.
        services: The services of the grader.
        fault: The reason why the completion cannot be graded, or None.
    """
    try:
        if isinstance(spec, Multi):
            return await _multi(spec, case, services, fault)
        if fault is not None:
            raise fault
        return await _leaf(spec, case, services)
    except Fault as raised:
        value = spec.minimum if raised.status.has_value else None
        return Outcome(value=value, fault=raised, usage=raised.usage, model=getattr(spec, "model", None))
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {str(error)[:300]} ({frame.name}, line {frame.lineno})"
        return Outcome(value=None, fault=Fault(Flag.OTHER_ERROR, detail))


async def _leaf(spec: Grader, given: Case, services: Services) -> Outcome:
    match spec:
        case StringCheck():
            return await string_check.grade(spec, given)
        case TextSimilarity():
            return await text_similarity.grade(spec, given, services)
        case ScoreModel():
            return await models.score(spec, given, services)
        case LabelModel():
            return await models.label(spec, given, services)
        case Python():
            return await python_grader.grade(spec, given, services)
        case Endpoint():
            return await endpoint.grade(spec, given, services)
    raise TypeError(f"no grader runs a {type(spec).__name__}")


async def _multi(spec: Multi, case: Case, services: Services, fault: Fault | None) -> Outcome:
    outcomes = await asyncio.gather(*(evaluate(part, case, services, fault) for part in spec.graders.values()))
    parts = dict(zip(spec.graders, outcomes, strict=True))
    values = {key: part.value for key, part in parts.items() if part.value is not None}
    usage: dict[str, dict[str, int]] = {}
    for part in outcomes:
        for model, tokens in part.usage.items():
            total = usage.setdefault(model, {})
            for name, count in tokens.items():
                total[name] = total.get(name, 0) + count
    value, formula_fault = None, None
    if fault is not None and fault.status.has_value and spec.invalid_grade is not None:
        value = spec.invalid_grade
    elif len(values) == len(parts):
        try:
            value = spec.calculate_output.evaluate(values)
        except Fault as raised:
            formula_fault = raised
    return Outcome(value=value, fault=formula_fault, usage=usage, parts=parts)
