r"""CodeTests: unit tests of the model's code, which runs in the sandbox.

graders:
  correct:
    use: code_tests
    column: tests
    score: share

A task's column contains the cases of a function, or of a program that reads stdin and prints:

    {"entry_point": "add", "cases": [{"args": [1, 2], "expected": 3}, ...]}
    [{"stdin": "1 2\n", "stdout": "3\n"}, ...]

or tests as HumanEval, MBPP, APPS, LiveCodeBench and LeetCodeDataset store them, or test functions:
`graders.code_shapes` lists the formats.

A model that sees the cases can copy their answers. Keep some cases out of the prompt, or compare a function with a
reference on `random_cases` additional inputs that the model has not seen:

    {..., "reference": "def add(a, b): return a + b", "generate": "def generate(seed): return [seed % 97, seed % 89]"}
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from graders.code_blocks import code_blocks, defines, is_program, solution, stub_of
from graders.code_shapes import AssertTests, FunctionTests, ProgramTests, Tests, read_tests
from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.sandbox import (
    CaseResult,
    Limits,
    Sandbox,
    call_function,
    judge_asserts,
    judge_function,
    judge_program,
    probe_rungs,
)
from rft.grading.sandbox.judge_cases import is_same

MAX_SHOWN_CHARS = 2000
"""Only the end of longer code is kept with the score."""


@dataclass(frozen=True, kw_only=True)
class CodeTests:
    """Scores the share of the cases that the code passes, or 1 only if it passes all.

    Code that crashes, hangs or exceeds its limits fails its cases: a fault of the model. Without a working sandbox the
    grader fails. The judged code is the last fenced block of the final answer that defines the tested names, otherwise
    the whole answer. A task with an empty column is skipped.
    """

    column: str = "tests"
    """The task's column with the cases."""
    score: Literal["share", "all"] = "share"
    """`share`: the share of passed cases. `all`: 1 if all cases pass, otherwise 0."""
    random_cases: int = 0
    """Number of additional inputs if the task has a reference; they depend on the completion."""
    tolerance: float = 1e-9
    """Absolute or relative difference that a number may have, unless an integer is expected."""
    seconds: float = 10.0
    """Time limit for all cases of a completion; keep it well below the grader's `timeout_s`."""
    memory_mb: int = 1024
    """Memory limit of the program in MiB."""
    packages: bool = False
    """Whether the code may import installed packages in addition to the standard library."""
    allow_unsafe: bool = False
    """Whether to run the code on a machine that cannot isolate it."""

    def __post_init__(self) -> None:
        if self.random_cases < 0 or not 0 <= self.tolerance < 1:
            raise ValueError("random_cases must be at least 0, and tolerance at least 0 and below 1")
        self._limits  # noqa: B018 - complains about seconds and memory_mb

    def warm_up(self) -> None:
        """Probe the sandbox before worker processes are forked."""
        probe_rungs()

    def grade(self, completion: str, task: Task) -> Score | None:
        """Run the code on the cases."""
        value = reference(task, self.column)
        if value is None:
            return None
        try:
            tests = read_tests(value, task.item)
        except ValueError as error:
            raise ValueError(f"column '{self.column}' of task {task.id}: {error}") from error
        names = _names(tests)
        code = solution(final_answer(completion), names)
        if not code.strip():
            return Score(value=0.0, status=Status.NO_ANSWER)
        stub = _stub(task, names[0]) if names else ""
        if stub and not code_blocks(completion) and not defines(code, names[0]):
            code = completion.rpartition("</think>")[2]  # including the indented body of the prompt's function
        before = "\n".join(filter(None, [tests.imports, stub]))
        program = f"{before}\n{code}" if before and is_program(f"{before}\n{code}") else code
        tests = _fitted(tests, code, before, names)
        results = self._judge(_sandbox(self.packages, self.allow_unsafe), program, tests, f"{task.id} {completion}")
        passed = sum(result.passed for result in results)
        value = passed / len(results) if self.score == "share" else float(passed == len(results))
        first = next((f"; case {number}: {each.reason}" for number, each in enumerate(results) if not each.passed), "")
        return Score(value=value, answer=code[-MAX_SHOWN_CHARS:], reason=f"{passed} of {len(results)} cases{first}")

    def _judge(self, sandbox: Sandbox, program: str, tests: Tests, salt: str) -> list[CaseResult]:
        match tests:
            case ProgramTests():
                cases, tolerance = tests.cases, tests.tolerance
                return judge_program(sandbox, program, cases, limits=self._limits, tolerance=tolerance)
            case AssertTests():
                return judge_asserts(sandbox, program, tests.assertions, limits=self._limits)
        calls = [*tests.cases, *self._random_cases(sandbox, tests, salt)]
        same = partial(_is_same, tests=tests, tolerance=self.tolerance)
        return judge_function(sandbox, program, tests.entry_point, calls, limits=self._limits, same=same)

    @property
    def _limits(self) -> Limits:
        return Limits(wall_s=self.seconds, cpu_s=int(self.seconds) + 1, memory_mb=self.memory_mb)

    def _random_cases(self, sandbox: Sandbox, tests: FunctionTests, salt: str) -> list[tuple[Any, Any]]:
        """Make inputs that depend on the completion, and the reference's outputs."""
        if not self.random_cases or not tests.reference:
            return []
        digests = (hashlib.sha256(f"{number} {salt}".encode()).hexdigest() for number in range(self.random_cases))
        seeds = [[int(digest[:12], 16)] for digest in digests]
        inputs = self._trusted(sandbox, tests.generate, "generate", seeds)
        return list(zip(inputs, self._trusted(sandbox, tests.reference, tests.entry_point, inputs), strict=True))

    def _trusted(self, sandbox: Sandbox, code: str, entry_point: str, arguments: Sequence[Any]) -> list[Any]:
        outcomes = call_function(sandbox, code, entry_point, arguments, limits=self._limits)
        errors = [outcome.error for outcome in outcomes if outcome.error]
        if errors:
            raise ValueError(f"the task's reference '{entry_point}' failed: {errors[0]}")
        return [outcome.value for outcome in outcomes]


@functools.cache
def _sandbox(packages: bool, allow_unsafe: bool) -> Sandbox:
    return Sandbox(packages=packages, allow_unsafe=allow_unsafe)


def _names(tests: Tests) -> list[str]:
    """Return the names that a program has to define, or may define, at its top level."""
    match tests:
        case FunctionTests():
            return list(dict.fromkeys([tests.entry_point.partition(".")[0], "Solution"]))
        case AssertTests():
            return [name.partition(".")[0] for name in tests.names]
    return []


def _fitted(tests: Tests, code: str, before: str, names: Sequence[str]) -> Tests:
    """Add to the tests the beginning of the program, and the class Solution if its function is a method of it."""
    match tests:
        case AssertTests():
            return replace(tests, assertions=replace(tests.assertions, context=before, overridden=names[:1]))
        case FunctionTests(entry_point=name) if "." not in name and not defines(code, name):
            return replace(tests, entry_point=f"Solution.{name}") if defines(code, "Solution") else tests
    return tests


def _stub(task: Task, name: str) -> str:
    """Return the code in a task's prompt that the model completes, with imports and helpers; empty if there is none."""
    texts = [task.item.get("prompt"), *(message["content"] for message in task.messages if message["role"] == "user")]
    return next(filter(None, (stub_of(text, name) for text in texts if isinstance(text, str))), "")


def _is_same(expected: Any, got: Any, *, tests: FunctionTests, tolerance: float) -> bool:
    if is_same(expected, got, tolerance, tests.by_value):
        return True
    is_wrapped = tests.may_be_wrapped and isinstance(expected, list) and len(expected) == 1
    return is_wrapped and is_same(expected[0], got, tolerance, tests.by_value)
