"""How long a program that does nothing takes in the sandbox, at each rung that works here, as a Markdown table.

    python benchmarks/sandbox_startup.py [--starts 50]

From the call to its result: the interpreter's start, the walls, the end of all processes, and the cleaning up.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from rft.grading.sandbox import Sandbox, probe_rungs

NOT_COUNTED = 5


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--starts", type=int, default=50)
    starts = parser.parse_args().starts
    rows = {"a bare interpreter, `python -s -P -S -c pass`": milliseconds(bare, starts)}
    for report in probe_rungs():
        if report.works:
            sandbox = Sandbox(report.rung, allow_unsafe=True)
            rows[f"rung {report.rung}, {report.name}"] = milliseconds(lambda: run(sandbox), starts)  # noqa: B023
    print(f"Milliseconds, {starts} starts each, one after the other:\n")
    print("| what | median | interquartile range | least |\n|---|---|---|---|")
    for title, times in rows.items():
        low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
        print(f"| {title} | {middle:.0f} | {low:.0f} to {high:.0f} | {min(times):.0f} |")


def milliseconds(call: Callable[[], None], starts: int) -> list[float]:
    """Milliseconds of each of so many calls, after a few that do not count."""
    times = []
    for _ in range(NOT_COUNTED + starts):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e3)
    return times[NOT_COUNTED:]


def run(sandbox: Sandbox) -> None:
    """Run a program, and make sure that it ran."""
    result = sandbox.run("print(4)")
    if result.stdout != "4\n":
        raise ValueError(f"the program did not run: {result}")


def bare() -> None:
    """Start an interpreter alone, to compare with."""
    subprocess.run([sys.executable, "-s", "-P", "-S", "-c", "pass"], check=True)


if __name__ == "__main__":
    main()
