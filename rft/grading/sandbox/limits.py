"""The limits of a program, and its result."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rft.errors import RftError


class SandboxError(RftError):
    """No sandbox can run the program. A fault of the grader, never of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a program.

    Raises:
        ValueError: A limit is not a positive, finite number; the message names all of them.
    """

    wall_s: float = 10.0
    """Wall-clock time in seconds, without the start."""
    cpu_s: int = 10
    """Processor time of each process in seconds."""
    memory_mb: int = 1024
    """Address space of each process in MiB; a program that exceeds it gets a MemoryError."""
    output_bytes: int = 1 << 20
    """Maximum output, for stdout and stderr each; more output ends the program."""
    file_mb: int = 64
    """Maximum size of a file in MiB; with namespaces, of all files together."""
    processes: int = 1
    """Maximum number of processes. With 1, rungs 1 and 2 allow no further process; threads are always allowed."""

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in self.__slots__}
        wrong = [f"{name} is {value!r}" for name, value in values.items() if not 0 < value < math.inf]
        wrong += [
            f"{name} is {value!r}, not an integer"
            for name, value in values.items()
            if name != "wall_s" and not isinstance(value, int)
        ]
        if wrong:
            raise ValueError(
                f"limits must be positive and finite; all except wall_s must be integers: {'; '.join(wrong)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxResult:
    r"""The result of a program. Nothing in it can be trusted, except that the limits were enforced.

    Example:
        SandboxResult(stdout="4\n", stderr_tail="", exit_code=0, timed_out=False, truncated=False, rung=2,
                      seconds=0.02)
    """

    stdout: str
    """The output up to the limit; invalid UTF-8 is replaced."""
    stderr_tail: str
    """The last 4000 bytes of stderr, for messages."""
    exit_code: int
    """The exit code; minus the signal's number if a signal ended the program. 0 proves nothing."""
    timed_out: bool
    """Whether the program reached its time limit."""
    truncated: bool
    """Whether the program reached its output limit."""
    rung: int
    """The rung of the run."""
    seconds: float
    """Duration without the start."""
