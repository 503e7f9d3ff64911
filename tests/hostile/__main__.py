"""Fuzzes every property of tests/hostile: `make fuzz`. Prints the number of cases of each property.

    make fuzz                                              all properties, new seeds
    make fuzz FUZZ="--seed 7 test_adapters test_rows"      some properties, with the seeds of an earlier call

Needs Atheris. Two properties run at a time on two cores. A failing case is repeated with pytest, which shrinks it and
prints it as a call of the property. Add it to the property with `@example`, and mend rft.
"""

from __future__ import annotations

import argparse
import base64
import importlib
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DEADLINE_S = 180
"""Seconds for the cases of one property; on a slow machine, the property then has fewer cases."""
START_S = 120
"""Seconds for the imports of a process and for its last case."""
LOG_LINES = 30
"""Last lines of a failed process that are printed."""


@dataclass(frozen=True)
class Property:
    """A property, and its number of cases."""

    module: str
    name: str
    num_cases: int


@dataclass(frozen=True)
class Outcome:
    """What the fuzzing of a property gave."""

    cases: int
    """Cases that ended well."""
    edges: int
    """Edges of rft's control flow that the cases reached."""
    seconds: float
    failure: str
    """Report of the failing case; empty if there is none."""


def main(words: Sequence[str]) -> int:
    """Fuzz the properties; return the exit code."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Fuzz the properties of tests/hostile.")
    parser.add_argument("names", nargs="*", help="names of properties (default: all)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="seed (default: a new one)")
    arguments = parser.parse_args(words)
    known = list(properties())
    if unknown := set(arguments.names) - {one.name for one in known}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in known)}")
    chosen = [one for one in known if one.name in (arguments.names or {one.name})]
    print(
        f"{sum(one.num_cases for one in chosen):,} cases of {len(chosen)} properties, seed {arguments.seed}", flush=True
    )
    failures, total = [], 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        outcomes = threads.map(lambda one: fuzzed(one, arguments.seed), chosen)
        for one, outcome in zip(chosen, outcomes, strict=True):
            total += outcome.cases
            failures += [outcome.failure] if outcome.failure else []
            state = "FAILED" if outcome.failure else "ok" if outcome.cases == one.num_cases else "out of time"
            counts = f"{outcome.cases:>6,} of {one.num_cases:>6,} cases {outcome.edges:>6,} edges"
            print(f"{one.name:<40} {counts} {outcome.seconds:>5.0f} s  {state}", flush=True)
    print(f"{total:,} cases in total, {len(failures)} properties failed", flush=True)
    print(*failures, sep="\n\n")
    return int(bool(failures))


def properties() -> Iterator[Property]:
    """Yield the properties of all test modules of this folder."""
    for file in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(f"tests.hostile.{file.stem}")
        for name, test in vars(module).items():
            if hasattr(test, "fuzz_cases"):
                yield Property(module=file.stem, name=name, num_cases=test.fuzz_cases)


def fuzzed(one: Property, seed: int) -> Outcome:
    """Fuzz a property in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="rft-fuzz-") as name:
        folder, started = Path(name), time.monotonic()
        environment = os.environ | {"PYTHONPATH": str(ROOT), "RFT_FUZZ_FAILURES": str(folder / "failures")}
        words = [f"{one.module}:{one.name}", str(one.num_cases), str(DEADLINE_S), str(seed)]
        with (folder / "log").open("wb") as log:
            try:
                subprocess.run(
                    [sys.executable, "-m", "tests.hostile.target", *words],
                    cwd=folder,
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=DEADLINE_S + START_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                log.write(b"rft: a case hangs\n")
        lines = (folder / "log").read_text(errors="replace").splitlines()
        edges = [int(number) for number in re.findall(r"\bcov: (\d+)", "\n".join(lines))]
        result = folder / "result.json"
        cases = json.loads(result.read_text())["cases"] if result.exists() else 0
        failure = "" if result.exists() else _report(one, folder, lines, environment)
        return Outcome(cases, max(edges, default=0), time.monotonic() - started, failure)


def _report(one: Property, folder: Path, lines: Sequence[str], environment: dict[str, str]) -> str:
    """Return the failing case in a form that can become a test."""
    if (folder / "failures").exists():
        test = f"{HERE / one.module}.py::{one.name}"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
        repeated = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return repeated.stdout
    tail = "\n".join(lines[-LOG_LINES:])
    repeats = [
        f'{one.name}.hypothesis.fuzz_one_input(base64.b64decode("{base64.b64encode(file.read_bytes()).decode()}"))'
        for file in folder.glob("*-*")
    ]
    return "\n".join([f"{one.name}: the process ended", tail, *repeats])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
