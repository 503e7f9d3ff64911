"""A grid of four LoRA settings on a shared fleet against the same four runs one by one: time, peak memory, results.

python benchmarks/shared_fleet.py                # about ten minutes on two cores; one table in Markdown

The quickstart, one arm after the other in an order that is turned round each time (ABBA), so that a machine which slows
down favours none. Peak memory is that of all processes of an arm, shared pages counted once (PSS); for the single runs
the sum of the four peaks is given, which is what they would need side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

POLL_S = 0.5
RATES = ("3e-4", "1e-3")
RANKS = ("8", "16")
SETTINGS = [(f"learner.learning_rate={rate}", f"learner.lora.rank={rank}") for rate in RATES for rank in RANKS]
MAX_TIME_RATIO, MAX_MEMORY_RATIO = 0.6, 0.5
MIN_FREE_CORES = 1.5
"""Fewer idle cores than this at the start, and the figures would be those of the machine's other work."""


def main() -> None:
    """Run both arms so many times, print the table, and fail where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--parallel", type=int, default=None, help="trials at a time; rft decides where it is not given"
    )
    parser.add_argument("words", nargs="*", default=["experiment=quickstart"], help="what every run is given")
    arguments = parser.parse_args()
    if (psutil.cpu_count() or 1) - psutil.getloadavg()[0] < MIN_FREE_CORES:
        raise SystemExit(f"the machine is busy (load {psutil.getloadavg()[0]:.1f}): figures of now would mean nothing")
    print("| arm | wall s | peak memory GB | held-out scores |")
    print("| --- | --- | --- | --- |")
    seconds: dict[str, list[float]] = {"shared": [], "single": []}
    memory: dict[str, list[float]] = {"shared": [], "single": []}
    with tempfile.TemporaryDirectory(prefix="rft-shared-") as folder:
        for repeat in range(arguments.repeats):
            for arm in ("shared", "single") if repeat % 2 == 0 else ("single", "shared"):
                place = Path(folder) / f"{arm}-{repeat}"
                run = shared if arm == "shared" else single
                wall_s, peak_gb, scores = run(arguments.words, place, arguments.parallel)
                seconds[arm].append(wall_s)
                memory[arm].append(peak_gb)
                told = ", ".join(f"{score:.3f}" for score in scores)
                print(f"| {arm} | {wall_s:.0f} | {peak_gb:.2f} | {told} |", flush=True)
    time_ratio = median(seconds["shared"]) / median(seconds["single"])
    memory_ratio = median(memory["shared"]) / median(memory["single"])
    print(f"\ntime ratio {time_ratio:.2f} (target {MAX_TIME_RATIO}), memory ratio {memory_ratio:.2f} "
          f"(target {MAX_MEMORY_RATIO})")  # fmt: skip
    sys.exit(int(time_ratio > MAX_TIME_RATIO or memory_ratio > MAX_MEMORY_RATIO))


def shared(words: list[str], place: Path, parallel: int | None) -> tuple[float, float, list[float]]:
    """The grid on a shared fleet: wall time, peak memory, scores."""
    rates, ranks = f"learner.learning_rate={','.join(RATES)}", f"learner.lora.rank={','.join(RANKS)}"
    at_a_time = [] if parallel is None else [f"hydra.launcher.max_parallel_trials={parallel}"]
    wall_s, peak_gb = run_to_its_end(["train", "-m", *words, rates, ranks, *at_a_time, f"hydra.sweep.dir={place}"])
    sweep = json.loads((place / "sweep.json").read_text())
    return wall_s, peak_gb, [trial["score"] for trial in sweep["trials"]]


def single(words: list[str], place: Path, parallel: int | None) -> tuple[float, float, list[float]]:
    """The same runs, each a process of its own: the sums of their wall times and of their peaks, and the scores."""
    total_s, total_gb, scores = 0.0, 0.0, []
    for number, settings in enumerate(SETTINGS):
        run = place / str(number)
        wall_s, peak_gb = run_to_its_end(["train", *words, *settings, f"output_dir={run}"])
        total_s, total_gb = total_s + wall_s, total_gb + peak_gb
        scores.append(json.loads((run / "summary.json").read_text())["eval"]["after"]["mean"])
    return total_s, total_gb, scores


def run_to_its_end(words: list[str]) -> tuple[float, float]:
    """Run `rft`; its wall time, seconds, and the peak of the memory of all its processes, GB (PSS)."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "rft.cli", *words], stdout=subprocess.DEVNULL)
    parent = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            peak = max(peak, sum(map(memory_of, [parent, *parent.children(recursive=True)])))
        time.sleep(POLL_S)
    if process.returncode:
        raise SystemExit(f"rft {' '.join(words)} ended with {process.returncode}")
    return time.monotonic() - started, peak / 1e9


def memory_of(process: psutil.Process) -> int:
    """Proportional set size, bytes; 0 once the process is gone."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
