"""`rft.evaluate`: measures a base model or an adapter on a task file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from rft.api.calls import configuration, make_console, pass_on_interrupt
from rft.cluster import ray_ahead_for, refuse_early
from rft.cluster.versions import require_packages_here
from rft.config import EvaluateConfig
from rft.config.commands import load_evaluation
from rft.config.mixture import graders_by_family, sources
from rft.config.overrides import Overrides
from rft.data.shots import FILE as SHOTS
from rft.metrics.drops import count_drops
from rft.run.base_models.measured_adapter import measured_adapter_warning, with_base_model
from rft.run.evaluation import Evaluation
from rft.run.evaluation import evaluate as evaluate_tasks
from rft.run.inputs.fitting import Reuse
from rft.run.inputs.prepare import Prepared, read_inputs, render_prompts
from rft.run_folder.recorder import Recorder, prepare_output
from rft.terminal.event_loop import run_to_end
from rft.terminal.interrupt import Interrupt
from rft.terminal.progress import Progress, counted
from rft.types import Adapter
from rft.wording import plural


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Measurement(Evaluation):
    """The measurement of a base model or an adapter.

    Example:
        Measurement(folder=Path("runs/evaluate/..."), estimate=Estimate(mean=0.8, ci95=(0.76, 0.84), n=250), ...)
    """

    folder: Path
    """Folder with rollouts.jsonl, summary.json and config.yaml."""
    summary: Mapping[str, Any]
    """The estimate, as in summary.json."""

    def __repr__(self) -> str:
        over = plural(self.estimate.n, "task")
        return f"<rft.Measurement {self.folder}: {self.metric} {self.estimate.text()} over {over}>"


def evaluate(*overrides: Overrides, quiet: bool = False) -> Measurement:
    """Measure a base model or an adapter on a task file, as `rft evaluate` does.

    Args:
        overrides: As on the command line: `"adapter=runs/..."`, or mappings.
        quiet: Print nothing; otherwise the progress is shown.

    Raises:
        ConfigError: With every problem of the configuration.
        InstallError: A package is missing that an extra of rft installs.
        UsageError: With everything that is wrong with the model, the tasks, the graders and the folder.
        RftError: The measurement failed.
        KeyboardInterrupt: Ctrl-C ended the measurement.

    Example:
        measured = rft.evaluate({"adapter": run.adapter, "data.test": "test.jsonl", "graders.correct.use": "numeric"})
        measured.estimate.mean, measured.estimate.ci95
    """
    measured = measure(configuration(load_evaluation, overrides), make_console(quiet=quiet))
    if isinstance(measured, int):
        pass_on_interrupt(measured)
        raise KeyboardInterrupt  # the signal had no effect, and there is no result to return
    return measured


def measure(config: EvaluateConfig, console: Console, *, reuse: Reuse | None = None) -> Measurement | int:
    """Measure with a checked configuration; write rollouts.jsonl and summary.json.

    Args:
        config: The configuration.
        console: Shows the progress.
        reuse: Cache shared with other measurements.

    Returns:
        The result; 130 or 143 if a signal ended the measurement. The summary then says `interrupted`.

    Raises:
        asyncio.CancelledError: The task was cancelled. The summary says `interrupted`.
        RftError: The measurement failed; the message gives reason and remedy. The summary says `failed`.
    """
    started = time.monotonic()
    config, adapter = with_base_model(config)
    folder = Path(config.output_dir)
    require_packages_here(config)
    refuse_early(config)
    inputs = read_inputs(config, needs_training_tasks=False, output=folder, adapter=adapter, reuse=reuse)
    with ray_ahead_for(config):
        with counted(console, "checking prompts") as tell:
            prepared = render_prompts(inputs, tell)
        prepare_output(folder)
        recorder = Recorder(folder)
        recorder.config(config.model_dump())
        if prepared.renderer.shots is not None:
            recorder.document(SHOTS, prepared.renderer.shots.to_text())
        progress = Progress(console)
        progress.start(0)
        if warning := measured_adapter_warning(config, prepared.base.fingerprint):
            progress.warn(warning)
        try:
            result = run_to_end(_guarded(config, prepared, adapter, progress))
        except (asyncio.CancelledError, KeyboardInterrupt):
            recorder.summary(_summary(config, "interrupted", started))
            raise
        except BaseException as error:
            recorder.summary(_summary(config, "failed", started) | {"error": str(error) or type(error).__name__})
            raise
        finally:
            progress.close()
    if isinstance(result, int):
        recorder.summary(_summary(config, "interrupted", started))
        return result
    recorder.rollouts(result.groups, step=0, phase="test")
    summary = _summary(config, "finished", started) | _estimated(result) | {"graders": _code_of(prepared)}
    recorder.summary(summary)
    return Measurement(
        policy=result.policy,
        metric=result.metric,
        estimate=result.estimate,
        by_task=result.by_task,
        groups=result.groups,
        families=result.families,
        folder=folder,
        summary=summary,
    )


async def _guarded(
    config: EvaluateConfig, prepared: Prepared, adapter: Adapter | None, progress: Progress
) -> Evaluation | int:
    """Measure; return the exit code after an interruption."""
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
    from rft.run.parts import open_parts  # imports Ray, which the core does not install

    tasks = prepared.tasks.test
    async with open_parts(config, prepared, progress.event, adapter=adapter) as parts:
        progress.phase(f"measuring: {plural(len(tasks), 'task')}")
        return await evaluate_tasks(
            parts.sampler,
            parts.panel,
            tasks,
            policy=parts.fleet.policy,
            how=config.evaluation,
            graders=config.graders,
            families=graders_by_family(config.data),
        )


def _summary(config: EvaluateConfig, status: str, started: float) -> dict[str, Any]:
    """Return the part of summary.json that every measurement has, however it ended."""
    return {
        "status": status,
        "wall_s": time.monotonic() - started,
        "model": config.model.path,
        "adapter": config.adapter,
        "data": ", ".join(sources(config.data, "test").values()),
        **({"shots": config.data.shots} if config.data.shots else {}),
        "metric": config.evaluation.metric,
        "temperature": config.evaluation.temperature,
        "completions_per_task": config.evaluation.completions_per_task,
    }


def _code_of(prepared: Prepared) -> dict[str, dict[str, str]]:
    """Return where the code of each grader is, and its hash, by which `rft compare` knows equal graders."""
    return {grader.name: {"source": grader.use, "sha256": grader.sha256} for grader in prepared.graders}


def _estimated(result: Evaluation) -> dict[str, Any]:
    """Return the part of summary.json that only a finished measurement has."""
    return {
        "policy": {"version": result.policy.version, "fingerprint": result.policy.fingerprint},
        **result.estimate.to_json(),
        **({"families": {name: one.to_json() for name, one in result.families.items()}} if result.families else {}),
        "drops": count_drops(result.groups),
    }
