"""Checks everything about a run that needs no start, and returns the plan of the run.

The check prepares the inputs like a run (`rft.run.inputs.prepare`) and grades one sample. The plan contains the
settings of the run and lists the remaining checks. Nothing is written, and Ray is not started.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from rft.cluster import idle_gpus_here, num_gpus_here, refuse_early
from rft.cluster.versions import packages_here
from rft.config import (
    EvaluateConfig,
    RunConfig,
    audit_folder,
    audit_problems,
    audit_warnings,
)
from rft.config.epochs import with_steps
from rft.config.learners.policy import PolicyLearnerConfig
from rft.config.mixture import graders_by_family, sources
from rft.data.demonstration_records import Demonstration
from rft.data.demonstration_rows import NUM_SHOWN
from rft.grading.verdicts import audit_state
from rft.imports import is_installed, missing_packages
from rft.models.architectures import tried
from rft.models.base_model import read_config
from rft.models.origin import read_origin
from rft.models.weight_files import Tensor, read_weights
from rft.run.base_models.measured_adapter import measured_adapter_warning, with_base_model
from rft.run.forecast.disk import disk_row
from rft.run.forecast.memory import forecast_evaluation_here, forecast_here, planned_micro_batch, refuse_memory, serving
from rft.run.forecast.plan import Plan, run_rows, sampler_row
from rft.run.inputs.grader_samples import sample_rows
from rft.run.inputs.prepare import Prepared, prepare
from rft.run.task_order import shares_of
from rft.terminal.progress import counted
from rft.wording import plural

NOT_LOOKED_AT = (
    "whether vLLM loads the model, and the forecast of the memory is right",
    "Ray, and the nodes of a cluster",
    "trackers, and whether their servers take the run",
)
"""Facts that only the start can show."""
VALUES_OF_TRL = "types of the values in learner.trl: TRL is not installed; run: pip install 'rft[train]'"

MAX_SHOWN_MODULES = 8


def plan_training(run: RunConfig, console: Console) -> Plan:
    """Check a training run as far as that is possible without starting it.

    Args:
        run: The configuration.
        console: Shows the progress.

    Returns:
        The plan of the run.

    Raises:
        UsageError: With everything that is wrong.
    """
    folder = Path(run.output_dir)
    is_new = run.resume is None
    samples: dict[str, str] = {}
    with counted(console, "checking prompts") as tell:
        prepared = prepare(
            run,
            needs_training_tasks=True,
            output=folder if is_new else None,
            tell=tell,
            try_graders=lambda graders, tasks: samples.update(sample_rows(graders, tasks, run.grading)),
        )
    run = with_steps(run, len(prepared.tasks.train))
    refuse_early(run)
    forecast = forecast_here(run, prepared)
    refuse_memory(run, forecast)
    micro_batch = planned_micro_batch(run, forecast)
    rows = run_rows(run, micro_batch=micro_batch) | _task_rows(run, prepared) | _model_rows(run, prepared)
    rows |= _teacher_rows(run, prepared)
    rows |= forecast.rows() if forecast else {}
    rows |= samples | _trained_rows(run, prepared)
    rows["audit"] = audit_state(audit_folder(run.grading), run.graders)
    rows["run folder"] = f"{folder} ({'free' if is_new else 'to continue'})"
    warnings = [*prepared.warnings, *(audit_problems(run) if run.audit == "warn" else ()), *audit_warnings(run)]
    warnings += filter(None, (idle_gpus_here(run), forecast.warning() if forecast else None))
    missing = missing_packages("rft train", *packages_here(run))
    return Plan(
        title=_title("run", missing),
        rows=rows,
        warnings=(*([missing] if missing else []), *warnings, *_model_warnings(prepared)),
        not_checked=(*NOT_LOOKED_AT, *([VALUES_OF_TRL] if _has_unchecked_options(run) else [])),
    )


def plan_evaluation(config: EvaluateConfig, console: Console) -> Plan:
    """Check a measurement as far as that is possible without starting it.

    Args:
        config: The configuration.
        console: Shows the progress.

    Returns:
        The plan of the run.

    Raises:
        UsageError: With everything that is wrong.
    """
    config, adapter = with_base_model(config)
    samples: dict[str, str] = {}
    with counted(console, "checking prompts") as tell:
        prepared = prepare(
            config,
            needs_training_tasks=False,
            output=Path(config.output_dir),
            tell=tell,
            try_graders=lambda graders, tasks: samples.update(sample_rows(graders, tasks, config.grading)),
            adapter=adapter,
        )
    refuse_early(config)
    forecast = forecast_evaluation_here(config, prepared, adapter)
    how = config.evaluation
    rows = {
        "base model": config.model.path,
        "adapter": config.adapter or "none",
        "measure on": ", ".join(sources(config.data, "test").values()),
        "samplers": sampler_row(config.sampler),
        "completions": f"{how.completions_per_task} a task, temperature {how.temperature:g}",
    }
    rows |= _task_rows(config, prepared) | _model_rows(config, prepared)
    rows |= forecast.rows() if forecast else {}
    rows |= samples
    rows["output folder"] = f"{config.output_dir} (free)"
    missing = missing_packages("rft evaluate", *packages_here(config))
    warnings = (
        missing,
        measured_adapter_warning(config, prepared.base.fingerprint),
        idle_gpus_here(config),
        forecast.warning() if forecast else None,
    )
    return Plan(
        title=_title("measurement", missing),
        rows=rows,
        warnings=(*filter(None, warnings), *_model_warnings(prepared)),
        not_checked=NOT_LOOKED_AT[:2],
    )


def _title(what: str, missing: str | None) -> str:
    """The first line; `missing` is the sentence about packages that are not installed."""
    return f"the {what} can start{' once its packages are installed' if missing else ''} with these settings:"


def _has_unchecked_options(run: RunConfig) -> bool:
    return isinstance(run.learner, PolicyLearnerConfig) and bool(run.learner.trl) and not is_installed("trl")


def _task_rows(config: RunConfig | EvaluateConfig, prepared: Prepared) -> dict[str, str]:
    tasks = {"train": prepared.tasks.train, "validation": prepared.tasks.validation, "test": prepared.tasks.test}
    counts = [f"{len(of_split):,} {split}" for split, of_split in tasks.items() if of_split]
    rows = {
        "tasks": ", ".join(counts),
        "prompts": f"at most {prepared.longest_prompt_tokens} tokens, of {prepared.context_tokens} of context less "
        f"{config.sampler.max_completion_tokens} for the completion",
    }
    if prepared.environment and prepared.environment.tools:
        names = ", ".join(tool["function"]["name"] for tool in prepared.environment.tools)
        rows["tools"] = f"{names}; calls as {prepared.call_form.parser.form}" if prepared.call_form else names
    rows |= _family_rows(config, prepared)
    if (shots := prepared.renderer.shots) is not None:
        rows["examples"] = shots.in_words()
    if prepared.grounded is not None:
        rows["passages"] = prepared.grounded.in_words()
    if prepared.num_long_prompts:
        rows["left out"] = f"{plural(prepared.num_long_prompts, 'task')} with too long a prompt"
    return rows


def _family_rows(config: RunConfig | EvaluateConfig, prepared: Prepared) -> dict[str, str]:
    """Describe each family of a mixture: its part of a step, its held-out tasks, its graders."""
    sets = {"train": prepared.tasks.train, "validation": prepared.tasks.validation, "test": prepared.tasks.test}
    numbers = {split: Counter(task.family for task in of_split) for split, of_split in sets.items()}
    shares = shares_of(config.data, prepared.tasks.train) if isinstance(config, RunConfig) else None
    rows = {}
    for name, graders in graders_by_family(config.data).items():
        tasks = [f"{of_split[name]:,} {split}" for split, of_split in numbers.items() if of_split[name]]
        share = [] if shares is None else [f"{shares.get(name, 0.0):.1%} of each step"]
        rows[f"family {name}"] = f"{', '.join([*share, *tasks])}, graded by {', '.join(graders)}"
    return rows


def _teacher_rows(run: RunConfig, prepared: Prepared) -> dict[str, str]:
    """Describe the teachers, and their engines."""
    actors = f"{run.teacher.num_actors} x {run.sampler.kind}"
    return {teacher.role: f"{teacher}, on {actors}" for teacher in prepared.teachers}


def _trained_rows(run: RunConfig, prepared: Prepared) -> dict[str, str]:
    """Show what the learner trains of the first demonstrations or preferences."""
    renderer = prepared.rows
    if renderer is None:
        return {}
    some = [task for task in prepared.tasks.train[:NUM_SHOWN] if isinstance(task, Demonstration)]
    num_rows, noun = len(prepared.tasks.train), run.learner.takes.removesuffix("s")
    passes = run.loop.steps * run.loop.prompts_per_step / num_rows
    rows = {
        "passes": f"{passes:.3g} over {plural(num_rows, noun)}",
        "rows": f"at most {prepared.longest_row_tokens} tokens, of {prepared.context_tokens} of context",
    }
    return rows | {
        f"trained text {number}": f"{renderer.trained_text(task, prepared.tokenizer)!r} ({task.where or task.id})"
        for number, task in enumerate(some, start=1)
    }


def _model_rows(config: RunConfig | EvaluateConfig, prepared: Prepared) -> dict[str, str]:
    """Describe the model, the layers of an adapter, the way of serving, and the disk space of a run."""
    described = read_config(prepared.model)
    known = tried(described)
    weights = read_weights(prepared.model)
    total = sum(tensor.num_values for tensor in weights.tensors.values())
    dtypes = sorted({tensor.dtype for tensor in weights.tensors.values()})
    name = known.name if known else described.get("model_type", "unknown")
    rows = {"architecture": f"{name}, {_in_short(total)} weights ({', '.join(dtypes)}), whole"}
    if (origin := read_origin(prepared.model)) is not None:
        rows["base model from"] = str(origin)
    if isinstance(config, RunConfig):
        rows |= _trained_weights_rows(config, prepared, weights.tensors)
        adapter = config.learner.adapter
        num_validation = len(prepared.tasks.validation[: config.evaluation.max_validation_tasks])
        rows["disk"] = disk_row(
            config,
            num_trained=adapter.num_trained(weights.tensors) if adapter.publishes == "adapter" else total,
            num_validation=num_validation,
            num_held_out=len(prepared.held_out),
            prompt_tokens=prepared.longest_prompt_tokens,
            num_quantized=total if config.learner.base and not prepared.quantization else 0,
        )
    return rows


def _trained_weights_rows(run: RunConfig, prepared: Prepared, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Describe the trained weights, and how samplers get them."""
    adapter, rows = run.learner.adapter, dict[str, str]()
    if adapter.method != "full":
        matrices = adapter.trained_tensors(tensors)
        names = sorted({name.removesuffix(".weight").rpartition(".")[2] for name in matrices})
        shown = ", ".join([*names[:MAX_SHOWN_MODULES], *(["..."] if len(names) > MAX_SHOWN_MODULES else [])])
        of_tensors = f"{len(matrices)} {'tensors' if adapter.trains_base else 'matrices'}"
        rows["adapter"] = f"{_in_short(adapter.num_trained(tensors))} weights on {of_tensors} ({shown})"
    if not run.sampler.has_model:
        return rows
    if adapter.publishes == "model":
        return rows if adapter.method == "full" else rows | {"served": "as a whole model"}
    serve = serving(run, prepared, run.model.weights_dtype(on_gpu=num_gpus_here() > 0))
    rows["served"] = "merged into the base model" if serve == "merged" else "as an adapter beside the base model"
    return rows


def _model_warnings(prepared: Prepared) -> list[str]:
    described = read_config(prepared.model)
    if tried(described) is not None:
        return []
    return [
        f"the architecture {described.get('model_type')} is none of those that were tried (docs/models.md); it may "
        "well work, and the proof of the first sync will tell"
    ]


def _in_short(number: int) -> str:
    """`12.3 million`."""
    for limit, word in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if number >= limit:
            return f"{number / limit:.3g} {word}"
    return str(number)
