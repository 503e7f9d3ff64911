"""Compares a grid of four LoRA settings on a shared fleet with four single runs: time, peak memory, results.

    python benchmarks/shared_fleet.py            # about eight minutes on two cores; tables in Markdown

The runs are the quickstart. Repeats alternate the order (ABBA), so a machine that slows down favours neither arm. Peak
memory is that of all processes of an arm, with shared pages counted once (PSS). For single runs it is the sum of the
four peaks, the memory of running them side by side. The held-out scores of a setting are compared task by task, since
both arms measure the same tasks with the same seeds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from rft.metrics.intervals import Estimate, paired_difference
from rft.run_folder.recorded_scores import recorded_by_task
from rft.run_folder.recorder import read_rollouts

POLL_S = 3.0
"""Seconds between two measurements of memory, which take CPU time for each process."""
RATES = ("3e-4", "1e-3")
RANKS = ("8", "16")
SETTINGS = [(f"learner.learning_rate={rate}", f"learner.adapter.rank={rank}") for rate in RATES for rank in RANKS]
"""Settings in the order of the grid's trials."""
MAX_TIME_RATIO, MAX_MEMORY_RATIO = 0.6, 0.5
FOR_FOUR = 2.50 / 1.96
"""Factor that widens an interval to hold for four comparisons together (Bonferroni)."""
LOOK_S = 5.0
MIN_FREE_CORES = 1.5
"""Minimum number of idle cores at the start; with fewer, other work would distort the figures."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Time, memory and runs of one arm."""

    wall_s: float
    """Seconds from the start of the command to its end; for single runs their sum."""
    peak_gb: float
    """Peak memory; for single runs the sum of their peaks."""
    runs: list[Path]
    """The run folder of each setting."""


def main() -> None:
    """Run both arms repeatedly, print the tables, and fail if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=None, help="trials at a time (default: rft decides)")
    parser.add_argument("--keep", type=Path, default=None, help="folder that keeps the run folders")
    parser.add_argument("words", nargs="*", default=["experiment=quickstart"], help="overrides of every run")
    arguments = parser.parse_args()
    free_cores = (psutil.cpu_count() or 1) * (1 - psutil.cpu_percent(interval=LOOK_S) / 100)
    if free_cores < MIN_FREE_CORES:
        raise SystemExit(f"the machine is busy ({free_cores:.1f} idle cores, at least {MIN_FREE_CORES} are needed)")
    print("| arm | wall s | peak memory GB | phases of each run, s |")
    print("| --- | --- | --- | --- |")
    arms: dict[str, list[Arm]] = {"shared": [], "single": []}
    with tempfile.TemporaryDirectory(prefix="rft-shared-") as temporary:
        for repeat in range(arguments.repeats):
            for name in ("shared", "single") if repeat % 2 == 0 else ("single", "shared"):
                place = (arguments.keep or Path(temporary)) / f"{name}-{repeat}"
                arm = (shared if name == "shared" else single)(arguments.words, place, arguments.parallel)
                arms[name].append(arm)
                print(f"| {name} | {arm.wall_s:.0f} | {arm.peak_gb:.2f} | {phases(arm.runs)} |", flush=True)
        are_same = compare(arms["shared"][0].runs, arms["single"][0].runs)
    time_ratio = median(arm.wall_s for arm in arms["shared"]) / median(arm.wall_s for arm in arms["single"])
    memory_ratio = median(arm.peak_gb for arm in arms["shared"]) / median(arm.peak_gb for arm in arms["single"])
    print(f"\ntime ratio {time_ratio:.2f} (target {MAX_TIME_RATIO}), memory ratio {memory_ratio:.2f} "
          f"(target {MAX_MEMORY_RATIO})")  # fmt: skip
    sys.exit(int(time_ratio > MAX_TIME_RATIO or memory_ratio > MAX_MEMORY_RATIO or not are_same))


def shared(words: list[str], place: Path, parallel: int | None) -> Arm:
    """Run the grid on a shared fleet."""
    rates, ranks = f"learner.learning_rate={','.join(RATES)}", f"learner.adapter.rank={','.join(RANKS)}"
    at_a_time = [] if parallel is None else [f"hydra.launcher.max_parallel_trials={parallel}"]
    wall_s, peak_gb = run_to_its_end(["train", "-m", *words, rates, ranks, *at_a_time, f"hydra.sweep.dir={place}"])
    return Arm(wall_s, peak_gb, [place / str(number) for number in range(len(SETTINGS))])


def single(words: list[str], place: Path, parallel: int | None) -> Arm:
    """Run the settings one by one, each in its own process."""
    runs = [place / str(number) for number in range(len(SETTINGS))]
    taken = [
        run_to_its_end(["train", *words, *settings, f"output_dir={run}"])
        for run, settings in zip(runs, SETTINGS, strict=True)
    ]
    return Arm(sum(wall_s for wall_s, _ in taken), sum(peak_gb for _, peak_gb in taken), runs)


def phases(runs: list[Path]) -> str:
    """Return the mean seconds by phase over the runs."""
    times = [json.loads((run / "summary.json").read_text())["time_s"] for run in runs]
    return ", ".join(f"{name} {sum(of[name] for of in times) / len(times):.1f}" for name in times[0])


def compare(shared: list[Path], single: list[Path]) -> bool:
    """Print the held-out scores of each setting in both arms; return whether scores and tasks agree."""
    print("\n| setting | alone | shared | shared - alone, paired | same tasks |")
    print("| --- | --- | --- | --- | --- |")
    agree = True
    for settings, together, alone in zip(SETTINGS, shared, single, strict=True):
        scores = [
            Estimate.from_json(json.loads((run / "summary.json").read_text())["eval"]["after"])
            for run in (alone, together)
        ]
        by_task = [recorded_by_task(read_rollouts(run, "after"), "reward") for run in (alone, together)]
        difference = paired_difference(*by_task)
        same = samples(together) == samples(alone)
        agree = agree and same and is_within_noise(difference)
        title = " ".join(word.rpartition(".")[2] for word in settings)
        print(f"| {title} | {scores[0].text()} | {scores[1].text()} | {difference.text(signed=True)} | "
              f"{'yes' if same else 'NO'} |")  # fmt: skip
    return agree


def is_within_noise(difference: Estimate) -> bool:
    """Whether chance explains a difference: among four equal settings, any exceeds the bound once in twenty times."""
    if difference.ci95 is None:
        return True
    return abs(difference.mean) <= FOR_FOUR * (difference.ci95[1] - difference.ci95[0]) / 2 + 1e-9


def samples(run: Path) -> list[tuple[str, int, str, int]]:
    """Return phase, step, task and index of all completions of a run."""
    return sorted((line["phase"], line["step"], line["task_id"], line["index"]) for line in read_rollouts(run))


def run_to_its_end(words: list[str]) -> tuple[float, float]:
    """Run `rft`; return its wall time in seconds and the peak memory of all its processes in GB (PSS)."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "rft.cli", *words], stdout=subprocess.DEVNULL)
    parent = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            peak = max(peak, sum(map(memory_of, [parent, *parent.children(recursive=True)])))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
    if process.returncode:
        raise SystemExit(f"rft {' '.join(words)} ended with exit code {process.returncode}")
    return time.monotonic() - started, peak / 1e9


def memory_of(process: psutil.Process) -> int:
    """Return the proportional set size in bytes; 0 for an ended process."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
