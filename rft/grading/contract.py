"""What a grader is.

Either a plain function, sync or async:

    def concise(completion, task):
        return len(completion) < 400

or a frozen dataclass whose fields are its options, with a method `grade`, sync or async:

    @dataclass(frozen=True, kw_only=True)
    class Concise:
        max_chars: int = 400
        \"\"\"Longest completion that still scores 1.\"\"\"

        def grade(self, completion, task):
            return len(completion) <= self.max_chars

Arguments are passed by name (`rft.grading.loading.binding` has the list). A grader returns a finite number or a bool, a
`Score`, or None to decline. Whatever else it returns, and whatever it raises, is a grader error: no value, never a
zero.

It is called once per completion; one marked `per_group` once per group, and returns a list, in order of index.

Where it runs: an async grader on the event loop, a sync one in a worker process, which is killed at the deadline. What
cannot take long, whatever the model wrote, may say `in_process = True` and saves the way there; what is async but
computes says `in_process = False`. `deterministic = True` says that the same input always gets the same score, so that
it may be cached. Both are attributes of the function, or of the dataclass (no fields; a property will do). A method
`warm_up` without arguments, where there is one, is called once before the first worker process is forked: for imports
that take seconds.
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
    """Mark a function as a grader of whole groups. A dataclass says `per_group = True` in its body instead."""
    function.per_group = True  # type: ignore[attr-defined]
    return function


def is_per_group(target: object) -> bool:
    """Whether a function or a dataclass is marked as a grader of whole groups."""
    return getattr(target, "per_group", False) is True


def is_in_process(call: Callable[..., Any], target: object) -> bool:
    """Whether a grader runs in this process: as it declares itself, or else where it is async.

    Args:
        call: What is called; a dataclass's bound `grade`, so that a property can depend on the options.
        target: The function or dataclass that the configuration names.
    """
    declared = getattr(getattr(call, "__self__", target), "in_process", None)
    return declared if isinstance(declared, bool) else inspect.iscoroutinefunction(call)


def is_deterministic(call: Callable[..., Any], target: object) -> bool:
    """Whether a grader declares that the same input always gets the same score."""
    return getattr(getattr(call, "__self__", target), "deterministic", False) is True


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedGrader:
    """A grader, checked and ready to call.

    Example:
        LoadedGrader(name="concise", weight=0.2, timeout_s=30.0, call=concise, takes=("completion",), per_group=False,
                     use="my_graders.py:concise", file="/home/ada/my_graders.py", sha256="9b2e51c0...")
    """

    name: str
    """Its key in the configuration."""
    weight: float
    """Its share in the reward; 0 means that it is only monitored."""
    timeout_s: float
    """Seconds that one call may take."""
    retries: int = 0
    """How often a call that failed (grader error, timeout) is made again."""
    max_concurrency: int | None = None
    """Its calls at a time; None: as many as the panel allows."""
    range: tuple[float, float] | None = None
    """Lowest and highest score; a score outside is a grader error."""
    clip: bool = False
    """Whether a score outside of the range is moved to its border instead."""
    is_cached: bool = False
    """Whether its scores are kept in the panel's cache."""
    call: Callable[..., Any]
    """The function, or the dataclass's `grade`, with its options filled in."""
    takes: tuple[str, ...]
    """Names of the arguments that it is called with."""
    per_group: bool
    """Whether one call grades a whole group."""
    in_process: bool = False
    """Whether it is called in this process rather than in a worker process."""
    entry: Mapping[str, Any] | None = None
    """Its entry in the configuration, from which a worker process loads it again; without one it runs in process."""
    use: str
    """What the configuration names, for the provenance."""
    file: str
    """The file that holds it."""
    sha256: str
    """Hash of that file, 64 hexadecimal digits, for the provenance."""

    @property
    def runs_in_worker(self) -> bool:
        """Whether it runs in a worker process."""
        return self.entry is not None and not self.in_process
