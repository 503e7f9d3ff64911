r"""Parses the tests of a programming task in the formats of common data sets.

    {"entry_point": "add", "cases": [{"args": [1, 2], "expected": 3}]}          rft's own, of a function
    [{"stdin": "1 2\n", "stdout": "3\n"}]                                         rft's own, of a program
    ["assert add(1, 2) == 3"]                                                   MBPP's test_list
    "def check(candidate): ..."                                                 HumanEval, LeetCodeDataset
    {"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}                      APPS, TACO; without fn_name a program
    [{"input": "1\n2", "output": "3", "testtype": "functional"}]                LiveCodeBench
    "def test_add(): assert add(1, 2) == 3"                                     test functions and classes

Any of them may be a text that holds it as JSON.
"""

from __future__ import annotations

import ast
import builtins
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft.grading.sandbox import Assertions

IMPORTS = (
    "import bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, string, sys\n"
    "from bisect import *\nfrom collections import *\nfrom functools import *\nfrom heapq import *\n"
    "from itertools import *\nfrom math import *\nfrom typing import *\n"
)
"""The imports of the harnesses of APPS, LiveCodeBench and LeetCode before a solution."""

APPS_TOLERANCE = 1e-5
"""The relative tolerance of numpy's `allclose`, with which APPS compares printed numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionTests:
    """Calls of a function with their expected values."""

    entry_point: str
    """`f`, or `Solution.f`."""
    cases: Sequence[tuple[Sequence[Any], Any]]
    """Arguments and expected value."""
    by_value: bool = False
    """Whether 3.0 equals 3."""
    may_be_wrapped: bool = False
    """Whether an expected value may be wrapped in a list."""
    imports: str = ""
    """Code that runs before the program."""
    reference: str = ""
    """A correct program with the same entry point."""
    generate: str = ""
    """A program whose function `generate` makes arguments from a seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramTests:
    """Inputs and outputs of a program."""

    cases: Sequence[tuple[str, str]]
    """Stdin and stdout."""
    tolerance: float | None = None
    """Relative difference that a printed number may have; None compares texts."""
    imports: str = ""
    """Code that runs before the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertTests:
    """Assertions on a program's names."""

    assertions: Assertions
    names: Sequence[str]
    """Names of the program that they use; the entry point comes first if there is one."""
    imports: str = ""
    """Code that runs before the program."""


_KNOWN_MODULES = {*sys.stdlib_module_names, "pytest", "numpy"}

Tests = FunctionTests | ProgramTests | AssertTests


def read_tests(value: Any, item: Mapping[str, Any]) -> Tests:
    """Parse a task's tests in any of the shapes.

    Args:
        value: The value of the column.
        item: The whole row; some data sets store the entry point, imports and set-up code in other columns.

    Raises:
        ValueError: The tests have none of the shapes, or are invalid.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return _of_text(value, item)
        if isinstance(value, str):
            return _of_text(value, item)
    if isinstance(value, Mapping):
        return _of_mapping(value, item)
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not value:
        raise ValueError("it has no list of cases")
    if all(isinstance(case, str) for case in value):
        return _of_asserts(value, item)
    if all(isinstance(case, Mapping) and {"input", "output"} <= case.keys() for case in value):
        return _of_live_code_bench(value, item)
    _require(value, ("stdin", "stdout"))
    empty = [number for number, case in enumerate(value) if not case["stdout"].strip()]
    if empty:
        raise ValueError(f"a program that does nothing would pass the cases that expect no output: {empty[:5]}")
    return ProgramTests(cases=[(case["stdin"], case["stdout"]) for case in value])


def _of_mapping(value: Mapping[str, Any], item: Mapping[str, Any]) -> Tests:
    row = {**item, **value}
    for inputs, outputs in (("inputs", "outputs"), ("input", "output")):
        if {inputs, outputs} <= value.keys():
            return _of_apps(value[inputs], value[outputs], value.get("fn_name"))
    if "test_list" in value:
        return read_tests(value["test_list"], row)
    if isinstance(value.get("test"), str):
        return _of_text(value["test"], row)
    missing = [key for key in ("entry_point", "cases") if not value.get(key)]
    if missing:
        raise ValueError(f"it lacks {' and '.join(missing)}")
    if "reference" in value and "generate" not in value:
        raise ValueError("a reference also requires 'generate', which makes its inputs")
    if not isinstance(value["cases"], Sequence) or isinstance(value["cases"], str):
        raise ValueError("it has no list of cases")
    _require(value["cases"], ("args", "expected"))
    if all(case["expected"] is None for case in value["cases"]):
        raise ValueError("a function that does nothing would pass: every case expects null")
    return FunctionTests(
        entry_point=value["entry_point"],
        cases=[(case["args"], case["expected"]) for case in value["cases"]],
        reference=value.get("reference", ""),
        generate=value.get("generate", ""),
    )


def _of_apps(inputs: Any, outputs: Any, function: Any) -> Tests:
    """APPS stores arguments and results of a function, or stdin and stdout, as texts or as lists of lines."""
    if not isinstance(inputs, Sequence) or not isinstance(outputs, Sequence) or len(inputs) != len(outputs):
        raise ValueError("its inputs and outputs must be lists of equal length")
    if not inputs:
        raise ValueError("it has no list of cases")
    if function:
        calls = [(list(each), out) for each, out in zip(inputs, outputs, strict=True)]
        return FunctionTests(
            entry_point=str(function), cases=calls, by_value=True, may_be_wrapped=True, imports=IMPORTS
        )
    texts = [(_joined(each), _joined(out)) for each, out in zip(inputs, outputs, strict=True)]
    return _program(texts, tolerance=APPS_TOLERANCE)


def _of_live_code_bench(value: Sequence[Mapping[str, Any]], item: Mapping[str, Any]) -> Tests:
    """A function's input has one argument per line, as JSON; the row's metadata name the function."""
    if all(case.get("testtype") != "functional" for case in value):
        return _program([(_joined(case["input"]), _joined(case["output"])) for case in value], tolerance=0.0)
    entry_point = _entry_point(item)
    if not entry_point:
        raise ValueError("its cases call a function, but neither 'metadata' nor 'entry_point' of the row names it")
    cases = [
        ([json.loads(line) for line in case["input"].split("\n") if line], json.loads(case["output"])) for case in value
    ]
    return FunctionTests(entry_point=entry_point, cases=cases, by_value=True, imports=IMPORTS)


def _of_asserts(value: Sequence[str], item: Mapping[str, Any]) -> AssertTests:
    """MBPP; other columns of the row contain its set-up code or imports."""
    imports = item.get("test_imports") or ()
    setup = "\n".join([*([imports] if isinstance(imports, str) else imports), item.get("test_setup_code") or ""])
    names = [_entry_point(item)] if _entry_point(item) else []
    names += [name for name in _unknown_names("\n".join([setup, *value])) if name not in names]
    return AssertTests(assertions=Assertions(setup=setup.strip(), cases=tuple(value)), names=names)


def _of_text(text: str, item: Mapping[str, Any]) -> AssertTests:
    """HumanEval's `check(candidate)`, test functions and classes, or a sequence of assertions."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError("its text is neither JSON nor Python") from None
    defined = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    if "check" in defined:
        entry_point = _entry_point(item)
        if not entry_point:
            raise ValueError("its check(candidate) requires the row's 'entry_point'")
        candidate = tuple(entry_point.split("."))
        assertions = Assertions(setup=text, cases=("check(candidate)",), candidate=candidate)
        return AssertTests(assertions=assertions, names=[entry_point], imports=IMPORTS if len(candidate) > 1 else "")
    names = _unknown_names(text)
    if any(name.lower().startswith("test") for name in defined):
        return AssertTests(assertions=Assertions(setup=text, collect=True), names=names)
    cases, pending = [], list[ast.stmt]()
    for node in body:
        pending.append(node)
        if isinstance(node, ast.Assert):
            cases.append("\n".join(map(ast.unparse, pending)))
            pending = []
    if not cases:
        raise ValueError("its text has no assertion and no test")
    return AssertTests(assertions=Assertions(cases=cases), names=names)


def _program(cases: Sequence[tuple[str, str]], *, tolerance: float) -> ProgramTests:
    if not any(stdout.strip() for _, stdout in cases):
        raise ValueError("a program that does nothing would pass: no case expects an output")
    return ProgramTests(cases=cases, tolerance=tolerance, imports=IMPORTS)


def _entry_point(item: Mapping[str, Any]) -> str:
    """Return the name of the function under test; `Solution().f` as `Solution.f`."""
    metadata = item.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except (ValueError, RecursionError):
            metadata = None
    named = [item.get("entry_point"), item.get("fn_name")]
    named += [metadata.get("func_name")] if isinstance(metadata, Mapping) else []
    return next((name.replace("()", "") for name in named if isinstance(name, str) and name), "")


def _unknown_names(source: str) -> list[str]:
    """Return the names that a text uses but neither defines nor finds built in, in the order of their first use."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    bound = set(dir(builtins)) | {"pytest", "unittest"}
    used: dict[str, None] = {}
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.setdefault(name)
            case ast.Name(id=name):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                bound.add(name)
            case ast.Import(names=names):
                bound |= {alias.asname or alias.name.partition(".")[0] for alias in names}
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] in _KNOWN_MODULES:
                bound |= {alias.asname or alias.name for alias in names}
            case ast.ImportFrom(names=names):  # from the module under test
                used.update((alias.name, None) for alias in names)
    return [name for name in used if name not in bound]


def _require(cases: Sequence[Any], required: tuple[str, str]) -> None:
    wrong = [
        number for number, case in enumerate(cases) if not isinstance(case, Mapping) or not case.keys() >= {*required}
    ]
    if wrong:
        raise ValueError(
            f"each case needs {required[0]} and {required[1]}; the cases {wrong[:5]} lack one ({len(wrong)} in all)"
        )


def _joined(text: Any) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)
