"""Measures the seconds of a batch of episodes whose environment sleeps in every turn, with the fake engine.

    python benchmarks/episodes.py [--episodes 64] [--turns 5] [--sleep-s 0.2] [--batches 7]

The longest chain of turns alone takes `turns * sleep` seconds. Episodes should overlap, so a batch should take little
longer. The first batch also starts the processes of the environment, and does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import rft

ENVIRONMENT = """
import asyncio

async def sleepy(task, policy, turns, sleep_s):
    for turn in range(turns):
        await policy(f"turn {turn}")
        await asyncio.sleep(sleep_s)
    return 1.0
"""


def main() -> None:
    """Measure and print a row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("episodes", 64), ("turns", 5), ("batches", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--sleep-s", type=float, default=0.2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = asyncio.run(measured(Path(folder), given))
    chain_s = given.turns * given.sleep_s
    median_s = statistics.median(seconds)
    print("| episodes | turns | longest chain, s | batch, s (median, lowest, highest) | ratio |")
    print("| --- | --- | --- | --- | --- |")
    print(
        f"| {given.episodes} | {given.turns} | {chain_s:.2f} | {median_s:.2f}, {min(seconds):.2f}, {max(seconds):.2f} "
        f"| {median_s / chain_s:.2f} |"
    )


async def measured(folder: Path, given: argparse.Namespace) -> list[float]:
    """Return the seconds of each batch but the first."""
    (folder / "env.py").write_text(ENVIRONMENT, encoding="utf-8")
    rows = "".join(f'{{"number": {number}}}\n' for number in range(given.episodes // 8))
    (folder / "tasks.jsonl").write_text(rows, encoding="utf-8")
    settings = {
        "model.path": "embedded:tiny",
        "data.train": str(folder / "tasks.jsonl"),
        "environment.use": f"{folder / 'env.py'}:sleepy",
        "environment.options": {"turns": given.turns, "sleep_s": given.sleep_s},
        "sampler": "fake",
        "learner": "fake",
        "loop.steps": given.batches + 1,
        "loop.prompts_per_step": given.episodes // 8,
        "loop.completions_per_prompt": 8,
        "output_dir": str(folder / "run"),
    }
    seconds = []
    async with rft.parts(settings, quiet=True) as parts:
        for step in range(1, given.batches + 2):
            began_s = time.perf_counter()
            tasks = parts.order.of_step(step)
            rollouts = parts.sampler.sample(tasks, completions_per_task=8, temperature=1.0, purpose="train", step=step)
            await parts.panel.grade(tasks, rollouts, rollouts_per_task=8)
            seconds.append(time.perf_counter() - began_s)
    return seconds[1:]


if __name__ == "__main__":
    main()
