r"""CodeTests: unit tests on the code that the model wrote, which runs in the sandbox.

graders:
  correct:
    use: code_tests
    column: tests
    score: share

A task's column holds the cases of a function, or of a program that reads stdin and prints:

    {"entry_point": "add", "cases": [{"args": [1, 2], "expected": 3}, ...]}
    [{"stdin": "1 2\n", "stdout": "3\n"}, ...]

A model that sees the cases can write their answers down. Keep some out of the prompt; or give a function a reference
to be compared with, on `random_cases` more inputs that nobody has seen:

    {..., "reference": "def add(a, b): return a + b", "generate": "def generate(seed): return [seed % 97, seed % 89]"}
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.sandbox import Limits, Sandbox, call_function, judge_function, judge_program

MAX_SHOWN_CHARS = 2000
"""Of longer code only the end is kept with the score."""


@dataclass(frozen=True, kw_only=True)
class CodeTests:
    """The share of the cases that the code passes, or 1 only where it passes all.

    Code that crashes, hangs or uses too much fails its cases: the model's fault. Where no sandbox works, grading fails.
    What is judged is the last fenced block of Python in the final answer, or else the whole of it. A task whose column
    is empty is skipped.
    """

    column: str = "tests"
    """The task's column that holds the cases."""
    score: Literal["share", "all"] = "share"
    """`share`: the share of cases passed. `all`: all or nothing."""
    random_cases: int = 0
    """How many more inputs to try, where the task has a reference; they depend on the completion."""
    tolerance: float = 1e-9
    """By how much a number may differ where the expected one is not an integer, absolute or relative."""
    seconds: float = 10.0
    """For all cases of a completion together; keep it well below the grader's `timeout_s`."""
    memory_mb: int = 1024
    """Memory of the program, MiB."""
    packages: bool = False
    """Whether the code may import installed packages besides the standard library."""
    allow_unsafe: bool = False
    """Whether to run the code even where this machine can put up no walls around it."""

    def __post_init__(self) -> None:
        if self.random_cases < 0 or not 0 <= self.tolerance < 1:
            raise ValueError("random_cases must be at least 0, and tolerance at least 0 and below 1")
        self._limits  # noqa: B018 - complains about seconds and memory_mb

    def grade(self, completion: str, task: Task) -> Score | None:
        """Run the code on the cases."""
        tests = reference(task, self.column)
        if tests is None:
            return None
        problem = _problem(tests)
        if problem:
            raise ValueError(f"column '{self.column}' of task {task.id}: {problem}")
        code = last_code_block(final_answer(completion))
        if not code.strip():
            return Score(value=0.0, status=Status.NO_ANSWER)
        sandbox = _sandbox(self.packages, self.allow_unsafe)
        if isinstance(tests, Mapping):
            cases = [(case["args"], case["expected"]) for case in tests["cases"]]
            cases += self._random_cases(sandbox, tests, f"{task.id} {completion}")
            results = judge_function(
                sandbox, code, tests["entry_point"], cases, limits=self._limits, tolerance=self.tolerance
            )
        else:
            pairs = [(case["stdin"], case["stdout"]) for case in tests]
            results = judge_program(sandbox, code, pairs, limits=self._limits)
        passed = sum(result.passed for result in results)
        value = passed / len(results) if self.score == "share" else float(passed == len(results))
        first = next((f"; case {number}: {each.reason}" for number, each in enumerate(results) if not each.passed), "")
        return Score(value=value, answer=code[-MAX_SHOWN_CHARS:], reason=f"{passed} of {len(results)} cases{first}")

    @property
    def _limits(self) -> Limits:
        return Limits(wall_s=self.seconds, cpu_s=int(self.seconds) + 1, memory_mb=self.memory_mb)

    def _random_cases(self, sandbox: Sandbox, tests: Mapping[str, Any], salt: str) -> list[tuple[Any, Any]]:
        """Make inputs that depend on the completion, and what the task's reference makes of them."""
        if not self.random_cases or "reference" not in tests:
            return []
        digests = (hashlib.sha256(f"{number} {salt}".encode()).hexdigest() for number in range(self.random_cases))
        seeds = [[int(digest[:12], 16)] for digest in digests]
        inputs = self._trusted(sandbox, tests["generate"], "generate", seeds)
        return list(zip(inputs, self._trusted(sandbox, tests["reference"], tests["entry_point"], inputs), strict=True))

    def _trusted(self, sandbox: Sandbox, code: str, entry_point: str, arguments: Sequence[Any]) -> list[Any]:
        outcomes = call_function(sandbox, code, entry_point, arguments, limits=self._limits)
        errors = [outcome.error for outcome in outcomes if outcome.error]
        if errors:
            raise ValueError(f"the task's own '{entry_point}' failed: {errors[0]}")
        return [outcome.value for outcome in outcomes]


def last_code_block(text: str, languages: Sequence[str] = ("", "python", "py", "python3")) -> str:
    """Return the content of the last closed fenced block in one of some languages, or else the text itself.

    Args:
        text: Markdown.
        languages: What may follow the opening fence, in lower case.
    """
    found: str | None = None
    language, lines = "", list[str]()
    inside = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            if inside and language in languages:
                found = "\n".join(lines)
            inside, language, lines = not inside, line.strip().strip("`").strip().lower(), []
        elif inside:
            lines.append(line)
    return text if found is None else found


@functools.cache
def _sandbox(packages: bool, allow_unsafe: bool) -> Sandbox:
    return Sandbox(packages=packages, allow_unsafe=allow_unsafe)


def _problem(tests: Any) -> str:
    """Return what is wrong with a task's cases; nothing where nothing is."""
    if isinstance(tests, Mapping):
        missing = [key for key in ("entry_point", "cases") if not tests.get(key)]
        if missing:
            return f"it lacks {' and '.join(missing)}"
        if "reference" in tests and "generate" not in tests:
            return "a reference needs a 'generate' as well, to make inputs for it"
        wanted, cases = ("args", "expected"), tests["cases"]
    else:
        wanted, cases = ("stdin", "stdout"), tests
    if not isinstance(cases, Sequence) or isinstance(cases, str) or not cases:
        return "it holds no list of cases"
    wrong = [
        number for number, case in enumerate(cases) if not isinstance(case, Mapping) or not case.keys() >= set(wanted)
    ]
    if wrong:
        return f"each case needs {wanted[0]} and {wanted[1]}; not so the cases {wrong[:5]} (of {len(wrong)})"
    empty = [number for number, case in enumerate(cases) if wanted[1] == "stdout" and not case["stdout"].strip()]
    if empty:
        return f"a program that does nothing would pass the cases that expect no output: {empty[:5]}"
    if wanted[1] == "expected" and all(case["expected"] is None for case in cases):
        return "a function that does nothing would pass: every case expects null"
    return ""
