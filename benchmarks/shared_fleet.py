"""A grid of four LoRA settings on a shared fleet against the same four runs one by one: time, peak memory, results.

python benchmarks/shared_fleet.py                # about eight minutes on two cores; tables in Markdown

The quickstart. With several repeats the order is turned round each time (ABBA), so that a machine which slows down
favours none. Peak memory is that of all processes of an arm, shared pages counted once (PSS); for the single runs the
sum of the four peaks is given, which is what they would need side by side. The held-out scores of a setting are
compared task by task: both arms measure the same tasks with the same seeds.
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
from rft.run_folder.recorder import read_rollouts
from rft.run_folder.results import recorded_by_task

POLL_S = 3.0
"""Between two looks at the memory: each takes CPU time for each process, and one arm has more of them."""
RATES = ("3e-4", "1e-3")
RANKS = ("8", "16")
SETTINGS = [(f"learner.learning_rate={rate}", f"learner.lora.rank={rank}") for rate in RATES for rank in RANKS]
"""In the order in which the grid numbers them."""
MAX_TIME_RATIO, MAX_MEMORY_RATIO = 0.6, 0.5
FOR_FOUR = 2.50 / 1.96
"""How much wider an interval is that holds for four comparisons together (Bonferroni)."""
LOOK_S = 5.0
MIN_FREE_CORES = 1.5
"""Fewer idle cores than this at the start, and the figures would be those of the machine's other work."""


@dataclass(frozen=True, slots=True)
class Arm:
    """What one arm took."""

    wall_s: float
    """From typing the command to its end; for single runs the sum."""
    peak_gb: float
    """Peak memory; for single runs the sum of their peaks."""
    runs: list[Path]
    """The run folder of each setting."""


def main() -> None:
    """Run both arms so many times, print the tables, and fail where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--parallel", type=int, default=None, help="trials at a time; rft decides where it is not given"
    )
    parser.add_argument("--keep", type=Path, default=None, help="leave the run folders in this one")
    parser.add_argument("words", nargs="*", default=["experiment=quickstart"], help="what every run is given")
    arguments = parser.parse_args()
    free_cores = (psutil.cpu_count() or 1) * (1 - psutil.cpu_percent(interval=LOOK_S) / 100)
    if free_cores < MIN_FREE_CORES:
        raise SystemExit(f"the machine is busy ({free_cores:.1f} cores are free): figures of now would mean nothing")
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
    """The grid on a shared fleet."""
    rates, ranks = f"learner.learning_rate={','.join(RATES)}", f"learner.lora.rank={','.join(RANKS)}"
    at_a_time = [] if parallel is None else [f"hydra.launcher.max_parallel_trials={parallel}"]
    wall_s, peak_gb = run_to_its_end(["train", "-m", *words, rates, ranks, *at_a_time, f"hydra.sweep.dir={place}"])
    return Arm(wall_s, peak_gb, [place / str(number) for number in range(len(SETTINGS))])


def single(words: list[str], place: Path, parallel: int | None) -> Arm:
    """The same runs one by one, each a process of its own."""
    runs = [place / str(number) for number in range(len(SETTINGS))]
    taken = [
        run_to_its_end(["train", *words, *settings, f"output_dir={run}"])
        for run, settings in zip(runs, SETTINGS, strict=True)
    ]
    return Arm(sum(wall_s for wall_s, _ in taken), sum(peak_gb for _, peak_gb in taken), runs)


def phases(runs: list[Path]) -> str:
    """Seconds by phase, the mean over the runs."""
    times = [json.loads((run / "summary.json").read_text())["time_s"] for run in runs]
    return ", ".join(f"{name} {sum(of[name] for of in times) / len(times):.1f}" for name in times[0])


def compare(shared: list[Path], single: list[Path]) -> bool:
    """Print the held-out scores of each setting in both arms; whether they agree, and the tasks are the same."""
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
        same = asked(together) == asked(alone)
        agree = agree and same and is_within_noise(difference)
        told = " ".join(word.rpartition(".")[2] for word in settings)
        print(f"| {told} | {scores[0].text()} | {scores[1].text()} | {difference.text(signed=True)} | "
              f"{'yes' if same else 'NO'} |")  # fmt: skip
    return agree


def is_within_noise(difference: Estimate) -> bool:
    """Whether a difference may be chance: of four settings without any, one in twenty times one is found beyond it."""
    if difference.ci95 is None:
        return True
    return abs(difference.mean) <= FOR_FOUR * (difference.ci95[1] - difference.ci95[0]) / 2 + 1e-9


def asked(run: Path) -> list[tuple[str, int, str, int]]:
    """Which completions of which tasks a run sampled in which step."""
    return sorted((line["phase"], line["step"], line["task_id"], line["index"]) for line in read_rollouts(run))


def run_to_its_end(words: list[str]) -> tuple[float, float]:
    """Run `rft`; its wall time, seconds, and the peak of the memory of all its processes, GB (PSS)."""
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
