"""Measures how well `rft feasibility` knows the share of informative groups, and what a run will then see.

    python benchmarks/feasibility.py simulate [--repeats 400] [--workers 2]
    python benchmarks/feasibility.py run --out feasibility.jsonl     # continues; --settings 0 1 2 runs some
    python benchmarks/feasibility.py table feasibility.jsonl

`simulate` draws tasks from populations of pass rates, so the true share is known. It reports how often the estimate is
within 8 points with 160 tasks of 16 samples, and within 12.5 with 64; the coverage of the intervals; and how often a
paired comparison shows the smallest difference that the held-out set should be able to show (80% is promised).

`run` samples with the embedded model and `sampler=transformers` in this process: first for feasibility, then the groups
of 20 steps, with the order of tasks and the seeds of `rft train`. The policy stays the same, as it would at a learning
rate near 0, so no learner is needed. A setting counts if the share of informative groups is in the prediction interval.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import math
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import fmean, variance
from typing import Any, NamedTuple

import numpy as np
import torch
from harness import report

from rft.batches import Batcher
from rft.config.commands import load_feasibility
from rft.metrics.informative import between_tasks, informative_share, predicted_share
from rft.metrics.intervals import estimate, paired_difference
from rft.metrics.power import smallest_difference
from rft.models.base_model import locate
from rft.run import build
from rft.run.feasibility import measure_feasibility
from rft.run.inputs.prepare import Prepared, prepare
from rft.run.local_engine import open_local_engine
from rft.run.parts import Parts
from rft.run.task_order import task_order
from rft.sampling.engine import Engine, Request, SamplingOptions, request_seed, sample_all
from rft.types import Rollout, Task

Rates = Callable[[np.random.Generator, int], np.ndarray]
POPULATIONS: dict[str, Rates] = {
    "uniform": lambda draw, n: draw.random(n),
    "hard, Beta(0.3, 3)": lambda draw, n: draw.beta(0.3, 3.0, n),
    "easy, Beta(5, 0.5)": lambda draw, n: draw.beta(5.0, 0.5, n),
    "half never, half always": lambda draw, n: draw.integers(0, 2, n).astype(float),
    "all at 5%": lambda draw, n: np.full(n, 0.05),
    "half at 0, half at 50%": lambda draw, n: 0.5 * draw.integers(0, 2, n),
}
TASKS = {160: 0.08, 64: 0.125}
"""Numbers of sampled tasks, each with the error that is allowed."""
SAMPLES, STEPS, PROMPTS = 16, 20, 8
REAL_TASKS, REAL_PROMPTS, AT_ONCE = 64, 4, 128
"""Sampled tasks, prompts of a step and completions sampled at once with the embedded model: few, for two cores."""
FILE_TASKS = 2000
"""Tasks in the file from which both feasibility and run draw."""
SETTINGS: tuple[tuple[str, ...], ...] = tuple(
    (f"seed={seed}", *words)
    for words in (
        ("data.train=embedded:chain_sum/train", "sampler.temperature=1.0", "loop.completions_per_prompt=4"),
        ("data.train=embedded:chain_sum/train", "sampler.temperature=0.7", "loop.completions_per_prompt=8"),
        ("data.train=embedded:spell_backward/train", "sampler.temperature=1.0", "loop.completions_per_prompt=4"),
        ("data.train=embedded:gcd/train", "sampler.temperature=1.2", "loop.completions_per_prompt=4"),
    )
    for seed in range(5)
)
KEYS = (
    *("model.path=embedded:tiny", "graders.correct.use=reasoning_gym", "sampler=transformers", "learner=fake"),
    *(
        f"loop.steps={STEPS}",
        f"loop.prompts_per_step={REAL_PROMPTS}",
        "sampler.max_completion_tokens=48",
        "logging=none",
    ),
    *(f"feasibility.max_tasks={REAL_TASKS}", "feasibility.completions_per_task=8"),
)


class Cell(NamedTuple):
    """Results of a population and a number of tasks."""

    population: str
    tasks: int
    group_size: int
    truth: float
    within: float
    half_width: float
    covered: float
    predicted: float
    width: float


def simulated(cell: tuple[str, int, int], *, repeats: int) -> Cell:
    """Simulate one cell: estimates of feasibility, and runs at an unchanged policy."""
    name, num_tasks, size = cell
    draw = np.random.default_rng(abs(hash((num_tasks, size))) + list(POPULATIONS).index(name))
    many = POPULATIONS[name](np.random.default_rng(0), 400_000)
    truth = float(np.mean(1 - many**size - (1 - many) ** size))
    within = covered = predicted = 0
    half_widths, widths = [], []
    for _ in range(repeats):
        rates = POPULATIONS[name](draw, FILE_TASKS)
        sampled = draw.choice(FILE_TASKS, num_tasks, replace=False)
        visited = draw.choice(FILE_TASKS, STEPS * PROMPTS, replace=False)
        right = draw.binomial(SAMPLES, rates[sampled])
        counts = {
            str(task): [c for c in (SAMPLES - k, k) if c] for task, k in zip(sampled, right.tolist(), strict=True)
        }
        shares = {task: informative_share(of_task, size) for task, of_task in counts.items()}
        found = estimate(list(shares.values()))
        low, high = found.ci95 or (math.nan, math.nan)
        between = between_tasks(list(counts.values()), size)
        bounds = predicted_share(shares, dict.fromkeys(map(str, visited), 1), between=between)
        groups = draw.binomial(size, rates[visited])
        seen = float(np.mean((groups > 0) & (groups < size)))
        within += abs(found.mean - truth) <= TASKS[num_tasks]
        covered += low <= truth <= high
        predicted += bounds[0] - 1e-9 <= seen <= bounds[1] + 1e-9
        half_widths.append((high - low) / 2)
        widths.append(bounds[1] - bounds[0])
    rest = (within / repeats, fmean(half_widths), covered / repeats, predicted / repeats, fmean(widths))
    return Cell(name, num_tasks, size, truth, *rest)


def power(held_out: int, completions: int, kind: str, *, repeats: int) -> tuple[float, float]:
    """Return the promised smallest difference, and how often a comparison shows it.

    Args:
        held_out: Number of held-out tasks.
        completions: Completions of each.
        kind: `spread`: all tasks get better; `whole`: some tasks are solved now, and the others stay.
        repeats: Number of simulated comparisons.
    """
    draw = np.random.default_rng(held_out + completions)
    shown, differences = 0, []
    for _ in range(repeats):
        trained = draw.binomial(SAMPLES, draw.beta(0.7, 1.3, 160))
        noise = 2 * fmean(variance([1.0] * k + [0.0] * (SAMPLES - k)) for k in trained.tolist()) / completions
        wanted = smallest_difference(held_out, noise=noise, width=1.0) or 1.0
        rates = draw.beta(0.7, 1.3, held_out)
        room = 1 - 0.7 / 2
        gain = min(1.0, wanted / room)
        better = rates + gain * (1 - rates) if kind == "spread" else np.where(draw.random(held_out) < gain, 1.0, rates)
        before = draw.binomial(completions, rates) / completions
        after = draw.binomial(completions, better) / completions
        pairs = {str(task): (float(b), float(a)) for task, (b, a) in enumerate(zip(before, after, strict=True))}
        found = paired_difference({t: b for t, (b, _) in pairs.items()}, {t: a for t, (_, a) in pairs.items()})
        shown += found.ci95 is not None and found.ci95[0] > 0
        differences.append(wanted)
    return fmean(differences), shown / repeats


class LocalSampler:
    """Samples with an engine in this process, with the seeds of a fleet."""

    def __init__(self, engine: Engine, prepared: Prepared, seed: int, max_tokens: int) -> None:
        self._engine, self._prepared, self._seed, self._max_tokens = engine, prepared, seed, max_tokens

    async def sample(
        self, tasks: Sequence[Task], *, completions_per_task: int, temperature: float, purpose: str, step: int
    ) -> AsyncIterator[Rollout]:
        """Sample like `Fleet.sample`."""
        requests = [
            Request(
                task_id=task.id,
                index=index,
                prompt_ids=self._prepared.renderer.render(task),
                seed=request_seed(self._seed, purpose, step, task.id, index),
            )
            for task in tasks
            for index in range(completions_per_task)
        ]
        options = SamplingOptions(temperature=temperature, max_completion_tokens=self._max_tokens, stop=())
        for start in range(0, len(requests), AT_ONCE):
            for rollout in sample_all(self._engine, requests[start : start + AT_ONCE], options):
                yield rollout


@functools.cache
def opened_engine() -> Engine:
    """Open the engine of all settings; a second thread would not speed up so small a model."""
    engine = open_local_engine("transformers", locate("embedded:tiny"), None, seed=0, num_completions=AT_ONCE)
    torch.set_num_threads(1)
    return engine


def judged(number: int) -> dict[str, Any]:
    """Measure a setting, and sample the groups of its first steps."""
    run = load_feasibility([*KEYS, *SETTINGS[number]])
    prepared = prepare(run, needs_training_tasks=True)
    engine = opened_engine()
    panel = build.panel(run, prepared, lambda _: None)
    sampler: Any = LocalSampler(engine, prepared, run.seed, run.sampler.max_completion_tokens)
    tasks = prepared.tasks.train
    batcher = Batcher(
        sampler=sampler,
        panel=panel,
        order=task_order(run, tasks),
        completions_per_prompt=run.loop.completions_per_prompt,
        temperature=run.sampler.temperature,
    )

    async def both() -> tuple[dict[str, Any], float]:
        parts: Any = Parts(sampler, panel, None)
        try:
            found, _ = await measure_feasibility(
                run, prepared, parts, tasks, lambda _: None, start_s=0.0, with_learner=False
            )
            batches = [await batcher.start(step) for step in range(1, STEPS + 1)]
        finally:
            panel.close()
        return found, fmean(float(group.is_informative) for batch in batches for group in batch.groups)

    found, seen = asyncio.run(both())
    informative = found["informative"]
    keys = ("group_size", "share", "predicted")
    return {"setting": SETTINGS[number], "seen": seen, "verdict": found["verdict"]} | {
        key: informative[key] for key in keys
    }


def print_simulation(repeats: int, workers: int) -> int:
    """Print both tables; return 1 if a promise is not kept."""
    cells = [(name, tasks, size) for name in POPULATIONS for tasks in TASKS for size in (4, 8)]
    with ProcessPoolExecutor(workers) as pool:
        rows = list(pool.map(partial(simulated, repeats=repeats), cells))
    head = ["pass rates", "tasks", "G", "share", "within", "half width", "covered", "run in prediction", "its width"]
    lines = [[r.population, str(r.tasks), str(r.group_size), *(f"{value:.3f}" for value in r[3:])] for r in rows]
    print(report.table(head, lines) + "\n")
    powers = [
        (held_out, each, kind, *power(held_out, each, kind, repeats=repeats))
        for held_out in (50, 100, 250)
        for each in (1, 4)
        for kind in ("spread", "whole")
    ]
    shown = [[str(n), str(m), kind, f"{wanted:.3f}", f"{share:.3f}"] for n, m, kind, wanted, share in powers]
    print(report.table(["held-out tasks", "samples", "gain", "smallest difference", "shown"], shown))
    slack = 2 * math.sqrt(0.05 * 0.95 / repeats)
    kept = all(min(r.within, r.covered, r.predicted) >= 0.93 - slack for r in rows)
    return 0 if kept and all(share >= 0.8 - 2 * slack for *_, share in powers) else 1


def print_runs(file: Path) -> int:
    """Print the table of settings; return 1 if fewer than 17 of 20 lie in their prediction."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    rows, inside = [], 0
    for line in lines:
        low, high = line["predicted"]["low"], line["predicted"]["high"]
        is_inside = low <= line["seen"] <= high
        inside += is_inside
        setting = ", ".join(word.partition("=")[2].removeprefix("embedded:") for word in line["setting"])
        ci95 = line["share"]["ci95"]
        found = f"{line['share']['mean']:.3f} [{ci95[0]:.3f}, {ci95[1]:.3f}]"
        rows.append([setting, found, f"{low:.3f} to {high:.3f}", f"{line['seen']:.3f}", "yes" if is_inside else "no"])
    print(report.table(["seed, tasks, temperature, G", "informative groups", "prediction", "20 steps", "inside"], rows))
    print(f"\n{inside} of {len(rows)} inside")
    return 0 if inside >= 0.85 * len(rows) else 1


def main() -> int:
    """Run a part of the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)
    simulation = parts.add_parser("simulate")
    simulation.add_argument("--repeats", type=int, default=400)
    simulation.add_argument("--workers", type=int, default=2)
    running = parts.add_parser("run")
    running.add_argument("--settings", type=int, nargs="+", default=list(range(len(SETTINGS))))
    running.add_argument("--out", type=Path, required=True)
    parts.add_parser("table").add_argument("file", type=Path)
    given = parser.parse_args()
    if given.part == "simulate":
        return print_simulation(given.repeats, given.workers)
    if given.part == "table":
        return print_runs(given.file)
    done = [json.loads(line)["setting"] for line in given.out.read_text().splitlines()] if given.out.exists() else []
    for number in given.settings:
        if list(SETTINGS[number]) in done:
            continue
        line = judged(number)
        with given.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
