"""Running a grader on one completion: any of the types, and multi, which runs several and calculates with their scores.

What is the model's fault is graded with the grader's minimum: the lower end of a score_model's range, else 0. A multi
grader calculates with these minimums like with any score, unless it has an `invalid_grade`. A grader without a value
leaves it without one too.
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
    """Run a grader. Never raises for what goes wrong in it; that is in the outcome.

    Args:
        spec: The grader.
        case: What it grades.
        services: What it needs for that.
        fault: Why the completion cannot be graded, or None.
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
    value, own_fault = None, None
    if fault is not None and fault.status.has_value and spec.invalid_grade is not None:
        value = spec.invalid_grade
    elif len(values) == len(parts):
        try:
            value = spec.calculate_output.evaluate(values)
        except Fault as raised:
            own_fault = raised
    return Outcome(value=value, fault=own_fault, usage=usage, parts=parts)
