"""`rft evaluate`: a base model or an adapter, measured on a task file."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import yaml
from rich.console import Console

from rft import build
from rft.checkpoint import load_adapter
from rft.cluster import local_ray, num_gpus_here, share_out
from rft.config import EvaluateConfig
from rft.evaluation import Evaluation, evaluate
from rft.interrupt import Interrupt
from rft.preparation import prepare
from rft.progress import Progress
from rft.recorder import Recorder, prepare_output
from rft.types import Adapter, count_drops


def run_evaluation(config: EvaluateConfig, *, console: Console) -> int:
    """Measure from a checked configuration; write rollouts.jsonl and summary.json, and print the result.

    Returns:
        The exit code: 0, or 130 or 143 when the measurement was interrupted.

    Raises:
        RftError: With what went wrong and what to do.
    """
    started = time.monotonic()
    adapter = load_adapter(Path(config.adapter)) if config.adapter else None
    if adapter is not None and config.model.path is None:
        model = config.model.model_copy(update={"path": adapter.config["base_model_name_or_path"]})
        config = config.model_copy(update={"model": model})
    prepared = prepare(config, needs_training_tasks=False)
    folder = Path(config.output_dir)
    prepare_output(folder)
    recorder = Recorder(folder)
    recorder.document("config.yaml", yaml.safe_dump(config.model_dump(), sort_keys=False))

    shares = share_out(config.sampler, None, num_cpus=os.cpu_count() or 1, num_gpus=num_gpus_here())
    progress = Progress(console)
    progress.start(0)

    async def measure() -> Evaluation | int:
        with Interrupt(progress.warn) as interrupt:
            try:
                return await _measure(config, adapter)
            except asyncio.CancelledError:
                if interrupt.exit_code is None:
                    raise
                return interrupt.exit_code

    async def _measure(config: EvaluateConfig, adapter: Adapter | None) -> Evaluation:
        panel = build.panel(config, prepared)
        try:
            progress.phase("starting Ray")
            async with local_ray(
                num_processes=config.sampler.num_actors,
                num_gpus=num_gpus_here(),
                start_timeout_s=config.cluster.start_timeout_s,
            ):
                progress.phase(f"starting {config.sampler.num_actors} sampler(s)")
                fleet = build.fleet(
                    config, prepared, shares, max_lora_rank=adapter.config["r"] if adapter is not None else 8
                )
                await fleet.start()
                if adapter is not None:
                    await fleet.load(adapter)
                progress.phase(f"measuring: {len(prepared.tasks.test)} tasks")
                return await evaluate(
                    fleet,
                    panel,
                    prepared.tasks.test,
                    policy=fleet.policy,
                    metric=config.evaluation.metric,
                    completions_per_task=config.evaluation.completions_per_task,
                    temperature=config.evaluation.temperature,
                    purpose="held-out",
                )
        finally:
            panel.close()

    try:
        result = asyncio.run(measure())
    finally:
        progress.close()
    if isinstance(result, int):
        return result
    recorder.rollouts(result.groups, step=0, phase="test")
    summary = {
        "status": "finished",
        "wall_s": time.monotonic() - started,
        "model": config.model.path,
        "adapter": config.adapter,
        "policy": {"version": result.policy.version, "fingerprint": result.policy.fingerprint},
        "data": config.data.test,
        "metric": result.metric,
        "temperature": config.evaluation.temperature,
        "completions_per_task": config.evaluation.completions_per_task,
        **result.estimate.to_json(),
        "drops": count_drops(result.groups),
    }
    recorder.summary(summary)
    what = f"{config.model.path}" + (f" with {config.adapter}" if config.adapter else "")
    console.print(f"{result.metric} of {what} on {config.data.test}:", soft_wrap=True, markup=False, highlight=False)
    console.print(f"  {result.estimate.text()} over {result.estimate.n} tasks (mean, 95% interval)", highlight=False, markup=False)
    if summary["drops"]:
        console.print(f"  without a reward: {json.dumps(summary['drops'])}", markup=False, highlight=False)
    console.print(f"  rollouts and summary: {folder}", soft_wrap=True, markup=False, highlight=False)
    return 0
