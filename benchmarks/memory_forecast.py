"""The forecast of memory against the peak of the processes of learner and samplers, on a CPU.

    python benchmarks/memory_forecast.py [--models quickstart 30M 135M] [--processes learner transformers]
    python benchmarks/memory_forecast.py --dry-run            the quickstart's model alone

Each measurement is a process of its own. A learner takes two optimizer steps on full-length completions and publishes
after each. A sampler loads two policies, and serves eight completions of each. The peak is that of the kernel (VmHWM)
above the level after the imports.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import models, report
from harness.sampler_memory import ENGINES, Load, measure_sampler, status

TIMEOUT_S = 600.0
PROCESSES = ("learner", *ENGINES)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and the size of its steps."""

    shape: Mapping[str, int | bool] | None
    """Sizes of random weights; None for the embedded model."""
    prompt_tokens: int
    completion_tokens: int
    lora_rank: int


CASES = {
    "quickstart": Case(shape=None, prompt_tokens=72, completion_tokens=48, lora_rank=16),
    "30M": Case(
        shape={"hidden": 384, "intermediate": 1024, "layers": 8, "heads": 6, "kv_heads": 2, "vocabulary": 32_768},
        prompt_tokens=64,
        completion_tokens=128,
        lora_rank=16,
    ),
    "135M": Case(
        shape={"hidden": 576, "intermediate": 1536, "layers": 30, "heads": 9, "kv_heads": 3, "vocabulary": 49_152},
        prompt_tokens=64,
        completion_tokens=128,
        lora_rank=16,
    ),
}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--processes", nargs="+", choices=PROCESSES, default=PROCESSES)
    parser.add_argument("--dry-run", action="store_true", help="the quickstart's model alone")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        process, name = arguments.measure
        print(json.dumps(measure(process, CASES[name], arguments.folder)))
        return
    print(f"{report.machine()}\n", flush=True)
    rows = []
    for name in ["quickstart"] if arguments.dry_run else arguments.models:
        with tempfile.TemporaryDirectory(prefix="rft-memory-") as folder:
            if shape := CASES[name].shape:
                models.make_random(Path(folder) / "model", shape)
            rows += [row(process, name, Path(folder)) for process in arguments.processes]
    print(report.table(["process", "model", "forecast, MB", "peak, MB", "difference", "parts, MB"], rows))


def row(process: str, name: str, folder: Path) -> list[str]:
    """Measure in another process; return a row of the table."""
    measured = measure_apart(process, name, folder)
    parts = ", ".join(f"{part} {size / 1e6:.0f}" for part, size in measured["parts"].items() if size >= 5e5)
    forecast, peak = sum(measured["parts"].values()), measured["peak"]
    return [process, name, f"{forecast / 1e6:.0f}", f"{peak / 1e6:.0f}", f"{forecast / peak - 1:+.1%}", parts]


def measure_apart(process: str, name: str, folder: Path) -> dict[str, Any]:
    """Measure in another process; return the forecast's parts and the peak above the imports, in bytes.

    Args:
        process: One of `PROCESSES`.
        name: One of `CASES`.
        folder: Holds the model of a case with random weights.
    """
    command = [sys.executable, __file__, "--measure", process, name, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(process: str, case: Case, folder: Path) -> dict[str, Any]:
    """Measure in this process. Arguments like `measure_apart`."""
    if process == "learner":
        return measure_learner(case, folder)
    load = Load(
        model=models.TINY if case.shape is None else folder / "model",
        prompt_tokens=case.prompt_tokens,
        completion_tokens=case.completion_tokens,
        lora_rank=case.lora_rank,
    )
    return measure_sampler(process, load)


def measure_learner(case: Case, folder: Path) -> dict[str, Any]:
    """Train two steps in this process; return the forecast's parts and the peak above the imports, in bytes."""
    import peft  # noqa: F401
    import torch
    import transformers  # noqa: F401

    from rft.config import RunConfig, completions_per_micro_batch
    from rft.learning.spec import LearnerSpec
    from rft.learning.trl_learner import TrlLearner
    from rft.memory import Sizes, read_shape
    from rft.memory.sizes import learner_bytes
    from rft.types import Policy

    model = models.TINY if case.shape is None else folder / "model"
    run = RunConfig.model_validate(
        {
            "output_dir": str(folder / "run"),
            "model": {"path": str(model)},
            "data": {"train": "tasks.jsonl"},
            "loop": {"steps": 2, "prompts_per_step": 1, "completions_per_prompt": 8},
            "sampler": {"kind": "vllm", "max_completion_tokens": case.completion_tokens},
            "learner": {"kind": "grpo", "adapter": {"rank": case.lora_rank}},
            "graders": {"correct": {"use": "exact"}},
        }
    )
    sizes = Sizes(completions_per_micro_batch=completions_per_micro_batch(run))
    parts = learner_bytes(run, read_shape(model), sizes, prompt_tokens=case.prompt_tokens, on_gpu=False)
    imported = status("VmRSS")
    learner = TrlLearner(
        LearnerSpec(
            run=run.model_copy(update={"graders": {}}),
            model=model,
            model_name="random",
            base=Policy(version=0, fingerprint="base"),
            run_folder=folder / "run",
            completions_per_micro_batch=sizes.completions_per_micro_batch,
            dtype="float32",
            on_gpu=False,
            num_threads=torch.get_num_threads(),
            canaries=((5, 6, 7, 8) * 9,) * 3,
        )
    )
    for _ in range(2):
        learner.learn([full_length_group(case, learner.publish().policy)])
    learner.publish()
    learner.close()
    return {"parts": parts, "peak": status("VmHWM") - imported}


def full_length_group(case: Case, policy: Any) -> Any:
    """Return a group of eight completions, all as long as they can be."""
    from rft.types import Grade, GradedGroup, Rollout, Score, Split, Status, StopReason, Task

    draws = random.Random(0)

    def ids(number: int) -> tuple[int, ...]:
        return tuple(draws.randrange(5, 90) for _ in range(number))

    task = Task(id="t", messages=({"role": "user", "content": "x"},), item={}, split=Split.TRAIN)
    prompt = ids(case.prompt_tokens)
    rollouts = tuple(
        Rollout(
            task_id=task.id,
            index=index,
            prompt_ids=prompt,
            completion_ids=ids(case.completion_tokens),
            logprobs=(-4.0,) * case.completion_tokens,
            text="",
            stop=StopReason.LENGTH,
            policy=policy,
        )
        for index in range(8)
    )
    rewards = [float(index % 2) for index in range(8)]
    grades = tuple(Grade(scores={"g": Score(value=each, status=Status.OK)}, reward=each) for each in rewards)
    return GradedGroup(task=task, rollouts=rollouts, grades=grades)


if __name__ == "__main__":
    main()
