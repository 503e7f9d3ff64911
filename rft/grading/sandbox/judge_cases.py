"""Judges a program by test cases, so only a correct program passes.

The program's process never receives the expected values. It receives the inputs and returns the outputs as JSON, one
line per case, after a nonce; this process compares them with their types. Exit codes, printed messages and objects
that equal every object have no effect. A case without an output fails.
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
    os.dup2(2, 1)  # printed text is no result
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
    end(0)  # without the interpreter's shutdown, which takes longer than its fork
harness()
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a call: a value, or the reason for its absence."""

    value: Any = None
    """The value as JSON holds it (a tuple becomes a list)."""
    error: str = ""
    """The reason for a missing value; empty otherwise."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The verdict on one test case."""

    passed: bool
    """Whether the output equals the expected output."""
    reason: str = ""
    """The reason of a failure, without the expected value."""


def call_function(
    sandbox: Sandbox, code: str, entry_point: str, arguments: Sequence[Sequence[Any]], *, limits: Limits
) -> list[Outcome]:
    """Call a function of a program once for each list of arguments, in one process.

    Args:
        sandbox: Runs the program.
        code: The program in Python; its `__name__` is not `__main__`.
        entry_point: The function, as `f`, or `Solution.f` for a method of an object that is made without arguments.
        arguments: `[N]` lists of arguments, as JSON holds them.
        limits: Limits for all calls together.

    Returns:
        `[N]` outcomes. After a call that hangs or ends the process, this call and all later calls have no value.

    Raises:
        SandboxError: The process could not be started.
    """
    nonce = secrets.token_hex(16)
    order = json.dumps([nonce, code, entry_point, [json.dumps(list(each)) for each in arguments]])
    result = sandbox.run(_HARNESS, order, limits=limits)
    lines = [line[len(nonce) :] for line in result.stdout.split("\n") if line.startswith(nonce)]
    if result.truncated:
        lines = lines[:-1]  # an incomplete last line
    records = [_record(line) for line in lines]
    if [record[0] for record in records] != list(range(len(records))) or len(records) > len(arguments):
        return [Outcome(error="the results did not arrive in order")] * len(arguments)
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
    """Judge a function by pairs of arguments and an expected value.

    Args:
        sandbox: Runs the program.
        code: The program.
        entry_point: The function, as for `call_function`.
        cases: `[N]` pairs.
        limits: Limits for all cases together.
        same: Compares the expected value (first) with a value; None uses `is_same`.

    Returns:
        `[N]` verdicts.

    Raises:
        SandboxError: The process could not be started.
    """
    outcomes = call_function(sandbox, code, entry_point, [arguments for arguments, _ in cases], limits=limits)
    same, results = same or is_same, []
    for outcome, (_, expected) in zip(outcomes, cases, strict=True):
        passed = not outcome.error and same(expected, outcome.value)
        results.append(CaseResult(passed, "" if passed else outcome.error or "the value differs from the expected one"))
    return results


def judge_program(
    sandbox: Sandbox,
    code: str,
    cases: Sequence[tuple[str, str]],
    *,
    limits: Limits,
    tolerance: float | None = None,
) -> list[CaseResult]:
    """Judge a program by pairs of stdin and expected stdout, with one process per case.

    Whitespace at the ends of lines and of the output is ignored. The program must end with exit code 0.

    Args:
        sandbox: Runs the program.
        code: The program.
        cases: `[N]` pairs.
        limits: Limits of each case; `wall_s` holds for all cases together.
        tolerance: Relative difference that a printed number may have; None compares texts, so 3.0 is not 3.

    Returns:
        `[N]` verdicts. A case fails if no time is left for it.

    Raises:
        SandboxError: The process could not be started.
    """
    left_s, results = limits.wall_s, []
    for stdin, expected in cases:
        if left_s <= 0:
            results.append(CaseResult(False, "no time is left"))
            continue
        result = sandbox.run(code, stdin, limits=replace(limits, wall_s=left_s))
        left_s -= limits.wall_s if result.timed_out else result.seconds
        ended_well = result.exit_code == 0 and not result.truncated and not result.timed_out
        passed = ended_well and _is_same_output(expected, result.stdout, tolerance)
        reason = "the output differs from the expected one" if ended_well else why_ended(result)
        results.append(CaseResult(passed, "" if passed else reason))
    return results


def is_same(expected: Any, got: Any, tolerance: float = 0.0, by_value: bool = False) -> bool:
    """Compare two values from JSON. True is not 1, "1" is not 1, and 1.0 is not 1 if an integer is expected.

    Args:
        expected: The expected value.
        got: The returned value.
        tolerance: Absolute or relative difference of a number, unless an integer is expected.
        by_value: Whether numbers are compared as by Python's `==`: 1.0 and True equal 1.
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
    """Parse a line of the program; an invalid line gets an index that no case has."""
    try:
        index, returned, value = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return None, False, "an invalid line"
    return (index if type(index) is int else None), returned is True, value


def why_ended(result: SandboxResult) -> str:
    """Describe how a program ended."""
    if result.timed_out:
        return "the program reached its time limit"
    if result.truncated:
        return "the program reached its output limit"
    last = result.stderr_tail.strip().rpartition("\n")[2][:200]
    return f"the program ended with exit code {result.exit_code}{f': {last}' if last else ''}"


def _is_same_output(expected: str, got: str, tolerance: float | None) -> bool:
    if tolerance is None:
        return _lines(expected) == _lines(got)
    expected_lines, lines = ([line.split() for line in _lines(text.strip())] for text in (expected, got))
    return [len(words) for words in expected_lines] == [len(words) for words in lines] and all(
        _is_same_word(word, other, tolerance)
        for words, others in zip(expected_lines, lines, strict=True)
        for word, other in zip(words, others, strict=True)
    )


def _is_same_word(expected: str, got: str, tolerance: float) -> bool:
    if expected == got:
        return True
    try:
        expected_number, number = Decimal(expected), Decimal(got)
    except InvalidOperation:
        return False
    if not (expected_number.is_finite() and number.is_finite()):
        return False
    close = math.isclose(float(expected_number), float(number), rel_tol=tolerance, abs_tol=tolerance / 1000)
    return expected_number == number or close


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]
