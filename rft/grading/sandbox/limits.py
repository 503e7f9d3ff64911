"""What a program may use up, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rft.errors import RftError


class SandboxError(RftError):
    """There is no sandbox to run a program in. The grader's failure, never the model's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may use up.

    Raises:
        ValueError: A limit is not a positive, finite number; the message names all that are not.
    """

    wall_s: float = 10.0
    """Seconds by the clock, starting up not counted."""
    cpu_s: int = 10
    """Seconds of processor time, each process of the program for itself."""
    memory_mb: int = 1024
    """Address space of each process, MiB. It ends in a MemoryError."""
    output_bytes: int = 1 << 20
    """What it may print; more ends it. Holds for stdout and stderr each."""
    file_mb: int = 64
    """The largest file that it may write, MiB; with namespaces also all its files together."""
    processes: int = 1
    """How many processes it may be at a time. 1 forbids further ones from rung 1 on; threads it may always have."""

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in self.__slots__}
        wrong = [f"{name} is {value!r}" for name, value in values.items() if not 0 < value < math.inf]
        wrong += [
            f"{name} is {value!r}, not an integer"
            for name, value in values.items()
            if name != "wall_s" and not isinstance(value, int)
        ]
        if wrong:
            raise ValueError(f"limits must be positive and finite, all but wall_s integers: {'; '.join(wrong)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxResult:
    r"""What came of a program. Nothing in it can be trusted, except that the limits were kept.

    Example:
        SandboxResult(stdout="4\n", stderr_tail="", exit_code=0, timed_out=False, truncated=False, rung=2,
                      seconds=0.02)
    """

    stdout: str
    """What it printed, up to the limit; bytes that are no UTF-8 are replaced."""
    stderr_tail: str
    """The last 4000 bytes of stderr, for messages."""
    exit_code: int
    """Its exit code; minus the signal's number where a signal ended it. 0 proves nothing."""
    timed_out: bool
    """Whether it used up its seconds."""
    truncated: bool
    """Whether it was ended for printing too much."""
    rung: int
    """The rung that it ran at."""
    seconds: float
    """How long it ran, starting up not counted."""
