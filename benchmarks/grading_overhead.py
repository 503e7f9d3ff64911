"""Measures the overhead of grading: microseconds per completion for a trivial grader, as a Markdown table.

    python benchmarks/grading_overhead.py [--completions 256] [--repeats 9] [--workers 2]

The function `len(completion) <= limit` runs in rft's panel (async, in process, in worker processes), in one call for
the whole batch like a reward function of TRL's GRPOTrainer, and in a fresh Python process per completion.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from rft.grading import Rollout, Task, load_grader
from rft.grading.panel import Panel
from rft.types import Policy, Split, StopReason

GRADERS = """
def sync(completion, limit=200):
    return len(completion) <= limit

def in_process(completion, limit=200):
    return len(completion) <= limit
in_process.in_process = True

async def on_the_loop(completion, limit=200):
    return len(completion) <= limit

def whole(completion, task, rollout, limit=200):
    return len(completion) <= limit
"""
FRESH_PROCESSES = 8
"""Number of fresh processes; one takes as long as ten thousand calls."""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("completions", 256), ("repeats", 9), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    texts = ["The answer is 4. " * (1 + index % 20) for index in range(given.completions)]
    rows = {
        "called for the whole batch, as TRL does": repeat(lambda: trl_call(texts), given.repeats, len(texts)),
        "a fresh Python process per call": repeat(fresh_processes, given.repeats, FRESH_PROCESSES),
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trivial.py"
        file.write_text(GRADERS, encoding="utf-8")
        for title, name in {
            "rft, async": "on_the_loop",
            "rft, sync in process": "in_process",
            f"rft, in {given.workers} worker processes": "sync",
            f"rft, in {given.workers} worker processes, with task and rollout": "whole",
        }.items():
            rows[title] = asyncio.run(panel_times(f"{file}:{name}", texts, given.repeats, given.workers))
    print(f"Microseconds a completion, {given.completions} a batch, {given.repeats} batches:\n")
    print("| how | median | interquartile range |\n|---|---|---|")
    for title, times in rows.items():
        low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
        print(f"| {title} | {middle:,.1f} | {low:,.1f} to {high:,.1f} |")


def repeat(call: Callable[[], Any], repeats: int, per_call: int) -> list[float]:
    """Return microseconds per completion of repeated calls, after a warm-up call."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) / per_call * 1e6)
    return times[1:]


def trl_call(texts: Sequence[str]) -> list[float | None]:
    """Call a reward function for a batch with the arguments of GRPOTrainer, and check its result."""

    def reward(completions: Sequence[str], limit: int = 200, **_: Any) -> list[bool]:
        return [len(completion) <= limit for completion in completions]

    rewards = reward(prompts=["?"] * len(texts), completions=texts, completion_ids=[[2]] * len(texts), answer=["4"])
    if len(rewards) != len(texts):
        raise ValueError("one reward a completion")
    return [float(one) for one in rewards]


def fresh_processes() -> None:
    """Grade completions, each in its own Python process."""
    program = "import sys; print(len(sys.stdin.read()) <= 200)"
    for _ in range(FRESH_PROCESSES):
        subprocess.run([sys.executable, "-I", "-S", "-c", program], input=b"4", capture_output=True, check=True)


async def panel_times(use: str, texts: Sequence[str], repeats: int, num_workers: int) -> list[float]:
    """Return microseconds per completion of each batch through one panel, after three warm-up batches."""
    panel = Panel([load_grader("trivial", {"use": use})], num_workers=num_workers)
    task = Task(id="t", messages=({"role": "user", "content": "2 + 2 = ?"},), item={"answer": "4"}, split=Split.TEST)
    rollouts = [rollout(index, text) for index, text in enumerate(texts)]
    times = []
    try:
        for _ in range(repeats + 3):
            started = time.perf_counter()
            await panel.grade([task], stream(rollouts), rollouts_per_task=len(rollouts))
            times.append((time.perf_counter() - started) / len(rollouts) * 1e6)
    finally:
        panel.close()
    return times[3:]


def rollout(index: int, text: str) -> Rollout:
    """Return a rollout of 100 tokens."""
    return Rollout(
        task_id="t",
        index=index,
        prompt_ids=(1,) * 50,
        completion_ids=(2,) * 100,
        logprobs=(-0.123456789,) * 100,
        text=text,
        stop=StopReason.STOP,
        policy=Policy(version=0, fingerprint="0" * 16),
    )


async def stream(rollouts: Sequence[Rollout]) -> AsyncIterator[Rollout]:
    """Yield the rollouts like a sampler."""
    for one in rollouts:
        yield one


if __name__ == "__main__":
    main()
