"""Errors in a grader's JSON (`SpecError`) and in the grading of one completion (`Fault`, one of eleven flags)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from rft.types import Status


class SpecError(ValueError):
    """An invalid grader or request, with all problems.

    Args:
        problems: One sentence each, beginning with a JSON path, as `$.graders.a.operation: 'neq' is ...`.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


class Flag(StrEnum):
    """The error flags of `/graders/run`."""

    FORMULA_PARSE_ERROR = "formula_parse_error"
    """`calculate_output` has no finite value for these scores."""
    SAMPLE_PARSE_ERROR = "sample_parse_error"
    """The completion does not follow `response_format`, or the grader cannot read it."""
    TRUNCATED_OBSERVATION_ERROR = "truncated_observation_error"
    """The completion was cut before its answer."""
    UNRESPONSIVE_REWARD_ERROR = "unresponsive_reward_error"
    """The grader missed its deadline."""
    INVALID_VARIABLE_ERROR = "invalid_variable_error"
    """A template names a missing variable."""
    OTHER_ERROR = "other_error"
    """Any other error."""
    PYTHON_GRADER_SERVER_ERROR = "python_grader_server_error"
    """The sandbox failed, or the program ended without a result."""
    PYTHON_GRADER_RUNTIME_ERROR = "python_grader_runtime_error"
    """`grade` raised, or returned a value that is not a finite number."""
    MODEL_GRADER_SERVER_ERROR = "model_grader_server_error"
    """The judge could not be reached after all retries."""
    MODEL_GRADER_REFUSAL_ERROR = "model_grader_refusal_error"
    """The judge refused."""
    MODEL_GRADER_PARSE_ERROR = "model_grader_parse_error"
    """The judge's reply has no verdict."""


_DETAILS = {
    Flag.PYTHON_GRADER_SERVER_ERROR: "python_grader_server_error_type",
    Flag.PYTHON_GRADER_RUNTIME_ERROR: "python_grader_runtime_error_details",
    Flag.MODEL_GRADER_SERVER_ERROR: "model_grader_server_error_details",
}
"""Three flags have a text in the response."""


class Fault(Exception):
    """A completion that could not be graded.

    Args:
        flag: The flag of the error.
        detail: The reason, in words.
        status: `no answer` and `invalid output` are faults of the model; any other status is a fault of the grader.
        usage: Tokens that were spent nevertheless, by model.
    """

    def __init__(
        self,
        flag: Flag,
        detail: str,
        status: Status = Status.GRADER_ERROR,
        usage: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self.flag = flag
        self.detail = detail
        self.status = status
        self.usage = usage or {}
        super().__init__(f"{flag}: {detail}")


def error_flags(faults: Iterable[Fault]) -> dict[str, Any]:
    """Return `metadata.errors` of `/graders/run`: eleven flags and three texts."""
    errors: dict[str, Any] = dict.fromkeys(Flag, False) | dict.fromkeys(_DETAILS.values())
    for fault in faults:
        errors[fault.flag] = True
        if fault.flag in _DETAILS:
            errors[_DETAILS[fault.flag]] = errors[_DETAILS[fault.flag]] or fault.detail
    return {str(name): value for name, value in errors.items()}
