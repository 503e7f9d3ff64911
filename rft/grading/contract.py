"""The definition of a grader.

A grader is a function, sync or async:

    def concise(completion, task):
        return len(completion) < 400

or a frozen dataclass with a method `grade`, sync or async; its fields are its options:

    @dataclass(frozen=True, kw_only=True)
    class Concise:
        max_chars: int = 400
        \"\"\"Longest completion that still scores 1.\"\"\"

        def grade(self, completion, task):
            return len(completion) <= self.max_chars

Arguments are passed by name (`rft.grading.loading.binding` lists them). A grader returns a finite number, a bool, a
`Score`, or None to decline. Any other result and any exception is a grader error: the completion gets no score, never
a zero.

A grader is called once per completion. A grader marked `per_group` is called once per group and returns a list in order
of index.

An async grader runs on the event loop. A sync grader runs in a worker process, which is killed at the deadline. A sync
grader that is fast for any completion may set `in_process = True` and avoid the worker; an async grader that computes
sets `in_process = False`. `deterministic = True` declares that equal inputs get equal scores, so scores may be cached.
All three are attributes of the function or of the dataclass (properties, not fields). An optional method `warm_up`
without arguments is called once before the first worker process is forked, for slow imports.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

RFT_STYLE = "rft"
"""The style of the graders described here; `rft.grading.foreign.styles` has the styles of other systems."""


def per_group(function: Function) -> Function:
    """Mark a function as a grader of whole groups. A dataclass sets `per_group = True` in its body instead."""
    function.per_group = True  # type: ignore[attr-defined]
    return function


def is_per_group(target: object) -> bool:
    """Whether a function or a dataclass is marked as a grader of whole groups."""
    return getattr(target, "per_group", False) is True


def is_in_process(call: Callable[..., Any], target: object) -> bool:
    """Whether a grader runs in this process: as it declares, otherwise if it is async.

    Args:
        call: The callable; for a dataclass its bound `grade`, because a property may depend on the options.
        target: The function or dataclass that the configuration names.
    """
    declared = getattr(getattr(call, "__self__", target), "in_process", None)
    return declared if isinstance(declared, bool) else inspect.iscoroutinefunction(call)


def is_deterministic(call: Callable[..., Any], target: object) -> bool:
    """Whether a grader declares that the same input always gets the same score."""
    return getattr(getattr(call, "__self__", target), "deterministic", False) is True


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedGrader:
    """A grader that is checked and ready to call.

    Example:
        LoadedGrader(name="concise", weight=0.2, timeout_s=30.0, call=concise, takes=("completion",), per_group=False,
                     use="my_graders.py:concise", file="/home/ada/my_graders.py", sha256="9b2e51c0...")
    """

    name: str
    """Its key in the configuration."""
    weight: float
    """Factor of its score in the reward; a grader of weight 0 is only monitored."""
    timeout_s: float
    """Deadline of one call in seconds."""
    retries: int = 0
    """Maximum number of repetitions of a failed call (grader error or timeout)."""
    max_concurrency: int | None = None
    """Maximum number of concurrent calls; None uses the panel's limit."""
    range: tuple[float, float] | None = None
    """Lowest and highest score; a score outside is a grader error."""
    clip: bool = False
    """Whether a score outside the range is moved to the nearer end."""
    is_cached: bool = False
    """Whether the panel's cache keeps its scores."""
    call: Callable[..., Any]
    """The function, or the dataclass's `grade`, with its options filled in."""
    takes: tuple[str, ...]
    """Names of its arguments."""
    per_group: bool
    """Whether one call grades a whole group."""
    in_process: bool = False
    """Whether it is called in this process instead of a worker process."""
    entry: Mapping[str, Any] | None = None
    """Its entry in the configuration, from which a worker process loads it again; None keeps it in this process."""
    use: str
    """The value of `use`, for the provenance."""
    file: str
    """The grader's file."""
    sha256: str
    """SHA-256 of the file, 64 hexadecimal digits, for the provenance."""

    @property
    def model_fingerprint(self) -> str | None:
        """Hash of the files of the grader's model; None without a model."""
        return getattr(getattr(self.call, "__self__", None), "model_fingerprint", None)

    @property
    def runs_in_worker(self) -> bool:
        """Whether it runs in a worker process."""
        return self.entry is not None and not self.in_process
