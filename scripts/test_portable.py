"""Run the test suite with older instruction sets and with all cores busy, and print a table.

    python scripts/test_portable.py                      every setting: the unit tests three times, the others once
    python scripts/test_portable.py avx2 --only unit     one setting, the unit tests alone
    python scripts/test_portable.py busy -- -k ranks     pytest receives the arguments after `--`

The exit code is 1 if a test failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
WITHOUT_AVX512 = str(ROOT / "scripts" / "portable")
SETTINGS: dict[str, dict[str, str]] = {
    # PyTorch, oneDNN and MKL each have a switch of their own. MKL heeds MKL_ENABLE_INSTRUCTIONS on Intel's processors
    # and MKL_CBWR on all; MKL_DEBUG_CPU_TYPE is gone since 2020.1. The oldest kernels of vLLM are those for AVX2.
    "default": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "MKL_CBWR": "COMPATIBLE",
        "PYTHONPATH": WITHOUT_AVX512,
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "MKL_CBWR": "AVX2",
        "PYTHONPATH": WITHOUT_AVX512,
    },
    "busy": {},
}
PARTS: dict[str, tuple[int, tuple[str, ...]]] = {
    "unit": (3, ("-m", "not e2e and not full", "-n", "auto", "--maxprocesses", "8", "--dist", "worksteal")),
    "e2e": (1, ("-m", "e2e and not full", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder")),
}
"""Repetitions and pytest arguments of each part."""

PROBE = """
import os, ray
ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")

@ray.remote
def look():
    import torch
    from vllm.platforms import current_platform
    current_platform.import_kernels()
    maps = open("/proc/self/maps").read().split()
    kernels = {word.rpartition("/")[2].partition(".")[0] for word in maps if "/vllm/_C" in word}
    return f"torch {torch.backends.cpu.get_cpu_capability()}, vLLM {' '.join(sorted(kernels))}"

print(ray.get(look.remote()))
"""


@dataclass
class Outcome:
    """The result of one run of one part under one setting."""

    setting: str
    kernels: str
    part: str
    number: int
    passed: int
    skipped: int
    failed: list[str]
    seconds: float


def main(words: list[str]) -> int:
    """Run the selected settings and parts; return the exit code."""
    own_end = words.index("--") if "--" in words else len(words)
    for_pytest = words[own_end + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="setting", help=f"of {', '.join(SETTINGS)}; all without one")
    parser.add_argument("--only", choices=PARTS, help="one part of the suite")
    given = parser.parse_args(words[:own_end])
    if unknown := set(given.settings) - SETTINGS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SETTINGS)}")
    outcomes = []
    for setting in given.settings or SETTINGS:
        environment = environment_of(setting)
        with busy_cores(os.cpu_count() or 1 if setting == "busy" else 0):
            kernels = kernels_in_force(environment)
            for part in [given.only] if given.only else PARTS:
                times, how = PARTS[part]
                for number in range(1, times + 1):
                    outcomes.append(run(setting, kernels, part, number, (*how, *for_pytest), environment))
                    print(row(outcomes[-1]), flush=True)
    print_report(outcomes)
    return int(any(outcome.failed for outcome in outcomes))


def environment_of(setting: str) -> dict[str, str]:
    """Return the environment of the tests; Ray, its actors and vLLM inherit it."""
    environment = {**os.environ, **SETTINGS[setting]}
    paths = (SETTINGS[setting].get("PYTHONPATH"), os.environ.get("PYTHONPATH"))
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment


@contextmanager
def busy_cores(num_processes: int) -> Iterator[None]:
    """Keep this many cores busy with other work."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(num_processes)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def kernels_in_force(environment: Mapping[str, str]) -> str:
    """Return the instruction sets that torch and vLLM actually use in a Ray actor."""
    looked = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True)
    return looked.stdout.strip().splitlines()[-1]


def run(
    setting: str, kernels: str, part: str, number: int, how: Sequence[str], environment: Mapping[str, str]
) -> Outcome:
    """Run one part of the suite once."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "--junit-xml", str(report), *how]
        code = subprocess.run(command, cwd=ROOT, env=dict(environment), check=False).returncode
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    names = [f"{case.get('classname')}::{case.get('name')}" for case in failed]
    return Outcome(
        setting=setting,
        kernels=kernels,
        part=part,
        number=number,
        passed=len(cases) - len(failed) - len(skipped),
        skipped=len(skipped),
        failed=names or [f"pytest itself, with exit code {code}"] * (code != 0),
        seconds=time.monotonic() - started,
    )


def row(outcome: Outcome) -> str:
    """Return a line of the table."""
    return (
        f"{outcome.setting:8} {outcome.part:5} {outcome.number:3} {outcome.passed:7} {len(outcome.failed):7} "
        f"{outcome.skipped:8} {outcome.seconds:6.0f} s  {outcome.kernels}"
    )


def print_report(outcomes: Sequence[Outcome]) -> None:
    """Return the table, and the names of failed tests."""
    print(f"\n{processor()}, {os.cpu_count()} cores")
    print("setting  part  run  passed  failed  skipped      time  kernels")
    for outcome in outcomes:
        print(row(outcome))
    for outcome in outcomes:
        for name in outcome.failed:
            print(f"failed under {outcome.setting}, {outcome.part} {outcome.number}: {name}")


def processor() -> str:
    """The name of this machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
