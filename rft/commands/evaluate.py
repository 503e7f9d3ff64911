"""`rft evaluate`: a base model or an adapter, measured on a task file."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from rft.cluster import ray_ahead_for, refuse_early
from rft.config import EvaluateConfig
from rft.metrics.held_out import metric_bounds
from rft.run.evaluation import Evaluation, evaluate
from rft.run.inputs import Prepared, read_inputs, render_prompts, with_base_model
from rft.run.parts import open_parts
from rft.run_folder.recorder import Recorder, prepare_output
from rft.terminal.interrupt import Interrupt
from rft.terminal.progress import Progress, counted
from rft.types import Adapter, count_drops


def run_evaluation(config: EvaluateConfig, *, console: Console) -> int:
    """Measure from a checked configuration; write rollouts.jsonl and summary.json, and print the result.

    Returns:
        The exit code: 0, or 130 or 143 when the measurement was interrupted.

    Raises:
        RftError: With what went wrong and what to do.
    """
    started = time.monotonic()
    config, adapter = with_base_model(config)
    folder = Path(config.output_dir)
    refuse_early(config)
    inputs = read_inputs(config, needs_training_tasks=False, output=folder)
    with ray_ahead_for(config):
        with counted(console, "checking prompts") as tell:
            prepared = render_prompts(inputs, tell)
        prepare_output(folder)
        recorder = Recorder(folder)
        recorder.config(config.model_dump())
        progress = Progress(console)
        progress.start(0)
        try:
            result = asyncio.run(_guarded(config, prepared, adapter, progress))
        finally:
            progress.close()
    if isinstance(result, int):
        return result
    recorder.rollouts(result.groups, step=0, phase="test")
    summary = _summary(config, result, wall_s=time.monotonic() - started)
    recorder.summary(summary)
    _report(console, summary, result, folder)
    return 0


async def _guarded(
    config: EvaluateConfig, prepared: Prepared, adapter: Adapter | None, progress: Progress
) -> Evaluation | int:
    """Measure; the exit code instead when somebody interrupts."""
    with Interrupt(progress.warn) as interrupt:
        try:
            return await _measure(config, prepared, adapter, progress)
        except asyncio.CancelledError:
            if interrupt.exit_code is None:
                raise
            return interrupt.exit_code


async def _measure(
    config: EvaluateConfig, prepared: Prepared, adapter: Adapter | None, progress: Progress
) -> Evaluation:
    how, tasks = config.evaluation, prepared.tasks.test
    async with open_parts(config, prepared, progress.event, adapter=adapter) as parts:
        progress.phase(f"measuring: {len(tasks)} tasks")
        return await evaluate(
            parts.fleet,
            parts.panel,
            tasks,
            policy=parts.fleet.policy,
            metric=how.metric,
            completions_per_task=how.completions_per_task,
            temperature=how.temperature,
            purpose="held-out",
            bounds=metric_bounds(config.graders, how.metric),
        )


def _summary(config: EvaluateConfig, result: Evaluation, *, wall_s: float) -> dict[str, Any]:
    return {
        "status": "finished",
        "wall_s": wall_s,
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


def _report(console: Console, summary: dict[str, Any], result: Evaluation, folder: Path) -> None:
    adapter = f" with {summary['adapter']}" if summary["adapter"] else ""
    lines = [
        f"{result.metric} of {summary['model']}{adapter} on {summary['data']}:",
        f"  {result.estimate.text()} over {result.estimate.n} tasks (mean, 95% interval)",
        *([f"  {result.estimate.caveat}"] if result.estimate.caveat else []),
        *(f"  without a reward: {count} ({cause})" for cause, count in summary["drops"].items()),
        f"  rollouts and summary: {folder}",
    ]
    console.print(Text("\n".join(lines)), soft_wrap=True)
