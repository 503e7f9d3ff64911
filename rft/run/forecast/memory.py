"""The memory forecast of a run or a measurement, from its configuration, inputs and places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rft.cluster import Shares, device_here, shares_here
from rft.config import EvaluateConfig, RunConfig, completions_per_micro_batch
from rft.config.teacher_problems import teacher_gpus
from rft.errors import UsageError
from rft.grading.models.model_grader import model_graders
from rft.memory import (
    Device,
    Forecast,
    ProcessMemory,
    RunFacts,
    RunForecast,
    SamplerFacts,
    Sizes,
    forecast_measurement,
    forecast_run,
    read_shape,
)
from rft.memory.device import in_gb
from rft.models.adapter_folder import max_rank
from rft.models.base_model import read_config
from rft.run.forecast.in_flight import completions_in_flight
from rft.run.inputs.prepare import Prepared
from rft.run.teachers.memory import teacher_memory
from rft.run_folder.recorder import MANIFEST, read_manifest
from rft.types import Adapter

ASLEEP_SHARE = 0.15
"""Share of a GPU that a sleeping engine keeps: CUDA context, kernels and graphs. An estimate; no GPU was measured."""


def memory_share(shares: Shares, *, samplers_sleep: bool) -> float:
    """Return the share of a GPU's memory that each rank of the learner may use; 0 on a CPU."""
    if not samplers_sleep:
        return min(1.0, shares.learner_gpus)
    num_engines = round(1 / shares.sampler_gpus) - 1
    return max(shares.learner_gpus, 1 - ASLEEP_SHARE * num_engines)


def serving(config: RunConfig | EvaluateConfig, prepared: Prepared, dtype: str) -> Literal["adapter", "merged"]:
    """Return how the samplers serve an adapter: beside the base model, or merged into it."""
    needs_merge = isinstance(config, RunConfig) and config.learner.adapter.needs_merge
    return config.sampler.serving(read_config(prepared.model), dtype, needs_merge=needs_merge)


def forecast_of(
    run: RunConfig,
    prepared: Prepared,
    device: Device,
    *,
    learner_gpus: float,
    sampler_gpus: float,
    resting_gpus: float = 0.0,
    grader_gpus: Sequence[float] = (),
    teacher_gpus: float = 0.0,
    sizes: Sizes | None = None,
) -> RunForecast:
    """Forecast the memory of a run.

    Args:
        run: The configuration.
        prepared: Its inputs.
        device: The free memory of the machine.
        learner_gpus: GPUs of each rank of the learner.
        sampler_gpus: GPUs of each sampler.
        resting_gpus: GPUs that sleeping samplers leave to each rank while they are awake; 0 if none sleeps.
        grader_gpus: GPUs of each grader's model.
        teacher_gpus: GPUs of each of the teachers' actors.
        sizes: The sizes of an earlier start of the run; None chooses them.
    """
    dtype = run.model.weights_dtype(on_gpu=sampler_gpus > 0)
    # The learner's sequences are a prompt and a completion; rows of demonstrations may be longer.
    longest = max(prepared.longest_prompt_tokens, prepared.longest_row_tokens - run.sampler.max_completion_tokens)
    facts = RunFacts(
        shape=read_shape(prepared.model),
        prompt_tokens=longest,
        serve=serving(run, prepared, dtype),
        rank_below=prepared.rank_below,
        learner_gpus=learner_gpus,
        resting_gpus=resting_gpus,
        sampler_gpus=sampler_gpus,
        max_requests=completions_in_flight(run, prepared),
        others=(*_grader_models(prepared, grader_gpus), *teacher_memory(run, prepared, device, gpus=teacher_gpus)),
    )
    return forecast_run(run, facts, device, sizes)


def forecast_with_sleep(
    run: RunConfig, prepared: Prepared, device: Device, shares: Shares, *, has_own_samplers: bool = True
) -> RunForecast:
    """Forecast the memory of a run, and decide whether its samplers sleep if `sampler.sleep=auto` leaves it open.

    They sleep if the learner fits only then. A resumed run keeps the decision of its first start.

    Args:
        run: The configuration.
        prepared: Its inputs.
        device: The free memory of the machine.
        shares: The share of each process.
        has_own_samplers: Whether no other run uses the samplers.
    """
    recorded = recorded_sizes(Path(run.output_dir))

    def forecast(samplers_sleep: bool, why: str = "") -> RunForecast:
        made = forecast_of(
            run,
            prepared,
            device,
            learner_gpus=memory_share(shares, samplers_sleep=samplers_sleep),
            resting_gpus=shares.learner_gpus if samplers_sleep else 0.0,
            sampler_gpus=shares.sampler_gpus,
            grader_gpus=shares.grader_gpus,
            teacher_gpus=shares.teacher_gpus,
            sizes=replace(recorded, samplers_sleep=samplers_sleep) if recorded else None,
        )
        return replace(made, why_sleep=why)

    if run.sampler.sleeps is not None:
        return forecast(run.sampler.sleeps)
    if prepared.teachers:
        return forecast(False, "the teacher does not sleep" if shares.share_gpus else "")
    if not (shares.sampler_gpus and shares.learner_gpus):
        return forecast(False)
    if recorded is not None:
        return forecast(recorded.samplers_sleep, "as at the first start of this run")
    if not shares.share_gpus:
        return forecast(False, "samplers and learner share no GPU")
    if run.loop.staleness:
        return forecast(False, f"with loop.staleness={run.loop.staleness} they work while the learner does")
    if not has_own_samplers:
        return forecast(False, "other runs use them as well")
    awake = forecast(False, "the learner fits beside them")
    learner = next(process for process in awake.processes if process.name == "learner")
    if awake.works(learner):
        return awake
    needed, share = in_gb(learner.num_bytes), in_gb(awake.limit_bytes(learner) or 0)
    asleep = forecast(True, f"beside them, the learner would need {needed} and have {share}")
    if asleep.problems():
        return replace(awake, why_sleep="the run would not fit either")
    return asleep


def _grader_models(prepared: Prepared, grader_gpus: Sequence[float]) -> tuple[ProcessMemory, ...]:
    return tuple(
        ProcessMemory(name=f"model of grader {name}", parts=model.memory(on_gpu=gpus > 0), gpus=gpus)
        for (name, model), gpus in zip(model_graders(prepared.graders).items(), grader_gpus, strict=True)
    )


def forecast_of_evaluation(
    config: EvaluateConfig, prepared: Prepared, adapter: Adapter | None, device: Device, shares: Shares
) -> Forecast:
    """Forecast the memory of a measurement: its samplers, and the models of its graders.

    Args:
        config: The configuration.
        prepared: Its inputs.
        adapter: The adapter that is measured; None measures the base model.
        device: The free memory of the machine.
        shares: The share of each process.
    """
    dtype = config.model.weights_dtype(on_gpu=shares.sampler_gpus > 0)
    serve = serving(config, prepared, dtype)
    facts = SamplerFacts(
        config=config.sampler,
        dtype=dtype,
        lora_rank=served_rank(adapter) if serve == "adapter" else None,
        merges=adapter is not None and serve == "merged",
        num_adapters=2,
        max_requests=completions_in_flight(config, prepared),
        prompt_tokens=prepared.longest_prompt_tokens,
        max_completion_tokens=config.sampler.max_completion_tokens,
        gpus=shares.sampler_gpus,
    )
    return forecast_measurement(read_shape(prepared.model), facts, device, _grader_models(prepared, shares.grader_gpus))


def served_rank(adapter: Adapter | None) -> int:
    """Return the rank that a measurement's engines have room for."""
    return max_rank(adapter) if adapter else 1


def forecast_evaluation_here(config: EvaluateConfig, prepared: Prepared, adapter: Adapter | None) -> Forecast | None:
    """Forecast the memory of a measurement on this machine; None if it uses a cluster that exists already.

    Raises:
        ConfigError: The configuration requests more GPUs than available.
    """
    shares = shares_here(config)
    if shares is None:
        return None
    gpus = config.sampler.num_actors * shares.sampler_gpus + sum(shares.grader_gpus)
    return forecast_of_evaluation(config, prepared, adapter, device_here(math.ceil(gpus - 1e-9)), shares)


def forecast_here(run: RunConfig, prepared: Prepared) -> RunForecast | None:
    """Forecast the memory of a run on this machine; None if the run uses a cluster that exists already.

    Raises:
        ConfigError: The configuration requests more GPUs than available.
    """
    shares = shares_here(run)
    if shares is None:
        return None
    gpus = run.sampler.num_actors * shares.sampler_gpus + run.learner.num_workers * shares.learner_gpus
    gpus += sum(shares.grader_gpus) + len(teacher_gpus(run)) * shares.teacher_gpus
    return forecast_with_sleep(run, prepared, device_here(math.ceil(gpus - 1e-9)), shares)


def planned_micro_batch(run: RunConfig, forecast: RunForecast | None) -> int:
    """Return the completions of a micro-batch; without a forecast, those on a CPU."""
    return forecast.sizes.completions_per_micro_batch if forecast else completions_per_micro_batch(run)


def recorded_sizes(folder: Path) -> Sizes | None:
    """Return the sizes that a run has used before its resume; None for a new run.

    Args:
        folder: The run folder.
    """
    recorded = read_manifest(folder).get("sizes") if (folder / MANIFEST).is_file() else None
    return Sizes(**recorded) if recorded else None


def refuse_memory(run: RunConfig, forecast: Forecast | None) -> None:
    """Refuse to train a model's own weights where they do not fit. For an adapter, a warning is enough.

    A resumed run is never refused: it has run before, and the killed process may still hold its memory.

    Raises:
        UsageError: With the sum of the memory, and what to change.
    """
    adapter = run.learner.adapter
    if forecast is None or not adapter.trains_base or run.resume is not None:
        return
    if not (problems := forecast.problems()):
        return
    remedy = f"to make room, the cheapest first: {'; '.join(forecast.remedies)}"
    raise UsageError("memory", [*(f"learner.adapter={adapter.method}: {problem}" for problem in problems), remedy])
