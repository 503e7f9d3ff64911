"""Measures the start of `rft train` up to its first step: wall time, and CPU seconds by process. Prints Markdown.

    python benchmarks/start.py                                   # the quickstart
    python benchmarks/start.py --repeats 9 -- experiment=quickstart sampler=transformers
    python benchmarks/start.py --resume                          # fresh starts beside resumes of killed runs, in turn

CPU seconds show the cost of a start on a busy machine, and the wall time on an idle one.
"""

from __future__ import annotations

import argparse
import contextlib
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
    parser.add_argument("--resume", action="store_true", help="compare with a resume up to its first new step")
    parser.add_argument("overrides", nargs="*", default=["experiment=quickstart"])
    arguments = parser.parse_args()
    if arguments.resume:
        compare_with_resumes(arguments.overrides, arguments.repeats)
        return
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


def compare_with_resumes(overrides: list[str], repeats: int) -> None:
    """Print the seconds of fresh starts and of resumes, and the median of their ratios.

    Neither measures the test tasks: a fresh start would do so before its first step, a resume would not.
    """
    pairs = [start_and_resume(overrides) for _ in range(repeats)]
    print("| fresh start | resume | ratio |\n|---|---|---|")
    for fresh_s, resumed_s in pairs:
        print(f"| {fresh_s:.1f} | {resumed_s:.1f} | {resumed_s / fresh_s:.2f} |")
    print(f"\nmedian ratio: {statistics.median(resumed_s / fresh_s for fresh_s, resumed_s in pairs):.2f}")


def start_and_resume(overrides: list[str]) -> tuple[float, float]:
    """Train a step, kill the run, and resume it up to its next step; return the seconds of both."""
    with tempfile.TemporaryDirectory(prefix="rft-start-") as folder:
        run = Path(folder) / "run"
        words = ["train", *overrides, "data.test=null", "loop.steps=100000", "loop.checkpoint_every_steps=1"]
        return time_to_checkpoint([*words, f"output_dir={run}"], run), time_to_checkpoint(
            ["train", f"resume={run}"], run
        )


def time_to_checkpoint(words: list[str], run: Path) -> float:
    """Return the seconds from a command to its first checkpoint; then kill the command and all that it started."""
    before = checkpoints(run)
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "rft.cli", *words], stdout=subprocess.DEVNULL)
    while process.poll() is None and checkpoints(run) <= before:
        time.sleep(POLL_S)
    wall_s = time.monotonic() - began
    if process.poll() is not None:
        raise SystemExit(f"rft {' '.join(words)} ended with exit code {process.returncode}")
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(family, timeout=30)
    return wall_s


def checkpoints(run: Path) -> set[str]:
    """Return the names of a run's checkpoints."""
    return {folder.name for folder in run.glob("checkpoints/checkpoint-*")}


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
