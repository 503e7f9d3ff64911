"""Parts that need Ray, and TRL side by side: whole runs in processes of their own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from harness import gates, models, report
from harness.arms import Arm, Job, run_arm, taking_turns
from harness.rft_arm import words as run_words

from gpu.bench import ALPHA, RANK, Bench
from gpu.report import Notes, NotRun
from rft.imports import is_installed

ARM_TIMEOUT_S = 400.0
RANKS_TIMEOUT_S = 200.0
RANK_PROGRAM = """
import os, sys, torch
from rft.errors import RankLost
from rft.learning.ranks import Ranks
from rft.learning.spec import RankPlace

number, address, backend, device = int(sys.argv[1]), *sys.argv[2:]
place = RankPlace(number=number, of=2, address=address, host="127.0.0.1", backend=backend, gpu=str(number))
ranks = Ranks.join(place, timeout_s=20)
tensor = torch.full((4,), number + 1.0, device=device)
ranks.add_up([tensor])
print(tensor.tolist(), flush=True)
if number == 1:
    ranks._store.meet()  # arrive at the sum, and die before it
    os._exit(9)
try:
    ranks.add_up([tensor])
except RankLost as error:
    print(error, flush=True)
os._exit(0)  # NCCL may wait for the other rank while it closes
"""
MICRO_BATCHES = {"0.5B": 16, "1.5B": 8}
"""Completions of a micro-batch beside TRL: about 12,000 and 6,000 padded tokens."""


def run(bench: Bench, notes: Notes, *, words: Sequence[str], num_gpus: int = 1, needs_gpu: bool = False) -> None:
    """Train for a few steps with `rft train`, and check that every sync was proved.

    Args:
        bench: The machine.
        notes: The result.
        words: Overrides.
        num_gpus: GPUs that the run needs.
        needs_gpu: Whether the run cannot work on a CPU.

    Raises:
        NotRun: Ray or GPUs are missing.
    """
    _need(bench, num_gpus)
    if needs_gpu and bench.dry:
        raise NotRun(f"{' '.join(words)} needs a GPU")
    folder = bench.work / "runs" / "-".join(words).translate(str.maketrans("/=", "__"))
    job = _job(bench, "0.5B", steps=3)
    lora = [] if "learner.adapter=full" in words else [f"learner.adapter.rank={RANK}", f"learner.adapter.alpha={ALPHA}"]
    common = [word for word in run_words(job, Arm(name="rft", side="rft"), folder) if "learner.adapter." not in word]
    command = [sys.executable, "-m", "rft.cli", "train", *common, *lora, *words]
    subprocess.run(command, check=True)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if line["step"] > 0]
    notes.note(
        step_s=[sum(line["seconds"].values()) for line in steps],
        proof_s=statistics.fmean(line["metrics"]["sync/proof_s"] for line in steps),
        manifest=json.loads((folder / "manifest.json").read_text(encoding="utf-8")),
    )
    notes.check("three steps", len(steps) == 3)
    notes.check("every sync was proved", all(line["metrics"]["sync/proved"] >= 1 for line in steps))


def lost_rank(bench: Bench, notes: Notes) -> None:
    """Add up on two ranks, and lose one during a sum: the other must name the loss before a deadline.

    Raises:
        NotRun: There are fewer than two GPUs.
    """
    from rft.learning.rank_store import open_store

    _need_gpus(bench, 2)
    store = open_store("127.0.0.1")
    backend = "gloo" if bench.dry else "nccl"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK_PROGRAM, str(number), f"127.0.0.1:{store.port}", backend, bench.device],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "" if bench.dry else str(number)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    with bench.timed() as seconds:
        first, second = (process.communicate(timeout=RANKS_TIMEOUT_S)[0].splitlines() for process in processes)
    notes.note(backend=backend, seconds=seconds[0], message=first[1:])
    notes.check("both have the sum", first[:1] == second[:1] == [str([3.0] * 4)])
    notes.check("the lost rank is named", len(first) == 2 and "lost" in first[1])


def sample(bench: Bench, notes: Notes) -> None:
    """Sample a completion of a base model with `rft sample`."""
    command = [
        sys.executable,
        "-m",
        "rft.cli",
        "sample",
        "abc",
        "--model",
        str(bench.model("0.5B")),
        "--max-tokens",
        "8",
    ]
    with bench.timed() as seconds:
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    notes.note(seconds=seconds[0], output=output)
    notes.check("there is a completion", bool(output.strip()))


def beside_trl(bench: Bench, notes: Notes, *, shape: str, repeats: int = 2) -> None:
    """Time steps of TRL with vLLM in its process and of rft on the same GPU, alternately.

    Raises:
        NotRun: Ray or a GPU is missing.
    """
    _need(bench, 1)
    job, micro_batch = _job(bench, shape, steps=6), MICRO_BATCHES[shape]
    arms = dry_arms(micro_batch) if bench.dry else gpu_arms(micro_batch)
    outcomes: dict[str, list[Any]] = {arm.name: [] for arm in arms}
    for repeat, arm in taking_turns(arms, repeats):
        folder = bench.work / "arms" / f"{shape}-{repeat}-{arms.index(arm)}"
        outcomes[arm.name].append(run_arm(arm, job, folder, timeout_s=ARM_TIMEOUT_S))
    problems = gates.failures([outcome for of_arm in outcomes.values() for outcome in of_arm], job, learns=False)
    notes.note(problems=problems)
    notes.check("the arms did the same work", not problems)
    tokens = job.prompts_per_step * job.completions_per_prompt * job.max_completion_tokens
    for name, of_arm in outcomes.items():
        seconds = [report.step_s(outcome, job) for outcome in of_arm]
        phases = report.phases(of_arm, job.warm_up_steps)
        notes.note(**{name: {"step_s": seconds, "tokens_per_s": tokens / min(seconds), "phases_s": phases}})


def gpu_arms(micro_batch: int) -> list[Arm]:
    """TRL with vLLM in its process, and rft with both processes on the same GPU, merged and with adapters."""
    ours = {"learner.completions_per_micro_batch": micro_batch, "learner.trl.gradient_checkpointing": False}
    theirs = {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": 0.4,
        "per_device_train_batch_size": micro_batch,
    }
    return [
        Arm(name="TRL, vLLM colocated", side="trl", options=theirs),
        Arm(name="rft, merged", side="rft", options=ours | {"sampler.serve": "merged"}),
        Arm(name="rft, adapter", side="rft", options=ours | {"sampler.serve": "adapter"}),
    ]


def dry_arms(micro_batch: int) -> list[Arm]:
    """TRL without vLLM, and rft, on the CPU."""
    return [
        Arm(name="TRL, generate", side="trl", options={"per_device_train_batch_size": micro_batch}),
        Arm(name="rft", side="rft", options={"learner.completions_per_micro_batch": micro_batch}),
    ]


def _job(bench: Bench, shape: str, *, steps: int) -> Job:
    """A job on random prompts, graded by the digits of the completions."""
    prompts, prompt_tokens, completion_tokens = (4, 16, 8) if bench.dry else (64, 256, 512)
    file = models.write_prompts(bench.work / f"{prompt_tokens}.jsonl", num_tasks=8 * prompts, tokens=prompt_tokens)
    return Job(
        name=shape,
        model=bench.model(shape),
        tasks=file,
        score="digits",
        steps=steps,
        warm_up_steps=2,
        prompts_per_step=prompts,
        completions_per_prompt=4 if bench.dry else 8,
        max_completion_tokens=completion_tokens,
        max_context_tokens=prompt_tokens + completion_tokens,
        learning_rate=1e-5,
        dtype=bench.size.dtype,
    )


def _need(bench: Bench, num_gpus: int) -> None:
    if not is_installed("ray"):
        raise NotRun("Ray is not installed")
    _need_gpus(bench, num_gpus)


def _need_gpus(bench: Bench, num_gpus: int) -> None:
    if bench.dry:
        return
    import torch

    if torch.cuda.device_count() < num_gpus:
        raise NotRun(f"needs {num_gpus} GPUs; this machine has {torch.cuda.device_count()}")
