"""Does one job with rft, in separate processes like a user's: `python -m harness.rft_arm
<specification> <outcome>`.

Options of the arm are keys of rft's configuration. The outcome comes from the run folder.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from harness.arms import HARNESS, Arm, Job, Outcome, hash_ids, read_specification


def main() -> None:
    """Run `rft train`, then write the outcome from its run folder."""
    job, arm = read_specification(Path(sys.argv[1]))
    outcome = Path(sys.argv[2])
    run = outcome.parent / "run"
    command = [sys.executable, "-m", "rft.cli", "train", *words(job, arm, run)]
    subprocess.run(command, check=True)
    read_run(run, job, arm).write(outcome)


def words(job: Job, arm: Arm, run: Path) -> list[str]:
    """Return the command line of the run."""
    keys: dict[str, Any] = {
        "output_dir": run,
        "seed": job.seed,
        "model.path": job.model,
        "model.dtype": job.dtype,
        "model.max_context_tokens": job.max_context_tokens,
        "data.train": job.tasks,
        "loop.steps": job.steps,
        "loop.prompts_per_step": job.prompts_per_step,
        "loop.completions_per_prompt": job.completions_per_prompt,
        "loop.checkpoint_every_steps": 10 * job.steps,
        "sampler.max_completion_tokens": job.max_completion_tokens,
        "learner.learning_rate": job.learning_rate,
        "learner.adapter.rank": job.lora_rank,
        "learner.adapter.alpha": job.lora_alpha,
        "graders.score.use": f"{HARNESS / 'scoring.py'}:graded",
        "graders.score.score": job.score,
        "graders.score.delay_s": job.delay_s,
        "evaluation.every_steps": None,
    }
    options = {f"{key}": value for key, value in arm.options.items()}
    return ["logging=none", *(f"{key}={_value(value)}" for key, value in (keys | options).items())]


def read_run(run: Path, job: Job, arm: Arm) -> Outcome:
    """Read the outcome from a run folder."""
    from rft.models.base_model import fingerprint

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rollouts = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    by_step = [list(rows) for _, rows in itertools.groupby(rollouts, key=lambda row: row["step"])]
    adapter = json.loads((run / "adapter" / "adapter_config.json").read_text())
    steps = [line for line in lines if line["step"] > 0]
    last = steps[-1]["metrics"]
    return Outcome(
        arm=arm.name,
        model_sha=fingerprint(job.model),
        first_adapter=first_adapter(run),
        lora={
            "rank": adapter["r"],
            "alpha": float(adapter["lora_alpha"]),
            "dropout": adapter["lora_dropout"],
            "target_modules": sorted(adapter["target_modules"]),
        },
        learning_rate=last["learner/learning_rate"],
        prompts=hash_prompts(job, by_step),
        tasks=[[row["task_id"] for row in rows if row["index"] == 0] for rows in by_step],
        rewards=[_by_group(rows, "reward") for rows in by_step],
        tokens=[[row["num_completion_tokens"] for row in rows] for rows in by_step],
        ended_s=[datetime.fromisoformat(line["time"]).timestamp() for line in lines],
        phases_s=[line["seconds"] for line in steps],
        facts={
            name: [line["metrics"].get(name) for line in steps]
            for name in sorted({name for line in steps for name in line["metrics"]})
        },
    )


def first_adapter(run: Path) -> str:
    """Return the fingerprint of the run's initial adapter, from a second learner built for this purpose."""
    from harness.local_learner import local_learner
    from rft.config import RunConfig

    learner, _ = local_learner(RunConfig.model_validate(yaml.safe_load((run / "config.yaml").read_text())))
    try:
        return learner.publish().policy.fingerprint
    finally:
        learner.close()


def hash_prompts(job: Job, by_step: list[list[dict[str, Any]]]) -> list[str]:
    """Return a hash of the rendered prompts of each step."""
    from rft.data.rendering import Renderer
    from rft.models.base_model import load_tokenizer
    from rft.types import Split, Task

    renderer = Renderer(load_tokenizer(job.model, None))
    hashes = []
    for rows in by_step:
        tasks = [
            Task(id=row["task_id"], messages=tuple(row["messages"]), item=row["item"], split=Split.TRAIN)
            for row in rows
            if row["index"] == 0
        ]
        hashes.append(hash_ids([renderer.render(task) for task in tasks]))
    return hashes


def _by_group(rows: list[dict[str, Any]], key: str) -> list[list[float]]:
    return [[row[key] for row in group] for _, group in itertools.groupby(rows, key=lambda row: str(row["task_id"]))]


def _value(value: Any) -> str:
    match value:
        case None:
            return "null"
        case Mapping():
            return "{" + ",".join(f"{key}:{_value(inner)}" for key, inner in value.items()) + "}"
        case _:
            return str(value)


if __name__ == "__main__":
    main()
