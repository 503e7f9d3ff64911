"""Measures the control plane: completions per second through one driver, with fake engines.

    python benchmarks/control_plane.py [--paced-actors 1 2 4 8 16] [--actors 1 2 4 8 16 32 64] [--repeats 5]

The fleet sends requests, completions return one by one through Ray, a trivial grader scores each, and the panel
assembles the groups: all work of rft besides engine and learner. Paced engines finish a fixed number of completions
per second, so N engines should finish N times that number. Engines without a pace finish immediately, which shows the
limit of the driver and the CPU time of a completion. The exit code is 1 if paced engines reach less than 90% of linear
scaling, or engines without a pace fewer than 2,000 completions per second at best.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from harness import report
from harness.control_plane_picture import draw
from harness.machine_load import busy_s

from rft.cluster import ray_session
from rft.config.clusters import LocalClusterConfig
from rft.config.samplers.fake import FakeSamplerConfig
from rft.grading import Task, load_grader
from rft.grading.panel import Panel
from rft.sampling.engines import Engines
from rft.sampling.fleet import Fleet
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import Adapter, Policy, Publication, Split

COMPLETIONS_PER_TASK = 8
ADAPTER_BYTES = 1_000_000
TRIVIAL = f"{Path(__file__).parent / 'harness' / 'scoring.py'}:trivial"
MIN_EFFICIENCY, MIN_COMPLETIONS_PER_S = 0.9, 2_000


@dataclass(frozen=True)
class Measured:
    """Medians over the batches of one number of actors."""

    num_actors: int
    per_s: float
    """Completions per second."""
    spread: str
    """Completions per second with their range."""
    cpu_us: Mapping[str, float]
    """CPU microseconds of a completion by group of processes."""
    cores: Mapping[str, float]
    """Cores that each group kept busy."""
    sync_s: float
    """Seconds for the sync of an adapter of `ADAPTER_BYTES`."""
    other_cores: float
    """Cores that other work kept busy."""


def main() -> None:
    """Measure, print the tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paced-actors", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="numbers of paced actors")
    parser.add_argument("--pace", type=int, default=100, help="completions per second and actor (default: 100)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds of a paced batch (default: 5)")
    parser.add_argument(
        "--actors", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64], help="numbers of actors without a pace"
    )
    parser.add_argument(
        "--completions", type=int, default=2048, help="completions of a batch without a pace (default: 2048)"
    )
    parser.add_argument("--tokens", type=int, default=100, help="tokens of a completion (default: 100)")
    parser.add_argument("--repeats", type=int, default=5, help="timed batches, after a warm-up batch (default: 5)")
    parser.add_argument("--picture", type=Path, default=None, help="PNG file of the picture")
    given = parser.parse_args()
    print(f"{report.machine()}\n", flush=True)
    tasks_each = -(-given.pace * given.seconds // COMPLETIONS_PER_TASK)
    paced = [
        asyncio.run(
            measure(actors, actors * tasks_each * COMPLETIONS_PER_TASK, given.pace, given.tokens, given.repeats)
        )
        for actors in given.paced_actors
    ]
    print(f"Engines with {given.pace} completions per second each\n\n{paced_table(paced, given.pace)}\n", flush=True)
    free = [
        asyncio.run(measure(actors, given.completions, None, given.tokens, given.repeats)) for actors in given.actors
    ]
    print(f"Engines without a pace\n\n{free_table(free)}\n")
    busiest = max(free, key=lambda one: one.num_actors)
    cores_by_group = ", ".join(f"{group} {cores:.2f}" for group, cores in busiest.cores.items())
    print(f"Busy cores with {busiest.num_actors} actors without a pace, of {os.cpu_count()}: {cores_by_group}")
    if given.picture is not None:
        draw(
            given.picture,
            pace=given.pace,
            paced={one.num_actors: one.per_s for one in paced},
            free={one.num_actors: one.per_s for one in free},
            cpu_us={one.num_actors: one.cpu_us for one in free},
        )
    worst = min(one.per_s / (one.num_actors * given.pace) for one in paced)
    best = max(one.per_s for one in free)
    if worst < MIN_EFFICIENCY or best < MIN_COMPLETIONS_PER_S:
        raise SystemExit(
            f"paced engines reached {worst:.2f} of linear scaling (target {MIN_EFFICIENCY}), engines without a pace "
            f"{best:,.0f} completions per second (target {MIN_COMPLETIONS_PER_S:,})"
        )


def paced_table(measured: Sequence[Measured], pace: int) -> str:
    """A row for each number of actors."""
    groups = list(measured[0].cpu_us)
    head = ["actors", "linear, completions/s", "completions/s", "of linear", *(f"{group}, us" for group in groups)]
    head.append("others, cores")
    return report.table(
        head,
        [
            [
                str(one.num_actors),
                f"{one.num_actors * pace:,}",
                one.spread,
                f"{one.per_s / (one.num_actors * pace):.3f}",
                *(f"{one.cpu_us[group]:.0f}" for group in groups),
                f"{one.other_cores:.2f}",
            ]
            for one in measured
        ],
    )


def free_table(measured: Sequence[Measured]) -> str:
    """A row for each number of actors."""
    groups = list(measured[0].cpu_us)
    head = ["actors", "completions/s", *(f"{group}, us" for group in groups)]
    head += ["driver's ceiling/s", "sync, ms", "others, cores"]
    return report.table(
        head,
        [
            [
                str(one.num_actors),
                one.spread,
                *(f"{one.cpu_us[group]:.0f}" for group in groups),
                f"{1e6 / one.cpu_us['driver']:,.0f}",
                f"{1e3 * one.sync_s:.0f}",
                f"{one.other_cores:.2f}",
            ]
            for one in measured
        ],
    )


async def measure(num_actors: int, completions: int, pace: int | None, tokens: int, repeats: int) -> Measured:
    """Sample and grade batches with a fleet of fake engines; the first batch is a warm-up."""
    tasks = [
        Task(id=str(number), messages=({"role": "user", "content": "?"},), item={}, split=Split.TRAIN)
        for number in range(completions // COMPLETIONS_PER_TASK)
    ]
    wall_s: list[float] = []
    async with ray_session(LocalClusterConfig(), num_processes=num_actors):
        engines = Engines(fake_engine(pace, tokens), actor_options=[{"num_cpus": 1}] * num_actors)
        fleet = Fleet(engines, engines.spec.sampler, render=lambda task: (1,) * 50, seed=0)
        panel = Panel([load_grader("trivial", {"use": TRIVIAL})])
        try:
            await engines.start()
            for step in range(repeats + 1):
                if step == 1:
                    before, busy_before, began_all = cpu_s(), busy_s(), time.perf_counter()
                began = time.perf_counter()
                stream = fleet.sample(
                    tasks, completions_per_task=COMPLETIONS_PER_TASK, temperature=1.0, purpose="train", step=step
                )
                groups = await panel.grade(tasks, stream, rollouts_per_task=COMPLETIONS_PER_TASK)
                wall_s.append(time.perf_counter() - began)
                if sum(len(group.rollouts) for group in groups) != completions:
                    raise SystemExit(f"expected {completions} completions, received {groups}")
            all_s = time.perf_counter() - began_all
            used_s = {group: after - before[group] for group, after in cpu_s().items()}
            other_s = busy_s() - busy_before - sum(used_s.values())
            syncs = [await fleet.load(publication(version)) for version in range(1, repeats + 2)]
        finally:
            panel.close()
            engines.close()
    per_s = [completions / one for one in wall_s[1:]]
    return Measured(
        num_actors=num_actors,
        per_s=statistics.median(per_s),
        spread=report.spread(per_s, 0),
        cpu_us={group: seconds / (repeats * completions) * 1e6 for group, seconds in used_s.items()},
        sync_s=statistics.median(sync.metrics["sync/total_s"] for sync in syncs[1:]),
        cores={group: seconds / all_s for group, seconds in used_s.items()},
        other_cores=max(0.0, other_s / all_s),
    )


def fake_engine(pace: int | None, tokens: int) -> EngineSpec:
    """Return the spec of an engine that repeats one text, at `pace` completions per second."""
    return EngineSpec(
        sampler=FakeSamplerConfig(
            script=["x" * tokens], completions_per_s=pace, max_completion_tokens=tokens, stall_timeout_s=60.0
        ),
        base=Policy(version=0, fingerprint="0" * 16),
        max_lora_rank=8,
        dtype="float32",
        max_context_tokens=4096,
        seed=0,
        place=EnginePlace(model=Path("none"), num_threads=1, num_gpus=0),
    )


def publication(version: int) -> Publication:
    """Return a publication with an adapter of zeros."""
    tensors = version.to_bytes(ADAPTER_BYTES, "big")
    policy = Policy(version=version, fingerprint=hashlib.sha256(tensors).hexdigest()[:16])
    return Publication(weights=Adapter(policy=policy, config={}, tensors=tensors))


def cpu_s() -> dict[str, float]:
    """Return the CPU seconds of each group of processes: this one, the actors, and Ray's own."""
    used = {"driver": _cpu_s(psutil.Process()), "actors": 0.0, "Ray": 0.0}
    for process in psutil.Process().children(recursive=True):
        try:
            group = "actors" if "SamplerActor" in " ".join(process.cmdline()) else "Ray"
            used[group] += _cpu_s(process)
        except psutil.NoSuchProcess:
            continue
    return used


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
