"""The shapes in which data sets store tests, each with a right and a wrong solution, and the cheats on assertions.

The rows are made up, in the form of the data set's own.
"""

import json

import pytest

from graders.code_shapes import read_tests
from graders.code_tests import CodeTests
from rft.grading import Status, Task

HUMAN_EVAL = {
    "prompt": 'from typing import List\nimport math\n\ndef mean(xs: List[float]) -> float:\n    """ The mean. """\n',
    "entry_point": "mean",
    "tests": "METADATA = {}\n\ndef check(candidate):\n    assert candidate([1, 2, 3]) == 2\n"
    "    assert math.fabs(candidate([0.5]) - 0.5) < 1e-6\n",
}
MBPP = {
    "test_setup_code": "import math",
    "test_list": [
        "assert split((1, 2)) == (1, [2])",
        "assert math.isclose(split((3, 4))[0], 3.0)",
        "assert set(split((5, 6))[1]) == {6}",
    ],
}
APPS = json.dumps({"fn_name": "twice", "inputs": [[2], [[1]]], "outputs": [[4], [[1, 1]]]})
LCB = [{"input": "[1, 2]\n3", "output": "6", "testtype": "functional"}]
LEETCODE = {
    "entry_point": "Solution().total",
    "tests": "def check(candidate):\n    assert candidate(nums = [1, 2]) == 3\n",
}
PYTEST = """
import pytest
from solution import Stack, add

@pytest.mark.parametrize("a, b", [(1, 2), pytest.param(3, 4)])
@pytest.mark.parametrize("sign", [1, -1])
def test_add(a, b, sign):
    assert add(sign * a, b) == sign * a + b

def test_close():
    assert add(0.1, 0.2) == pytest.approx(0.3)

class TestStack:
    def test_it(self):
        stack = Stack()
        stack.push(1)
        assert stack.pop() == 1
        with pytest.raises(IndexError):
            stack.pop()
"""
STACK = """
class Stack:
    def __init__(self): self.xs = []
    def push(self, x): self.xs.append(x)
    def pop(self): return self.xs.pop()
"""
ADD = "def add(a, b):\n    return a + b\n"

ASSERTIONS = """
import math
assert f(4) == 2
assert math.isqrt(f(16)) == 2
"""

SHAPES = {
    "HumanEval": (
        HUMAN_EVAL,
        "tests",
        """
def mean(xs: List[float]) -> float:
    return sum(xs) / len(xs)
""",
        "def mean(xs): return 2",
        1,
    ),
    "MBPP": (
        MBPP,
        "test_list",
        """
def split(x):
    return x[0], list(x[1:])
""",
        "def split(x): return list(x)",
        3,
    ),
    "MBPP, as JSON": (
        {**MBPP, "test_list": json.dumps(MBPP["test_list"])},
        "test_list",
        "def split(x): return x[0], [x[1]]",
        "split = 1",
        3,
    ),
    "assertions": (
        {"tests": ASSERTIONS},
        "tests",
        "def f(x): return int(x**0.5)",
        "def f(x): return 7",
        2,
    ),
    "APPS": (
        {"tests": APPS},
        "tests",
        "def twice(x): return x * 2",
        "def twice(x): return [x]",
        2,
    ),
    "APPS, with a class": (
        {"tests": json.loads(APPS)},
        "tests",
        """
class Solution:
    def twice(self, x: List[int]): return x * 2
""",
        "class Solution: pass",
        2,
    ),
    "APPS, of a program": (
        {"tests": {"inputs": ["4\n", ["9", ""]], "outputs": ["2\n", ["3"]]}},
        "tests",
        "print(math.sqrt(int(input())))",
        "print(input())",
        2,
    ),
    "LiveCodeBench": (
        {"tests": LCB, "metadata": json.dumps({"func_name": "total"})},
        "tests",
        """
class Solution:
    def total(self, xs: List[int], y: int): return sum(xs) + y
""",
        "def total(xs, y): return y",
        1,
    ),
    "LiveCodeBench, of a program": (
        {"tests": json.dumps([{"input": "1 2", "output": "3.0", "testtype": "stdin"}])},
        "tests",
        """
print(sum(map(int, input().split())))
exit()
""",
        "print(4)",
        1,
    ),
    "LeetCode": (
        LEETCODE,
        "tests",
        """
class Solution:
    def total(self, nums: List[int]) -> int: return sum(nums)
""",
        "class Solution: pass",
        1,
    ),
    "pytest": (
        {"tests": PYTEST},
        "tests",
        ADD + STACK,
        "def add(a, b): return 3",
        6,
    ),
    "a whole row": (
        {"tests": {"test": HUMAN_EVAL["tests"], "entry_point": "mean"}, "prompt": HUMAN_EVAL["prompt"]},
        "tests",
        """
import math
def mean(xs): return sum(xs) / len(xs)
""",
        "mean = None",
        1,
    ),
}
"""Of each shape: row, column, a right solution, a wrong one, and how many cases there are."""


def grade(row, code, column="tests", fenced=True, **options):
    messages = ({"role": "user", "content": row.get("prompt", "?")},)
    task = Task(id="t", messages=messages, item=row, split="train")
    options = {"seconds": 5.0, "memory_mb": 512, "allow_unsafe": True, **options}
    return CodeTests(column=column, **options).grade(f"```python\n{code}\n```" if fenced else code, task)


@pytest.mark.parametrize("name", SHAPES)
def test_right_code_passes_and_wrong_code_does_not(name):
    row, column, right, wrong, cases = SHAPES[name]
    score = grade(row, right, column)
    assert (score.value, score.reason) == (1.0, f"{cases} of {cases} cases")
    assert grade(row, wrong, column, score="all").value == 0.0


def test_a_body_completes_the_function_of_the_prompt():
    assert grade(HUMAN_EVAL, "    return sum(xs) / len(xs)\n", fenced=False).value == 1.0


CHEATS = {
    "equal to everything": """
class Equal(int):
    def __eq__(self, other): return True
    __hash__ = None
def add(a, b): return Equal(0)
""",
    "equal to everything, no number": """
class Equal:
    def __eq__(self, other): return True
    def __bool__(self): return True
def add(a, b): return Equal()
""",
    "true": """
class Yes:
    def __bool__(self): return True
    def __lt__(self, other): return True
def add(a, b): return Yes()
""",
    "exit": """
import os
os._exit(0)
""",
    "exit when called": """
import os
def add(a, b): os._exit(0)
""",
    "assertion errors of its own": "def add(a, b): raise AssertionError",
    "own helpers": """
def helper(*_): return 1
class math:
    isclose = fabs = staticmethod(lambda *_: 0)
abs = max = helper
def add(a, b): return 0
""",
    "results that come unasked": r"""
import os
os.write(200, b'["value", ["v", true]]\n' * 99)
def add(a, b): return True
""",
    "a flood": """
import os
while True: os.write(200, b'x' * 65536)
""",
    "no line": """
import os
os.write(200, b'{')
def add(a, b): return 0
""",
    "patched builtins": """
import builtins
builtins.AssertionError = ValueError
builtins.isinstance = lambda *_: True
def add(a, b): return 0
""",
    "the caller's frames": """
import gc
def add(a, b):
    return next(x for x in gc.get_objects() if isinstance(x, dict) and 'cases' in x)['cases']
""",
}
CHEATS["other meanings of names"] = r"""
import os, json
names = {"add": ["call"], "__builtins__": ["d", [[["v", "abs"], ["o", ["zero"]]], [["v", "max"], ["o", ["zero"]]]]]}
os.write(200, json.dumps(["names", names]).encode() + b"\n")
def zero(*_): return 0
def add(a, b): return 0
"""
ON_ADD = [
    "assert add(17, 25) == 42",
    "assert math.isclose(add(1.5, 2), 3.5)",
    "assert add(1, 2) and add(1, 2) < 4 and abs(add(1, 2) - 3) < 1",
    "assert max(add(3, 4), 0) == helper(7)",
]


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_on_assertions_earn_nothing(name):
    row = {"tests": ON_ADD, "test_setup_code": "import math\ndef helper(x): return x", "entry_point": "add"}
    score = grade(row, CHEATS[name], seconds=2.0)
    assert (score.value, score.status) == (0.0, Status.OK), score.reason
    assert grade(row, ADD).value == 1.0


def test_what_the_prompt_defines_is_out_of_the_programs_reach():
    prompt = 'def poly(xs, x):\n    return xs[0] + xs[1] * x\n\ndef root(xs):\n    """ Find a root. """\n'
    row = {
        "prompt": prompt,
        "entry_point": "root",
        "tests": "def check(candidate):\n    assert poly([1, 2], candidate([1, 2])) == 0",
    }
    assert grade(row, "def root(xs): return -xs[0] / xs[1]").value == 1.0
    assert grade(row, "def poly(*_): return 0\ndef root(xs): return 7").value == 0.0


def test_kinds_of_values_stay_what_they_are():
    values = [
        "(1, 2)",
        "[1, (2, {3})]",
        "{1: 2, (3,): b'x'}",
        "frozenset([1])",
        "None",
        "True",
        "10**500",
        "-0.1",
        "1j",
    ]
    row = {"tests": [f"assert f({each}) == ({each}) and type(f({each})) is type({each})" for each in values]}
    score = grade(row, "def f(x): return x")
    assert score.value == 1.0, score.reason


def test_objects_stay_where_they_are_and_can_be_used():
    row = {"tests": ["p = Point(1, y=2)\nassert p.norm() == 5 and far([p, p]) == 10 and list(gen(3)) == [0, 1, 2]"]}
    code = """
class Point:
    def __init__(self, x, y): self.x, self.y = x, y
    def norm(self): return self.x ** 2 + self.y ** 2
def far(points): return sum(point.norm() for point in points)
def gen(n): yield from range(n)
"""
    assert grade(row, code).value == 1.0


def test_exceptions_of_the_program_can_be_expected():
    row = {
        "tests": [
            "try:\n    f(0)\n    assert False\n"
            "except Own as error:\n    assert str(error) == 'no' and isinstance(error, ValueError)"
        ]
    }
    assert grade(row, "class Own(ValueError): pass\ndef f(x): raise Own('no')").value == 1.0
    assert grade(row, "class Own(ValueError): pass\ndef f(x): raise KeyError('no')").value == 0.0


def test_a_program_cannot_turn_its_failure_into_the_tests():
    row = {"tests": "x = f(1)\ny = x + 1\ndef test_f():\n    assert y == 3"}
    assert grade(row, "def f(x): return None").value == 0.0
    assert grade(row, "def g(x): return None").value == 0.0
    with pytest.raises(ValueError, match="the task's tests cannot run: ZeroDivisionError"):
        grade({"tests": "1 / 0\ndef test_f():\n    assert f(1) == 3"}, "def f(x): return 3")


def test_a_program_does_not_stand_in_for_a_package():
    """Of three rows: one whose package rft has, one whose package nobody has, one that imports the program."""
    fake = "def allclose(*_): return True\ndef simplify(*_): return 3\ndef add(a, b): return 0"
    with_numpy = "import numpy as np\ndef test_add(): assert np.allclose(add(1, 2), 3)"
    assert grade({"tests": with_numpy}, fake).value == 0.0
    assert grade({"tests": with_numpy}, ADD, memory_mb=4096).value == 1.0
    with pytest.raises(ValueError, match="cannot run: ModuleNotFoundError: No module named 'no_such_package'"):
        grade({"tests": "import no_such_package as n\ndef test_add(): assert n.allclose(add(1, 2), 3)"}, fake)
    assert grade({"tests": "import solution\ndef test_add(): assert solution.add(1, 2) == 3"}, ADD).value == 1.0
    assert grade({"tests": "from my.code import add as f\ndef test_add(): assert f(1, 2) == 3"}, ADD).value == 1.0


def test_a_class_that_turns_out_to_be_an_exception_is_the_programs_fault():
    row = {"tests": ["assert f([Pair(1, 2)]) == 1"]}
    assert grade(row, "class Pair(Exception): pass\ndef f(pairs): return 1").value == 0.0


def test_hidden_names_are_found():
    tests = read_tests(["assert candidate_f(1) == g(2)", "import math\nassert math.pi > 3"], {})
    assert tests.names == ["candidate_f", "g"]
