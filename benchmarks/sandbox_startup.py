"""Measures the cost of a program in the sandbox as a Markdown table, or compares the speed of two trees of rft.

    python benchmarks/sandbox_startup.py [--starts 50]
    python benchmarks/sandbox_startup.py --against ../rft-before [--pairs 9] [--starts 50]

The table has milliseconds from call to result for an empty program, at each rung that works on this machine. A
comparison runs evaluations by `code_tests` at the best rung: a function with three cases, and a program with one. Each
tree evaluates in its own process, and the trees take turns. The comparison counts the processor time of all processes,
since wall time depends on other work on the machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NOT_COUNTED = 5
HERE = Path(__file__).resolve().parent.parent
FUNCTION = "```python\nfrom typing import List\n\ndef total(numbers: List[int]) -> int:\n    return sum(numbers)\n```"
FUNCTION_TESTS = {"entry_point": "total", "cases": [{"args": [[1] * n], "expected": n} for n in (1, 2, 3)]}
PROGRAM = "```python\na, b = map(int, input().split())\nprint(a + b)\n```"
PROGRAM_TESTS = [{"stdin": "17 25\n", "stdout": "42\n"}]
KINDS = {"function": (FUNCTION, FUNCTION_TESTS), "program": (PROGRAM, PROGRAM_TESTS)}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--starts", type=int, default=50, help="programs per measurement")
    parser.add_argument("--against", type=Path, help="another tree of rft to compare with this one")
    parser.add_argument("--pairs", type=int, default=9, help="measurements of each tree")
    parser.add_argument("--evaluate", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.evaluate:
        evaluate(arguments.evaluate, arguments.starts)
    elif arguments.against:
        compare(arguments.against.resolve(), arguments.pairs, arguments.starts)
    else:
        table(arguments.starts)


def table(starts: int) -> None:
    """Print the table of start-up times."""
    from rft.grading.sandbox import Sandbox, probe_rungs

    rows = {"a bare interpreter, `python -s -P -S -c pass`": milliseconds(bare, starts)}
    for report in probe_rungs():
        if report.works:
            sandbox = Sandbox(report.rung, allow_unsafe=True)

            def run(sandbox: Sandbox = sandbox) -> None:
                result = sandbox.run("print(4)")
                if result.stdout != "4\n":
                    raise ValueError(f"the program did not run: {result}")

            rows[f"rung {report.rung}, {report.name}"] = milliseconds(run, starts)
    print(f"Milliseconds, {starts} starts each, one after the other:\n")
    print("| what | median | interquartile range | least |\n|---|---|---|---|")
    for title, times in rows.items():
        low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
        print(f"| {title} | {middle:.0f} | {low:.0f} to {high:.0f} | {min(times):.0f} |")


def milliseconds(call: Callable[[], None], starts: int) -> list[float]:
    """Return the milliseconds of repeated calls, after some warm-up calls."""
    times = []
    for _ in range(NOT_COUNTED + starts):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e3)
    return times[NOT_COUNTED:]


def bare() -> None:
    """Start only an interpreter, for comparison."""
    subprocess.run([sys.executable, "-s", "-P", "-S", "-c", "pass"], check=True)


def compare(other: Path, pairs: int, starts: int) -> None:
    """Print the processor time of each kind of evaluation in both trees, and the median ratio of the pairs."""
    print(f"Processor time of an evaluation, {pairs} pairs of {starts} evaluations each:\n")
    print("| kind | before, ms | after, ms | times as many a second, median (range) |\n|---|---|---|---|")
    for kind in KINDS:
        before: list[float] = []
        after: list[float] = []
        for pair in range(pairs):
            for tree, into in [(other, before), (HERE, after)][:: 1 if pair % 2 else -1]:
                into.append(cpu_ms(tree, kind, starts))
        ratios = [one / two for one, two in zip(before, after, strict=True)]
        medians = f"{statistics.median(before):.1f} | {statistics.median(after):.1f}"
        print(f"| {kind} | {medians} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")


def cpu_ms(tree: Path, kind: str, starts: int) -> float:
    """Return the milliseconds of processor time of an evaluation in a tree, over all its processes."""
    command = [sys.executable, __file__, "--evaluate", kind, "--starts", str(starts)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(tree)}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    used_before_s = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the evaluation in {tree} failed")
    return (usage.ru_utime + usage.ru_stime - float(used_before_s)) / starts * 1e3


def evaluate(kind: str, starts: int) -> None:
    """Evaluate repeatedly; print the processor time used before the first evaluation."""
    from graders.code_tests import CodeTests
    from rft.grading import Task
    from rft.grading.sandbox import probe_rungs
    from rft.types import Split

    completion, tests = KINDS[kind]
    task = Task(id="t", messages=({"role": "user", "content": "?"},), item={"tests": tests}, split=Split.TRAIN)
    grader = CodeTests()
    probe_rungs()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(sum(one.ru_utime + one.ru_stime for one in used))
    for _ in range(starts):
        score = grader.grade(completion, task)
        if score is None or score.value != 1.0:
            raise ValueError(f"the evaluation failed: {score}")


if __name__ == "__main__":
    main()
