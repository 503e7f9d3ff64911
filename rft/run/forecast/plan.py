"""The plan of a run in words and numbers, without large libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from rft.config import RunConfig, sequences_per_step
from rft.config.mixture import SPLITS, sources
from rft.config.samplers.base import SamplerConfig
from rft.models.quantized_folder import LABELS
from rft.wording import plural

_START_MODES = {
    "continue": "",
    "merge": ", merged into the base model before the run",
    "stack": ", frozen below the new adapter",
}
"""Descriptions of `start_mode`."""


def run_rows(run: RunConfig, *, micro_batch: int) -> dict[str, str | None]:
    """Return the plan of a training run by name: batch sizes, tasks, parts and paths.

    Args:
        run: The configuration.
        micro_batch: Completions in one forward and backward pass.
    """
    loop, sampler, learner = run.loop, run.sampler, run.learner
    per_step = sequences_per_step(run)
    passes = per_step // micro_batch
    named = {split: ", ".join(sources(run.data, split).values()) for split in SPLITS}
    share = f"{run.data.validation_share:g} of the training tasks" if run.data.validation_share else None
    graders = [
        f"{name} ({spec.get('use', 'openai')}, weight {spec.get('weight', 1.0):g})"
        for name, spec in run.graders.items()
    ]
    rows: dict[str, str | None] = {
        "base model": run.model.path,
        **({"start": run.start + _START_MODES[run.start_mode]} if run.start else {}),
        "train on": named["train"],
        "validate on": named["validation"] or share,
        "test on": named["test"],
        "graders": ", ".join(graders),
        **_step_rows(run, micro_batches=f"{passes} micro-batch{'es' if passes > 1 else ''}", micro_batch=micro_batch),
        "samplers": sampler_row(sampler) + f", temperature {sampler.temperature:g}",
        "learner": f"{learner.kind}, {learner.adapter.description}{_on_base(run)}, learning rate "
        f"{learner.learning_rate:g}" + (f", {learner.num_workers} ranks" if learner.num_workers > 1 else ""),
        "run folder": run.output_dir,
    }
    if run.storage:
        rows["copied to"] = run.storage
    if loop.staleness:
        rows["sampled ahead"] = f"{loop.staleness} policy version{'s' if loop.staleness > 1 else ''}, so up to " + (
            f"{(loop.staleness + 1) * per_step} completions in flight"
        )
    return rows


def _on_base(run: RunConfig) -> str:
    """Describe a quantized base model."""
    return f" on a base model in {LABELS[run.learner.base]}" if run.learner.base else ""


def _step_rows(run: RunConfig, *, micro_batches: str, micro_batch: int) -> dict[str, str]:
    """Describe the steps."""
    loop, per_step = run.loop, sequences_per_step(run)
    if run.learner.takes == "demonstrations":
        return {
            "steps": f"{loop.steps} of {plural(per_step, 'demonstration')}",
            "optimizer step": f"{micro_batches} of {plural(micro_batch, 'row')}",
            "in all": plural(loop.steps * per_step, "demonstration"),
        }
    if run.learner.takes == "labelled completions":
        return {
            "steps": f"{loop.steps} of {plural(per_step, 'labelled completion')}",
            "optimizer step": f"{micro_batches} of {plural(micro_batch, 'completion')}",
            "in all": plural(loop.steps * per_step, "labelled completion"),
        }
    if run.learner.takes == "preferences":
        return {
            "steps": f"{loop.steps} of {plural(loop.prompts_per_step, 'preference')}",
            "optimizer step": f"{micro_batches} of {plural(micro_batch, 'answer')}",
            "in all": plural(loop.steps * loop.prompts_per_step, "preference"),
        }
    return {
        "steps": f"{loop.steps} of {plural(loop.prompts_per_step, 'prompt')} x "
        f"{plural(loop.completions_per_prompt, 'completion')} = {plural(per_step, 'completion')}",
        "optimizer step": f"{micro_batches} of {plural(micro_batch, 'completion')}",
        "in all": f"{plural(loop.steps * loop.prompts_per_step, 'prompt')}, "
        f"{plural(loop.steps * per_step, 'completion')} of at most {run.sampler.max_completion_tokens} tokens",
    }


def sampler_row(sampler: SamplerConfig) -> str:
    """Describe number and kind of the samplers."""
    return f"{sampler.num_actors} x {sampler.kind}"


def as_table(rows: Mapping[str, str | None]) -> list[str]:
    """Format rows in two columns."""
    width = max(map(len, rows))
    return [f"  {name:<{width}}  {value or 'nothing'}" for name, value in rows.items()]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Plan:
    """The plan of a command. `print(plan)` shows it.

    Example:
        Plan(title="the run can start with these settings:", rows={"base model": "embedded:tiny", ...})
    """

    title: str
    """States that the command can start."""
    rows: Mapping[str, str | None]
    """Settings and facts by name."""
    warnings: tuple[str, ...] = ()
    """Warnings about valid but unusual settings."""
    not_checked: tuple[str, ...] = ()
    """Facts that only the start can show."""

    def __str__(self) -> str:
        lines = [self.title, *as_table(self.rows), *(f"warning: {warning}" for warning in self.warnings)]
        if self.not_checked:
            lines += ["not checked:", *(f"  {one}" for one in self.not_checked)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def print_plan(console: Console, plan: Plan) -> None:
    """Print a plan."""
    console.print(Text(str(plan)), soft_wrap=True)
