"""Judges a program by assertions in a separate process, so only a correct program passes.

One process holds the tests with the expected values, another one holds the program, and neither reads the other's
memory. A call in the tests sends its arguments and receives a copy of the result as a plain value. An object that
equals every object, a patched comparison or an early exit therefore has no effect on the tests.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder

from rft.grading.sandbox.judge_cases import CaseResult, why_ended
from rft.grading.sandbox.launch import site_packages
from rft.grading.sandbox.limits import Limits
from rft.grading.sandbox.remote import SOLUTION, TESTS
from rft.grading.sandbox.run import Sandbox

PROGRAM_NAMES = frozenset(
    {"solution", "main", "submission", "candidate", "answer", "program", "module", "code_under_test"}
)
"""Name of the program's module in tests that import the whole module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertions:
    """Tests that call a program's functions.

    Example:
        Assertions(setup="import math", cases=("assert add(1, 2) == 3", "assert math.isclose(add(0.5, 1), 1.5)"))
    """

    setup: str = ""
    """Code that runs first: imports, helpers, test functions. Its own names take precedence over the program's."""
    cases: Sequence[str] = ()
    """Source code of each case."""
    context: str = ""
    """Code of the task with which the program begins. The tests use this copy of its names."""
    overridden: Sequence[str] = ()
    """Names that the tests take from the program although `context` also defines them, perhaps as stubs."""
    candidate: Sequence[str] = ()
    """The meaning of `candidate`, name by name: `("Solution", "f")` for a method; empty if the tests do not use it."""
    collect: bool = False
    """Whether the cases are the test functions and classes of `setup`, as pytest collects them."""


def judge_asserts(sandbox: Sandbox, code: str, tests: Assertions, *, limits: Limits) -> list[CaseResult]:
    """Judge a program by assertions.

    Args:
        sandbox: Runs both programs.
        code: The program; its `__name__` is not `__main__`.
        tests: The tests.
        limits: Limits of each of the two processes, for all cases together.

    Returns:
        A verdict for each case.

    Raises:
        ValueError: The tests cannot run with any program.
        SandboxError: A process could not be started.
    """
    installed, unknown = _imported("\n".join([tests.setup, *tests.cases]))
    order = {
        "context": tests.context,
        "overridden": list(tests.overridden),
        "setup": tests.setup,
        "cases": list(tests.cases),
        "candidate": list(tests.candidate),
        "collect": tests.collect,
        "modules": unknown,
    }
    result = sandbox.run_connected(
        (SOLUTION, json.dumps(code)), (TESTS, json.dumps(order)), limits=limits, second_has_packages=bool(installed)
    )
    records = [json.loads(line) for line in result.stdout.splitlines()]
    by_kind = {record[0]: record[1:] for record in records if record[0] != "case"}
    for kind in ("broken", "unfit"):
        if kind in by_kind:
            raise ValueError(f"the task's tests cannot run: {by_kind[kind][0]}")
    total = by_kind["total"][0] if "total" in by_kind else max(len(tests.cases), 1)
    if total == 0:
        raise ValueError("the task's tests contain no test")
    if "failed" in by_kind:
        return [CaseResult(False, by_kind["failed"][0])] * total
    results = [CaseResult(passed, reason) for kind, *rest in records if kind == "case" for _, passed, reason in [rest]]
    return results + [CaseResult(False, why_ended(result))] * (total - len(results))


def _imported(source: str) -> tuple[set[str], list[str]]:
    """Return the installed packages that the tests import, and the modules that stand for the program.

    Tests import the program under the name of its original file. The program must not replace a package that rft's
    environment lacks: `import x` stands for the program only for these names, `from x import name` for any name.
    """
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(), []  # reported by the tests' process
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    tops = {name.partition(".")[0] for name in whole | parts} - sys.stdlib_module_names
    installed = {name for name in tops if PathFinder.find_spec(name, site_packages()) is not None}
    names = {name for name in parts | (whole & PROGRAM_NAMES) if name.partition(".")[0] in tops - installed}
    parents = {".".join(name.split(".")[:end]) for name in names for end in range(1, name.count(".") + 1)}
    return installed, sorted(names | parents)
