"""Measures the quickstart with several seeds: time, peak memory, held-out accuracy. Prints a Markdown table.

python benchmarks/quickstart_seeds.py            # seeds 0 to 4, about ten minutes on two cores
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from harness.commands import measured

SEEDS = range(5)
POLL_S = 0.5


def main() -> None:
    """Run the seeds one after another and print the table."""
    print("| seed | before | after | after - before | wall s | peak memory GB |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="rft-seeds-") as folder:
        for seed in SEEDS:
            run = Path(folder) / str(seed)
            started = time.monotonic()
            peak_gb = run_to_its_end(["train", "experiment=quickstart", f"seed={seed}", f"output_dir={run}"])
            wall_s = time.monotonic() - started
            cells = [measured(run, name).text() for name in ("before", "after", "difference")]
            print(f"| {seed} | {' | '.join(cells)} | {wall_s:.0f} | {peak_gb:.1f} |", flush=True)


def run_to_its_end(words: list[str]) -> float:
    """Run `rft` and return the peak memory of all its processes in GB, with shared pages counted once (PSS)."""
    command = [sys.executable, "-m", "rft.cli", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    parent = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            peak = max(peak, sum(map(memory, [parent, *parent.children(recursive=True)])))
        time.sleep(POLL_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return peak / 1e9


def memory(process: psutil.Process) -> int:
    """Return the proportional set size in bytes; 0 for an ended process."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
