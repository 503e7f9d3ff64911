"""Judging a program by assertions, which run in a process of their own, so that it can pass only by being right.

The tests' process holds the expected values, the program's process holds what the model wrote, and neither sees the
other's memory. A call in the tests sends its arguments over, and what comes back is a plain value, taken apart and made
anew: an object that is equal to everything, a patched comparison or an early exit have nobody to deceive.
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
"""What the program's module is called in tests that import it as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertions:
    """Tests that call a program's functions.

    Example:
        Assertions(setup="import math", cases=("assert add(1, 2) == 3", "assert math.isclose(add(0.5, 1), 1.5)"))
    """

    setup: str = ""
    """What runs first: imports, helpers, test functions. It sees what the program defines, but its own names count."""
    cases: Sequence[str] = ()
    """The source of each case."""
    context: str = ""
    """Code of the task with which the program begins. The tests take what it defines from here."""
    wanted: Sequence[str] = ()
    """What the tests take from the program although `context` defines it, if only as a stub."""
    candidate: Sequence[str] = ()
    """What `candidate` stands for, name by name: `("Solution", "f")` for a method. Empty: there is no such name."""
    collect: bool = False
    """Whether the cases are the test functions and classes of `setup`, as pytest finds them."""


def judge_asserts(sandbox: Sandbox, code: str, tests: Assertions, *, limits: Limits) -> list[CaseResult]:
    """Judge a program by assertions.

    Args:
        sandbox: Where both programs run.
        code: The program; `__name__` is not `__main__` in it.
        tests: What it has to pass.
        limits: For all cases together, of each of the two programs.

    Returns:
        A verdict for each case.

    Raises:
        ValueError: The tests cannot be run, whatever the program does.
        SandboxError: A program could not be started.
    """
    installed, unknown = _imported("\n".join([tests.setup, *tests.cases]))
    order = {
        "context": tests.context,
        "wanted": list(tests.wanted),
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
            raise ValueError(f"the task's own tests cannot be run: {by_kind[kind][0]}")
    total = by_kind["total"][0] if "total" in by_kind else max(len(tests.cases), 1)
    if total == 0:
        raise ValueError("the task's own tests hold no test")
    if "failed" in by_kind:
        return [CaseResult(False, by_kind["failed"][0])] * total
    results = [CaseResult(passed, reason) for kind, *rest in records if kind == "case" for _, passed, reason in [rest]]
    return results + [CaseResult(False, why_ended(result))] * (total - len(results))


def _imported(source: str) -> tuple[set[str], list[str]]:
    """Return the installed packages that tests import, and the modules that are taken for the program.

    Tests import the program by whatever name its file has where they come from. The program must not stand in for a
    package that rft's environment merely lacks: `import x` counts for these names only, `from x import name` for any.
    """
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(), []  # which the tests' process reports
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    tops = {name.partition(".")[0] for name in whole | parts} - sys.stdlib_module_names
    installed = {name for name in tops if PathFinder.find_spec(name, site_packages()) is not None}
    names = {name for name in parts | (whole & PROGRAM_NAMES) if name.partition(".")[0] in tops - installed}
    parents = {".".join(name.split(".")[:end]) for name in names for end in range(1, name.count(".") + 1)}
    return installed, sorted(names | parents)
