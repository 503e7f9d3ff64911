"""The control plane alone: completions a second through one driver, with fake engines that cost nothing.

    python benchmarks/control_plane.py [--actors 1 2 4 8 16 32] [--completions 2048] [--tokens 100] [--repeats 5]

Requests go out through the fleet, completions come back one by one through Ray, a trivial grader grades each, and the
groups are put together: all that rft does besides the engine and the learner. The driver's own CPU time for each
completion says where it saturates whatever the number of actors; on a machine with few cores the actors' processes
saturate it first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from pathlib import Path

from harness import report

from rft.cluster import ray_session
from rft.config.schema import LocalCluster
from rft.grading import Panel, Task, load_grader
from rft.sampling.fleet import Fleet
from rft.sampling.spec import EngineSpec
from rft.types import Policy, Split

COMPLETIONS_PER_TASK = 8
TRIVIAL = f"{Path(__file__).parent / 'harness' / 'scoring.py'}:trivial"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="numbers of sampler actors")
    parser.add_argument("--completions", type=int, default=2048, help="completions of a batch (default: 2048)")
    parser.add_argument("--tokens", type=int, default=100, help="tokens of a completion (default: 100)")
    parser.add_argument("--repeats", type=int, default=5, help="batches, after one that does not count (default: 5)")
    given = parser.parse_args()
    print(f"{report.machine()}\n", flush=True)
    rows = []
    for num_actors in given.actors:
        batches = asyncio.run(measure(num_actors, given.completions, given.tokens, given.repeats))
        rates = [given.completions / wall_s for wall_s, _ in batches]
        driver_us = [driver_s / given.completions * 1e6 for _, driver_s in batches]
        rows.append(
            [
                str(num_actors),
                report.spread(rates, 0),
                report.spread(driver_us, 0),
                f"{1e6 / statistics.median(driver_us):,.0f}",
            ]
        )
        print(rows[-1], flush=True)
    head = ["actors", "completions/s", "driver's CPU, us a completion", "ceiling of the driver, completions/s"]
    print("\n" + report.table(head, rows))


async def measure(num_actors: int, completions: int, tokens: int, repeats: int) -> list[tuple[float, float]]:
    """Wall time and the driver's CPU time of each batch, seconds."""
    spec = EngineSpec(
        kind="fake",
        model=Path("none"),
        base=Policy(version=0, fingerprint="0" * 16),
        max_lora_rank=8,
        dtype="float32",
        max_context_tokens=4096,
        seed=0,
        num_threads=1,
        on_gpu=False,
        options={"script": ["x" * tokens]},
    )
    tasks = [
        Task(id=str(number), messages=({"role": "user", "content": "?"},), item={}, split=Split.TRAIN)
        for number in range(completions // COMPLETIONS_PER_TASK)
    ]
    batches = []
    async with ray_session(LocalCluster(), num_processes=num_actors):
        fleet = Fleet(
            spec,
            actor_options=[{"num_cpus": 1}] * num_actors,
            render=lambda task: (1,) * 50,
            seed=0,
            max_completion_tokens=tokens,
            start_timeout_s=300.0,
            stall_timeout_s=60.0,
        )
        panel = Panel([load_grader("trivial", {"use": TRIVIAL})])
        try:
            await fleet.start()
            for step in range(repeats + 1):
                began, cpu_began = time.perf_counter(), sum(os.times()[:2])
                stream = fleet.sample(
                    tasks, completions_per_task=COMPLETIONS_PER_TASK, temperature=1.0, purpose="train", step=step
                )
                groups = await panel.grade(tasks, stream, rollouts_per_task=COMPLETIONS_PER_TASK)
                batches.append((time.perf_counter() - began, sum(os.times()[:2]) - cpu_began))
                if sum(len(group.rollouts) for group in groups) != completions:
                    raise SystemExit(f"{completions} completions were asked for, {groups} came")
        finally:
            panel.close()
            fleet.close()
    return batches[1:]


if __name__ == "__main__":
    main()
