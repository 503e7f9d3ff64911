"""Compares rft with TRL and colocated vLLM on one GPU: random weights in Qwen2.5's sizes, completions of fixed length.

    python benchmarks/gpu_shapes.py --shapes 0.5B 1.5B [--repeats 2]
    python benchmarks/gpu_shapes.py --dry-run                 a short trial with two layers on a CPU

`harness/models.py` generates the models, so nothing is downloaded. Arms take turns in fresh processes, and the gates of
`vs_trl.py` apply. Both sides have the same tuned options: bfloat16, no gradient checkpointing, and a large micro-batch.
both sides have the same.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import gates, models, report
from harness.arms import Arm, ArmFailed, Job, run_arm, taking_turns

TIMEOUT_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of a step."""

    prompts_per_step: int
    completions_per_prompt: int
    prompt_tokens: int
    completion_tokens: int
    micro_batches: dict[str, int]
    """Completions in one forward and backward pass, by shape."""


FULL = Size(
    prompts_per_step=64,
    completions_per_prompt=8,
    prompt_tokens=256,
    completion_tokens=512,
    micro_batches={"0.5B": 64, "1.5B": 32, "7B": 8},
)
DRY = Size(
    prompts_per_step=4,
    completions_per_prompt=4,
    prompt_tokens=16,
    completion_tokens=8,
    micro_batches=dict.fromkeys(models.QWEN2_5, 8),
)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=list(models.QWEN2_5), default=["0.5B"], help="default: 0.5B")
    parser.add_argument("--repeats", type=int, default=2, help="rounds (default: 2)")
    parser.add_argument("--steps", type=int, default=6, help="steps of a run, including 2 of warm-up (default: 6)")
    parser.add_argument("--dry-run", action="store_true", help="shrink everything and run on the CPU")
    given = parser.parse_args()
    size = DRY if given.dry_run else FULL
    print(f"{report.machine()}\n", flush=True)
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="rft-shapes-") as temporary:
        for shape in given.shapes:
            try:
                rows += measure(shape, size, given, Path(temporary))
            except ArmFailed as failure:
                raise SystemExit(str(failure)) from None
    print("\n" + report.table(["shape", "arm", "step, s", "TRL's step / this step", "phases, s", "tokens/s"], rows))


def measure(shape: str, size: Size, given: argparse.Namespace, folder: Path) -> list[list[str]]:
    """Run all arms with one shape; return the table's rows."""
    prompts = folder / f"{shape}.jsonl"
    models.write_prompts(prompts, num_tasks=8 * size.prompts_per_step, tokens=size.prompt_tokens)
    job = Job(
        name=shape,
        model=models.make_qwen(folder / f"qwen-{shape}", shape, dry=given.dry_run),
        tasks=prompts,
        score="digits",
        steps=given.steps,
        warm_up_steps=2,
        prompts_per_step=size.prompts_per_step,
        completions_per_prompt=size.completions_per_prompt,
        max_completion_tokens=size.completion_tokens,
        max_context_tokens=size.prompt_tokens + size.completion_tokens,
        learning_rate=1e-5,
        dtype="float32" if given.dry_run else "bfloat16",
    )
    arms = dry_arms(size.micro_batches[shape]) if given.dry_run else gpu_arms(size.micro_batches[shape])
    outcomes: dict[str, list[Any]] = {one.name: [] for one in arms}
    for repeat, one in taking_turns(arms, given.repeats):
        place = folder / f"{shape}-{repeat}-{arms.index(one)}"
        outcomes[one.name].append(run_arm(one, job, place, timeout_s=TIMEOUT_S))
        print(f"{shape}, round {repeat}: {one.name}: {report.step_s(outcomes[one.name][-1], job):.3f} s", flush=True)
    if problems := gates.failures([outcome for of_arm in outcomes.values() for outcome in of_arm], job, learns=False):
        raise SystemExit("the arms cannot be compared:\n" + "\n".join(f"  - {problem}" for problem in problems))
    tokens = job.prompts_per_step * job.completions_per_prompt * job.max_completion_tokens
    times = {name: [report.step_s(outcome, job) for outcome in of_arm] for name, of_arm in outcomes.items()}
    return [
        [
            shape,
            one.name,
            report.spread(times[one.name]),
            report.spread(report.ratios(times[arms[0].name], times[one.name]), 2),
            report.phase_cell(report.phases(outcomes[one.name], job.warm_up_steps)),
            f"{tokens / min(times[one.name]):,.0f}",
        ]
        for one in arms
    ]


def gpu_arms(micro_batch: int) -> list[Arm]:
    """Return TRL with vLLM in its process, and rft with sampler and learner on one GPU, for each `sampler.serve`."""
    ours = {
        "learner.completions_per_micro_batch": micro_batch,
        "learner.trl.gradient_checkpointing": False,
        "sampler.num_gpus": 0.5,
        "learner.num_gpus": 0.5,
    }
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
    """Return TRL with its own `generate`, and rft, on the CPU."""
    return [
        Arm(name="TRL, generate", side="trl", options={"per_device_train_batch_size": micro_batch}),
        Arm(name="rft", side="rft", options={"learner.completions_per_micro_batch": micro_batch}),
    ]


if __name__ == "__main__":
    main()
