"""The results of a training run: the summary, computed from its files, and the adapter or model with a card."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rft.config import RunConfig
from rft.config.mixture import graders_by_family
from rft.metrics.families import family_results
from rft.metrics.fit import UNBOUNDED, fit_of, fit_of_both, loss_curve, training_curve
from rft.metrics.held_out import graders_of, metric_bounds
from rft.metrics.intervals import estimate, paired_difference
from rft.metrics.retention_guard import RetentionGuard
from rft.metrics.watch_findings import watch_findings, watched_by
from rft.run_folder.arms import read_arms
from rft.run_folder.best_step import BestStep
from rft.run_folder.model_card import model_card
from rft.run_folder.recorded_scores import recorded_measurements
from rft.run_folder.recorder import SUMMARY, Recorder, read_feasibility, read_losses, read_metrics, read_rollouts
from rft.run_folder.result_folders import save_adapter, save_model
from rft.run_folder.retention_file import retention_of
from rft.run_folder.summary import build_summary
from rft.types import Adapter, FullWeights
from rft.wording import plural

RESULTS = ("adapter", "model")
"""Folders of a run with its result, of which it writes one."""


def summarize(
    recorder: Recorder,
    run: RunConfig,
    *,
    status: str,
    split: str,
    wall_s: float,
    after_s: float,
    checkpoint_s: float,
    **more: Any,
) -> dict[str, Any]:
    """Write summary.json from the files of the run, which also contain the steps before a resume.

    Args:
        recorder: The run's recorder.
        run: The run's configuration.
        status: Outcome of the run.
        split: The tasks measured before and after the run.
        wall_s: Duration of the run, seconds.
        after_s: Duration of the measurement after the run, which metrics.jsonl does not contain.
        checkpoint_s: Duration of the last checkpoint, which metrics.jsonl does not contain either.
        more: Further keys.
    """
    summary = summary_of(
        recorder.folder,
        graders=run.graders,
        families=graders_by_family(run.data),
        evaluation=run.evaluation.model_dump(),
        status=status,
        split=split,
        wall_s=wall_s,
    )
    for phase, seconds in (("evaluate", after_s), ("checkpoint", checkpoint_s)):
        summary["time_s"][phase] = summary["time_s"].get(phase, 0.0) + seconds
    if run.evaluation.arms:
        bounds = metric_bounds(run.graders, run.evaluation.metric, graders_by_family(run.data))
        arms = read_arms(recorder.folder, run.evaluation.metric, starts_from_base=run.start is None, bounds=bounds)
        summary["arms"] = None if arms is None else arms.to_json()
    if (judged := read_feasibility(recorder.folder)) is not None:
        summary["feasibility"] = {key: judged[key] for key in ("verdict", "text", "reasons", "informative", "held_out")}
    if (retained := retention_of(recorder.folder, run)) is not None:
        summary["retention"] = retained
    summary |= more
    recorder.summary(summary)
    return summary


def summary_of(
    folder: Path,
    *,
    graders: Mapping[str, Mapping[str, Any]],
    families: Mapping[str, Collection[str]],
    evaluation: Mapping[str, Any],
    status: str,
    split: str,
    wall_s: float,
) -> dict[str, Any]:
    """Compute a run's summary from metrics.jsonl and rollouts.jsonl.

    Args:
        folder: The run folder.
        graders: `graders` of the run's configuration.
        families: Names of the graders of each family of the run's mixture; empty without a mixture.
        evaluation: `evaluation` of the run's configuration.
        status: Outcome of the run.
        split: The tasks measured before and after the run.
        wall_s: Duration of the run, seconds.
    """
    metric = evaluation["metric"]
    measured = recorded_measurements(read_rollouts(folder), metric)
    before, after = (measured.pop(phase, {}) for phase in ("before", "after"))
    bounds = metric_bounds(graders, metric, families)
    lines = read_metrics(folder)
    summary = build_summary(
        lines,
        status=status,
        wall_s=wall_s,
        before=estimate(list(before.values()), bounds=bounds) if before else None,
        after=estimate(list(after.values()), bounds=bounds) if after else None,
        difference=paired_difference(before, after, bounds=bounds) if before.keys() & after.keys() else None,
        about={
            "metric": metric,
            "split": split,
            "temperature": evaluation["temperature"],
            "completions_per_task": evaluation["completions_per_task"],
        },
    )
    if families:
        summary["families"] = family_results(before, after, metric=metric, graders=graders, families=families)
    by_step = {step: values for step, values in measured.items() if isinstance(step, int)}
    if by_step and before and split == "validation":
        by_step[0] = before
    fit = fit_of_both(
        fit_of(by_step, training_curve(lines, metric), bounds=bounds),
        fit_of(read_losses(folder), loss_curve(lines), bounds=UNBOUNDED, is_loss=True),
        by_loss=evaluation.get("best_metric") == "loss",  # absent from runs of earlier versions
    )
    summary["fit"] = None if fit is None else fit.to_json()
    watched = watched_by(graders, families, evaluation)
    summary["watch"] = watch_findings(lines, watched)
    if watched.independent:
        summary["independent"] = _independent(folder, watched.independent, watched.independent_bounds)
    return summary


def _independent(folder: Path, grader: str, bounds: tuple[float, float]) -> dict[str, Any]:
    """Return what the independent grader says of the held-out tasks: `grader`, `before`, `after`, `difference`."""
    measured = recorded_measurements(read_rollouts(folder), grader)
    before, after = measured.get("before", {}), measured.get("after", {})
    is_paired = bool(before.keys() & after.keys())
    return {
        "grader": grader,
        "before": estimate(list(before.values()), bounds=bounds).to_json() if before else None,
        "after": estimate(list(after.values()), bounds=bounds).to_json() if after else None,
        "difference": paired_difference(before, after, bounds=bounds).to_json() if is_paired else None,
    }


def guard_of(run: RunConfig) -> RetentionGuard:
    """Return the guard of a run, without its state."""
    metric, how = run.evaluation.metric, run.evaluation
    bounds = {
        name: metric_bounds(graders_of(run.graders, run.data.mixture[name].graders), metric) for name in how.guard
    }
    return RetentionGuard(how.guard, stops=how.guard_action == "stop", bounds=bounds)


def nothing_left_to_do(run: RunConfig, last_step: int) -> str:
    """Return a message if the run to resume has already finished; empty if there are steps left.

    A run that was stopped during the measurement after its last step has not finished.

    Args:
        run: The run's configuration. With `loop.num_epochs` instead of steps, something may be left.
        last_step: The step of the run's last checkpoint.
    """
    file = Path(run.output_dir) / SUMMARY
    # The result follows the summary: a run that was killed in between writes it when it is resumed.
    has_result = any((Path(run.output_dir) / name).is_dir() for name in RESULTS)
    is_finished = has_result and file.is_file() and json.loads(file.read_text())["status"] == "finished"
    is_over = BestStep(Path(run.output_dir), run.evaluation).is_over
    guard = guard_of(run)
    guard.read(read_metrics(Path(run.output_dir)))
    has_more = run.loop.num_epochs is not None or last_step < run.loop.steps
    if not is_finished or (has_more and not (is_over or guard.is_over)):
        return ""
    finished = f"{run.output_dir}: finished after {plural(last_step, 'step')}"
    if is_over:
        return f"{finished} without a better measurement; to continue, raise evaluation.patience"
    if guard.is_over:
        return f"{finished} by evaluation.guard; to continue, raise its limit, or set evaluation.guard_action=warn"
    return f"{finished}; to continue, set loop.steps to more than {last_step}"


def save_weights(
    folder: Path,
    run: RunConfig,
    summary: dict[str, Any],
    weights: Adapter | FullWeights,
    *,
    base_model: str,
    model: Path,
    tokenizer: Any,
) -> dict[str, Path]:
    """Write the adapter, or the fully fine-tuned model, with its card.

    Args:
        folder: The run folder.
        run: The run's configuration.
        summary: Result of `summarize`.
        weights: The trained weights.
        base_model: Name of the base model, for the card.
        model: Folder of the base model.
        tokenizer: The base model's tokenizer.

    Returns:
        The folder of the result, by its kind: `adapter` or `model`.
    """
    target = folder / ("adapter" if isinstance(weights, Adapter) else "model")
    card = model_card(
        summary,
        run.model_dump(),
        json.loads((folder / "manifest.json").read_text()),
        folder=target,
        base_model=base_model,
    )
    if isinstance(weights, Adapter):
        save_adapter(target, weights, tokenizer, card)
    else:
        save_model(target, weights, model, tokenizer, card)
    return {target.name: target}
