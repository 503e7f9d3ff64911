"""Failures of samplers: their causes in words, and which of them a new sampler in the same place mends."""

from __future__ import annotations

import re
from typing import Any

from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from rft.errors import RftError, SampleError, ServerLost

_PYDANTIC_LINK = "For further information visit https://errors.pydantic.dev/"
_PYDANTIC_INPUT = re.compile(r" \[type=\w+, input_value=.*\]$")

GO_ON = "continue from the last checkpoint with resume=<run folder>"
"""Remedy for a lost actor."""


def cause(error: Any) -> str:
    """Return the last line of a failure, its cause; Ray puts the traceback before it.

    Pydantic, which checks vLLM's arguments, appends a link and the input to the cause.
    """
    lines = [line.strip() for line in str(error).strip().splitlines() if not line.strip().startswith(_PYDANTIC_LINK)]
    return _PYDANTIC_INPUT.sub("", lines[-1])


def explain(error: BaseException) -> str:
    """Return the failure of an actor in words: rft's own message, or Ray's cause."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, RftError):
        return str(error.cause)
    return cause(error)


def is_loss(error: BaseException) -> bool:
    """Whether a sampler's process or node died, or its server was lost.

    An exception that the engine raised would be raised by a new engine, too, so it is no loss.
    """
    if isinstance(error, RayTaskError):
        return isinstance(error.cause, ServerLost)
    return isinstance(error, RayActorError | NodeDiedError | WorkerCrashedError | OutOfMemoryError | ObjectLostError)


def is_without_weights(error: BaseException) -> bool:
    """Whether a sampler could not fetch the weights of a policy because their owner, the learner, is gone."""
    return isinstance(error, ObjectLostError) or isinstance(getattr(error, "cause", None), ObjectLostError)


def loss(name: str, error: BaseException) -> str:
    """Describe the loss of a sampler."""
    return f"{name} is gone: {explain(error)}"


def failure(name: str, error: BaseException) -> RftError:
    """Return the error of a sampler that failed without being lost: rft's own, or its name and the cause."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, RftError):
        return error.cause
    failed = SampleError(f"{name} failed: {cause(error)}")
    failed.__cause__ = error
    return failed
