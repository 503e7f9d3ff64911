"""Verdicts: what counts as equal, and what becomes of cases that do not come back."""

import pytest

from rft.grading.sandbox import Limits, Sandbox, call_function, judge_function, judge_program
from rft.grading.sandbox.judge_cases import is_same

SHORT = Limits(wall_s=60.0, cpu_s=2, memory_mb=512, output_bytes=20_000)
UNTIL_A_CASE_HANGS = Limits(wall_s=3.0)
"""The case before it is done within this time, however busy the machine is."""


@pytest.fixture(scope="module")
def sandbox():
    return Sandbox(allow_unsafe=True)


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        (1, 1, True),
        (1, True, False),
        (True, 1, False),
        (1, 1.0, False),
        (1, "1", False),
        (1.0, 1, True),
        (1.0, True, False),
        (0.3, 0.1 + 0.2, False),
        (1.5, 10**400, False),
        (None, None, True),
        (None, 0, False),
        ("a", "a", True),
        ([1, [2]], [1, [2]], True),
        ([1, 2], [1, 2, 3], False),
        ([1], [True], False),
        ({"a": [1]}, {"a": [1]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({}, [], False),
    ],
)
def test_strictly_the_same(expected, got, same):
    assert is_same(expected, got) is same


def test_a_tolerance_is_for_floats_only():
    assert is_same([0.3], [0.1 + 0.2], 1e-9) and is_same(2.0, 2 + 1e-10, 1e-9)
    assert not is_same(0.3, 0.31, 1e-9) and not is_same(3, 3.0, 0.5)


def test_a_function(sandbox):
    code = "def f(a, b=2):\n    print('noise')\n    return a / b, {'k': [a]}"
    cases = [([1], [0.5, {"k": [1]}]), ([1, 0], 0), ([3, 1], [3.0, {"k": [4]}])]
    results = judge_function(sandbox, code, "f", cases, limits=SHORT)
    assert [(result.passed, result.reason) for result in results] == [
        (True, ""),
        (False, "ZeroDivisionError: division by zero"),
        (False, "the value differs from the expected one"),
    ]


@pytest.mark.parametrize("entry_point", ["Solution.f", "made.f"])
def test_a_method(sandbox, entry_point):
    code = "class Solution:\n    def f(self, x):\n        return x + 1\nmade = Solution()"
    assert [result.value for result in call_function(sandbox, code, entry_point, [[1], [2]], limits=SHORT)] == [2, 3]


def test_a_program_that_hangs_loses_that_case_and_those_after_it(sandbox):
    code = "import time\ndef f(x):\n    if x == 1: time.sleep(1000)\n    return x"
    cases = [([0], 0), ([1], 1), ([2], 2)]
    results = judge_function(sandbox, code, "f", cases, limits=UNTIL_A_CASE_HANGS)
    assert [result.passed for result in results] == [True, False, False]
    assert results[1].reason == results[2].reason == "the program reached its time limit"


def test_code_that_cannot_even_start_fails_every_case(sandbox):
    for code in ("def f(:", "import nowhere", "def g(): pass"):
        results = judge_function(sandbox, code, "f", [([0], 0), ([1], 1)], limits=SHORT)
        assert [result.passed for result in results] == [False, False]


def test_a_result_cut_off_by_the_limit_does_not_count(sandbox):
    code = "def f(x):\n    return '1' * x"
    results = judge_function(sandbox, code, "f", [([3], "111"), ([30_000], "1" * 30_000)], limits=SHORT)
    assert [(result.passed, result.reason) for result in results] == [
        (True, ""),
        (False, "the program reached its output limit"),
    ]


def test_results_that_do_not_come_one_by_one_count_for_nothing(sandbox):
    """A program finds the channel and the nonce if it looks for them; a second line for a case spoils them all."""
    code = """
import sys
def f(x):
    frame = sys._getframe(1)
    frame.f_locals["say"]([0, True, 7])
    return x
"""
    results = judge_function(sandbox, code, "f", [([0], 0), ([7], 7)], limits=SHORT)
    assert [result.passed for result in results] == [False, False]


@pytest.mark.parametrize("line", ["[" * 100_000, "[0, true]", "{}", "1" * 5000, '["0", true, 1]', "[0, true, NaN]"])
def test_lines_that_are_no_records(sandbox, line):
    code = f"""
import os, sys
def f():
    local = sys._getframe(1).f_locals
    os.write(local.get("channel", 3), (local["nonce"] + {line!r} + "\\n").encode())
    os._exit(0)
"""
    limits = Limits(wall_s=60.0, output_bytes=1 << 20)
    assert [result.passed for result in judge_function(sandbox, code, "f", [([], 1)], limits=limits)] == [False]


def test_a_program_with_stdin_and_stdout(sandbox):
    code = "a, b = map(int, input().split())\nprint(a // b, ' ')\nprint()"
    cases = [("6 3\n", "2\n"), ("7 2", "3"), ("1 0", "0"), ("4 2", "3")]
    results = judge_program(sandbox, code, cases, limits=SHORT)
    assert [result.passed for result in results] == [True, True, False, False]
    assert results[2].reason.endswith("ZeroDivisionError: integer division or modulo by zero")
    assert results[3].reason == "the output differs from the expected one"


def test_the_cases_of_a_program_share_its_time(sandbox):
    code = "import time\nif input() == 'slow':\n    time.sleep(1000)\nprint('ok')"
    results = judge_program(sandbox, code, [("x", "ok"), ("slow", "ok"), ("x", "ok")], limits=UNTIL_A_CASE_HANGS)
    assert [result.passed for result in results] == [True, False, False]
    assert [result.reason for result in results] == ["", "the program reached its time limit", "no time is left"]
