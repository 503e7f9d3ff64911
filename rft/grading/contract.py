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

Arguments are passed by name (`rft.grading.binding` has the list). A grader returns a finite number or a bool, a
`Score`, or None to decline. Whatever else it returns, and whatever it raises, is a grader error: no value, never a
zero.

It is called once per completion; one marked `per_group` once per group, and returns a list, in order of index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def per_group(function: Function) -> Function:
    """Mark a function as a grader of whole groups. A dataclass says `per_group = True` in its body instead."""
    function.per_group = True  # type: ignore[attr-defined]
    return function


def is_per_group(target: object) -> bool:
    """Whether a function or a dataclass is marked as a grader of whole groups."""
    return getattr(target, "per_group", False) is True


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
    call: Callable[..., Any]
    """The function, or the dataclass's `grade`, with its options filled in."""
    takes: tuple[str, ...]
    """Names of the arguments that it is called with."""
    per_group: bool
    """Whether one call grades a whole group."""
    use: str
    """What the configuration names, for the provenance."""
    file: str
    """The file that holds it."""
    sha256: str
    """Hash of that file, 64 hexadecimal digits, for the provenance."""
