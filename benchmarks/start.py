"""Measures the start of `rft train` up to its first step: wall time, and CPU seconds by process. Prints Markdown.

    python benchmarks/start.py                                   # the quickstart
    python benchmarks/start.py --repeats 9 -- experiment=quickstart sampler=transformers

CPU seconds show the cost of a start on a busy machine, and the wall time on an idle one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import psutil

POLL_S = 0.02


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*", default=["experiment=quickstart"])
    arguments = parser.parse_args()
    starts = [start(arguments.overrides) for _ in range(arguments.repeats)]
    print(f"Medians of {len(starts)} starts of `rft train {' '.join(arguments.overrides)}`, seconds:\n")
    print("| | wall | CPU |\n|---|---|---|")
    walls, cpus = zip(*starts, strict=True)
    print(f"| to the first step | {statistics.median(walls):.1f} | {statistics.median(map(sum_of, cpus)):.1f} |")
    names = sorted(
        {name for cpu in cpus for name in cpu}, key=lambda name: -statistics.median(c.get(name, 0.0) for c in cpus)
    )
    for name in names:
        print(f"| {name} | | {statistics.median(cpu.get(name, 0.0) for cpu in cpus):.1f} |")


def sum_of(cpu: Mapping[str, float]) -> float:
    """Return the CPU seconds of all processes."""
    return sum(cpu.values())


def start(overrides: list[str]) -> tuple[float, Mapping[str, float]]:
    """Train one step; return the wall time until its record, and the CPU time of each kind of process."""
    with tempfile.TemporaryDirectory(prefix="rft-start-") as folder:
        run = Path(folder) / "run"
        words = ["train", *overrides, "loop.steps=1", f"output_dir={run}"]
        began = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "rft.cli", *words], stdout=subprocess.DEVNULL)
        seen: dict[int, tuple[str, float]] = {}
        while process.poll() is None and not has_stepped(run):
            look(psutil.Process(process.pid), seen)
            time.sleep(POLL_S)
        wall_s = time.monotonic() - began
        if process.wait():
            raise SystemExit(f"rft {' '.join(words)} ended with exit code {process.returncode}")
    by_name: dict[str, float] = defaultdict(float)
    for name, cpu_s in seen.values():
        by_name[name] += cpu_s
    return wall_s, by_name


def has_stepped(run: Path) -> bool:
    """Whether the metrics contain step 1."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return False
    return any(json.loads(line)["step"] == 1 for line in lines)


def look(driver: psutil.Process, seen: dict[int, tuple[str, float]]) -> None:
    """Record the CPU time of every process."""
    for process in [driver, *driver.children(recursive=True)]:
        try:
            times = process.cpu_times()
            name = "driver" if process == driver else name_of(process)
        except psutil.Error:
            continue
        seen[process.pid] = (name, times.user + times.system)


def name_of(process: psutil.Process) -> str:
    """Return the kind of a process: the title that Ray gave it, or the name of its program."""
    words = process.cmdline()
    programs = [Path(word).name for word in words if not word.startswith("-")]
    if words and words[0].startswith("ray::"):
        return words[0].partition(".")[0]
    return next((name for name in programs if not name.startswith("python")), process.name())


if __name__ == "__main__":
    main()
