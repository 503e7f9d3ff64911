"""string_check: exact comparison without trimming or Unicode normalisation, which OpenAI does not document.

    eq      input equals reference            ne      it does not
    like    input contains reference          ilike   the same, case ignored (`str.casefold`); no `%` wildcards

Every text contains an empty reference. If the completion made the reference empty, the completion has no answer;
otherwise the task is at fault.
"""

from __future__ import annotations

from rft.grading.foreign.openai_spec.faults import Fault, Flag
from rft.grading.foreign.openai_spec.outcome import Case, Outcome
from rft.grading.foreign.openai_spec.spec import StringCheck
from rft.types import Status


async def grade(spec: StringCheck, case: Case) -> Outcome:
    """Compare the two texts.

    Raises:
        Fault: A variable is missing, or `like` has an empty reference.
    """
    text = spec.input.render(case.sample, case.item)
    reference = spec.reference.render(case.sample, case.item)
    if spec.operation in ("eq", "ne"):
        return Outcome(value=float((text == reference) is (spec.operation == "eq")))
    if not reference:
        detail = f"the reference is empty, and '{spec.operation}' matches it in every text"
        is_the_models = spec.reference.uses_sample
        raise Fault(Flag.OTHER_ERROR, detail, Status.NO_ANSWER if is_the_models else Status.GRADER_ERROR)
    if spec.operation == "ilike":
        text, reference = text.casefold(), reference.casefold()
    return Outcome(value=float(reference in text))
