"""Judging a program by test cases, such that it can pass only by being right.

The expected values never enter the program's process. Inputs go in; outputs come back as JSON, one line a case, after a
nonce; they are compared here, type by type. Whether the program "succeeded" by its own account (its exit code, what it
prints, an object that is equal to everything) plays no part, and a case that did not come back is a case failed.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from rft.grading.sandbox.limits import Limits, SandboxResult
from rft.grading.sandbox.run import Sandbox

_HARNESS = r"""
def harness():
    import json, os, sys
    dumps, write, end = json.JSONEncoder(allow_nan=False).encode, os.write, os._exit
    nonce, code, entry_point, cases = json.loads(sys.stdin.read())
    channel = os.dup(1)
    os.dup2(2, 1)  # what the program prints is no result
    def say(record):
        line = (nonce + dumps(record) + "\n").encode()
        while line:
            line = line[write(channel, line):]
    names = {"__name__": "solution"}
    exec(compile(code, "<solution>", "exec", dont_inherit=True), names)
    first, *rest = entry_point.split(".")
    for index, case in enumerate(cases):
        try:
            call = names[first]
            for name in rest:
                call = getattr(call() if isinstance(call, type) else call, name)
            say([index, True, call(*json.loads(case))])
        except BaseException as error:
            say([index, False, type(error).__name__ + ": " + str(error)[:200]])
    end(0)  # all is said, and to take the interpreter down in order takes longer than to fork it
harness()
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call came to: a value, or the reason why there is none."""

    value: Any = None
    """What came back, as JSON has it (a tuple is a list)."""
    error: str = ""
    """Why nothing came back; empty where something did."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The verdict on one test case."""

    passed: bool
    """Whether the output was the expected one."""
    reason: str = ""
    """Why not, in words, without the expected value."""


def call_function(
    sandbox: Sandbox, code: str, entry_point: str, arguments: Sequence[Sequence[Any]], *, limits: Limits
) -> list[Outcome]:
    """Call a function of a program once for each list of arguments, all in one process.

    Args:
        sandbox: Where.
        code: The program, Python; `__name__` is not `__main__` in it.
        entry_point: The function, as `f`, or `Solution.f` for a method of an object made without arguments.
        arguments: `[N]` lists of arguments, as JSON has them.
        limits: For all calls together.

    Returns:
        `[N]` outcomes. After a call that hangs or ends the process, that one and all after it have no value.

    Raises:
        SandboxError: The program could not be started.
    """
    nonce = secrets.token_hex(16)
    order = json.dumps([nonce, code, entry_point, [json.dumps(list(each)) for each in arguments]])
    result = sandbox.run(_HARNESS, order, limits=limits)
    lines = [line[len(nonce) :] for line in result.stdout.split("\n") if line.startswith(nonce)]
    if result.truncated:
        lines = lines[:-1]  # cut off in the middle
    records = [_record(line) for line in lines]
    if [record[0] for record in records] != list(range(len(records))) or len(records) > len(arguments):
        return [Outcome(error="the results did not come back one by one, in order")] * len(arguments)
    outcomes = [Outcome(value=value) if returned else Outcome(error=str(value)) for _, returned, value in records]
    return outcomes + [Outcome(error=why_ended(result))] * (len(arguments) - len(outcomes))


def judge_function(
    sandbox: Sandbox,
    code: str,
    entry_point: str,
    cases: Sequence[tuple[Sequence[Any], Any]],
    *,
    limits: Limits,
    same: Callable[[Any, Any], bool] | None = None,
) -> list[CaseResult]:
    """Judge a function by pairs of arguments and expected value.

    Args:
        sandbox: Where.
        code: The program.
        entry_point: The function, as for `call_function`.
        cases: `[N]` pairs.
        limits: For all cases together.
        same: Whether a value is the expected one, which is the first argument; None for `is_same`.

    Returns:
        `[N]` verdicts.

    Raises:
        SandboxError: The program could not be started.
    """
    outcomes = call_function(sandbox, code, entry_point, [arguments for arguments, _ in cases], limits=limits)
    same, results = same or is_same, []
    for outcome, (_, expected) in zip(outcomes, cases, strict=True):
        passed = not outcome.error and same(expected, outcome.value)
        results.append(CaseResult(passed, "" if passed else outcome.error or "another value than expected"))
    return results


def judge_program(
    sandbox: Sandbox,
    code: str,
    cases: Sequence[tuple[str, str]],
    *,
    limits: Limits,
    tolerance: float | None = None,
) -> list[CaseResult]:
    """Judge a program by pairs of stdin and expected stdout, each in a process of its own.

    White space at the ends of lines and of the output does not count. It must also end with exit code 0.

    Args:
        sandbox: Where.
        code: The program.
        cases: `[N]` pairs.
        limits: For each case; `wall_s` is for all cases together.
        tolerance: By how much a printed number may differ, relative to it; None compares texts, where 3.0 is not 3.

    Returns:
        `[N]` verdicts. A case for which no time is left has failed.

    Raises:
        SandboxError: The program could not be started.
    """
    left_s, results = limits.wall_s, []
    for stdin, expected in cases:
        if left_s <= 0:
            results.append(CaseResult(False, "no time was left"))
            continue
        result = sandbox.run(code, stdin, limits=replace(limits, wall_s=left_s))
        left_s -= limits.wall_s if result.timed_out else result.seconds
        ended_well = result.exit_code == 0 and not result.truncated and not result.timed_out
        passed = ended_well and _is_same_output(expected, result.stdout, tolerance)
        reason = "another output than expected" if ended_well else why_ended(result)
        results.append(CaseResult(passed, "" if passed else reason))
    return results


def is_same(expected: Any, got: Any, tolerance: float = 0.0, by_value: bool = False) -> bool:
    """Compare two values from JSON: True is not 1, 1.0 is not 1 where an integer is expected, nor is "1".

    Args:
        expected: The value to have.
        got: The value that came back.
        tolerance: By how much a number may differ where the expected one is not an integer, absolute or relative.
        by_value: Whether numbers are compared as Python's `==` does: 1.0 is 1, and so is True.
    """
    if by_value and isinstance(expected, int) and type(got) in (bool, int, float):
        return bool(expected == got)
    if isinstance(expected, float) and type(got) in (int, float):
        try:
            return got == expected or math.isclose(got, expected, rel_tol=tolerance, abs_tol=tolerance)
        except OverflowError:  # an integer too large for a float
            return False
    if type(expected) is not type(got):
        return False
    if isinstance(expected, list):
        pairs = zip(expected, got, strict=False)
        return len(expected) == len(got) and all(is_same(*pair, tolerance, by_value) for pair in pairs)
    if isinstance(expected, dict):
        return expected.keys() == got.keys() and all(
            is_same(expected[key], got[key], tolerance, by_value) for key in expected
        )
    return bool(expected == got)


def _record(line: str) -> tuple[Any, bool, Any]:
    """Read a line that came back; what is no record gets a number that no case has."""
    try:
        index, returned, value = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return None, False, "a line that is no record"
    return (index if type(index) is int else None), returned is True, value


def why_ended(result: SandboxResult) -> str:
    """Say how a program ended."""
    if result.timed_out:
        return "the time was up"
    if result.truncated:
        return "it printed too much"
    last = result.stderr_tail.strip().rpartition("\n")[2][:200]
    return f"the program ended with exit code {result.exit_code}{f': {last}' if last else ''}"


def _is_same_output(expected: str, got: str, tolerance: float | None) -> bool:
    if tolerance is None:
        return _lines(expected) == _lines(got)
    wanted, lines = ([line.split() for line in _lines(text.strip())] for text in (expected, got))
    return [len(words) for words in wanted] == [len(words) for words in lines] and all(
        _is_same_word(one, other, tolerance)
        for words, others in zip(wanted, lines, strict=True)
        for one, other in zip(words, others, strict=True)
    )


def _is_same_word(expected: str, got: str, tolerance: float) -> bool:
    if expected == got:
        return True
    try:
        wanted, number = Decimal(expected), Decimal(got)
    except InvalidOperation:
        return False
    if not (wanted.is_finite() and number.is_finite()):
        return False
    return wanted == number or math.isclose(float(wanted), float(number), rel_tol=tolerance, abs_tol=tolerance / 1000)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]
