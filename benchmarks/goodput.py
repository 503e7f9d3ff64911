"""Goodput: the useful work of a run whose processes are killed, compared with an undisturbed run.

    python benchmarks/goodput.py                          # an hour on two cores; a table in Markdown
    python benchmarks/goodput.py --minutes 4 --arms sampler learner

Each arm is the same training. After its first step, processes of one kind are killed for some minutes, at random times
with exponential gaps (a Poisson process). A run that ends is started again at once, by the same command with
`or_resume=true`. The goodput is the time in which the undisturbed run makes the same steps, divided by the time of the
disturbed run. Both make the same steps with the same completions, and no lost step counts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from rft.run_folder.recorder import read_metrics

TITLES = {"sampler": "ray::SamplerActor", "learner": "ray::LearnerActor", "rank": "ray::RankActor"}
"""Titles that Ray gives to the processes of actors."""
PROGRAMS = {"raylet": "raylet", "head": "gcs_server"}
TARGETS = {"sampler": 0.8, "learner": 0.65, "rank": 0.65, "raylet": 0.5, "head": 0.5}
"""Smallest goodput of each arm."""
POINTS_BELOW_BOUND = 0.05
"""Largest distance of the samplers' goodput to its bound."""
POLL_S = 0.2
END_S = 120.0
WORDS = (
    "experiment=quickstart",
    "sampler=transformers",
    "sampler.num_actors=2",
    "sampler.max_restarts=1000",
    "learner.max_restarts=1000",
    "loop.steps=100000",
    "loop.checkpoint_every_steps=5",
    "evaluation.every_steps=null",
    "data.test=null",
    "data.validation=null",
    "logging=none",
    "or_resume=true",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A run of some minutes."""

    times: list[float]
    """Seconds from the end of step 1 to the end of each step; entry 0 belongs to step 1."""
    kills: int
    """Number of processes killed."""
    commands: int
    """Number of commands that the run took."""
    start_cpu_s: float
    """CPU seconds of one sampler until it is ready."""
    sampling_share: float
    """Share of the steps' time in which samplers work."""
    busy_share: float
    """Share of all cores that was in use during the arm."""


def main() -> None:
    """Run the arms, print the table, and fail if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes of each arm, from its first step")
    parser.add_argument("--mean-s", type=float, default=60.0, help="mean seconds between two kills")
    parser.add_argument("--arms", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0, help="seed of the times and victims")
    parser.add_argument("words", nargs="*", help="overrides of every run")
    options = parser.parse_args()
    seconds = 60 * options.minutes
    print("| killed | kills | commands | steps | goodput | bound | target |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    is_good = True
    undisturbed: dict[bool, Arm] = {}
    for name in options.arms:
        words = [*options.words, *(["learner.num_workers=2"] if name == "rank" else [])]
        if (name == "rank") not in undisturbed:
            undisturbed[name == "rank"] = run_arm(words, seconds)
        whole = undisturbed[name == "rank"]
        arm = run_arm(words, seconds, target=name, mean_s=options.mean_s, seed=options.seed)
        steps, goodput = len(arm.times) - 1, goodput_of(arm, whole, seconds)
        least = TARGETS[name]
        limit = bound(whole, options.mean_s) if name == "sampler" else None
        if limit is not None:
            least = max(least, limit - POINTS_BELOW_BOUND)
        is_good &= goodput >= least
        print(f"| {name} | {arm.kills} | {arm.commands} | {steps} | {goodput:.2f} | "
              f"{'' if limit is None else f'{limit:.2f}'} | {least:.2f} |", flush=True)  # fmt: skip
    whole = next(iter(undisturbed.values()))
    print(f"\nundisturbed: {len(whole.times) - 1} steps in {seconds:.0f} s; an engine's start takes "
          f"{whole.start_cpu_s:.1f} CPU seconds; samplers work for {whole.sampling_share:.0%} of a step; "
          f"{whole.busy_share:.0%} of {psutil.cpu_count()} cores in use")  # fmt: skip
    sys.exit(not is_good)


def bound(undisturbed: Arm, mean_s: float) -> float:
    """Return the goodput that no recovery of one of two samplers can exceed on these cores.

    A killed sampler costs one start of an engine. First, its CPU time is lost to the run, unless cores were idle.
    Second, one core does the start, so it takes at least its CPU time; meanwhile one sampler does the work of two.

    Args:
        undisturbed: The undisturbed arm.
        mean_s: Mean seconds between two kills.
    """
    lost = undisturbed.start_cpu_s / mean_s
    by_cores = (1 - lost / (psutil.cpu_count() or 1)) / undisturbed.busy_share
    share = undisturbed.sampling_share
    by_samplers = 1 - lost * share / (1 + share)
    return min(1.0, by_cores, by_samplers)


def goodput_of(arm: Arm, undisturbed: Arm, seconds: float) -> float:
    """Return the time that the undisturbed arm took for the steps of an arm, over the seconds of that arm."""
    steps = min(len(arm.times), len(undisturbed.times))
    return undisturbed.times[steps - 1] / (seconds if steps == len(arm.times) else arm.times[steps - 1])


def run_arm(
    words: Sequence[str], seconds: float, *, target: str | None = None, mean_s: float = 60.0, seed: int = 0
) -> Arm:
    """Run a training for some seconds after its first step, and kill processes of one kind meanwhile."""
    chance = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="rft-g-", dir="/tmp"))
    run = folder / "run"
    command = [sys.executable, "-m", "rft.cli", "train", *WORDS, *words, "output_dir=run"]
    commands, kills = 1, 0
    process = start(command, folder)
    try:
        wait_until(lambda: has_begun(run), process, folder)
        start_cpu_s = min(map(cpu_s, find("sampler", process.pid)))
        wait_until(lambda: len(times_of(run)) > 0, process, folder)
        psutil.cpu_percent()
        ends = time.monotonic() + seconds
        next_kill = time.monotonic() + chance.expovariate(1 / mean_s)
        while time.monotonic() < ends:
            time.sleep(POLL_S)
            if process.poll() is not None:
                commands += 1
                process = start(command, folder)
            if target is not None and time.monotonic() >= next_kill:
                next_kill += chance.expovariate(1 / mean_s)
                kills += kill_one(target, process.pid, chance)
        return Arm(
            times=[one for one in times_of(run) if one <= seconds],
            kills=kills,
            commands=commands,
            start_cpu_s=start_cpu_s,
            sampling_share=sampling_share(run),
            busy_share=psutil.cpu_percent() / 100,
        )
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a command; its output is appended to `output.txt`."""
    environment = os.environ | {"TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"}
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for a condition of a run that must not end before."""
    while not is_so():
        if process.poll() is not None:
            raise SystemExit(f"the run ended before its first step:\n{(folder / 'output.txt').read_text()}")
        time.sleep(POLL_S)


def has_begun(run: Path) -> bool:
    """Whether samplers and learner are ready, and the first step begins."""
    events = run / "events.jsonl"
    return events.exists() and '"training"' in events.read_text()


def times_of(run: Path) -> list[float]:
    """Return the seconds from the end of step 1 to the end of each step."""
    ends = [datetime.fromisoformat(line["time"]) for line in read_metrics(run) if line["step"] > 0]
    return [(one - ends[0]).total_seconds() for one in ends]


def sampling_share(run: Path) -> float:
    """Return the share of the steps' time in which the samplers worked."""
    seconds = [line["seconds"] for line in read_metrics(run) if line["step"] > 0]
    share: float = sum(one["sample_and_grade"] for one in seconds) / sum(sum(one.values()) for one in seconds)
    return share


def find(target: str, driver: int) -> list[psutil.Process]:
    """Return the processes of a run with this role."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline()[:1])
            is_it = title.startswith(TITLES[target]) if target in TITLES else process.name() == PROGRAMS[target]
            found += [process] * is_it
    return found


def kill_one(target: str, driver: int, chance: random.Random) -> int:
    """Kill one process of a kind; return the number of killed processes, 0 if there is none now."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if victims := find(target, driver):
            chance.choice(victims).kill()
            return 1
    return 0


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a command and all processes that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


if __name__ == "__main__":
    main()
