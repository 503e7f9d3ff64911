"""Forecasts the memory of a training run or a measurement from its configuration and the shape of its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rft.config import RunConfig
from rft.memory.device import Device
from rft.memory.engine import bytes_of
from rft.memory.forecast_records import Forecast, ProcessMemory, RunForecast
from rft.memory.learner import resting_bytes
from rft.memory.model_shape import ModelShape
from rft.memory.remedies import SMALLER_MODEL, remedies, sampler_remedies
from rft.memory.sampler import SamplerFacts, sampler_memory
from rft.memory.sizes import Sizes, choose_sizes, learner_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Facts about a run that its configuration lacks.

    Example:
        RunFacts(shape=read_shape(folder), prompt_tokens=250, serve="adapter", ...)
    """

    shape: ModelShape
    """Of the base model."""
    prompt_tokens: int
    """Longest prompt."""
    serve: Literal["adapter", "merged"]
    """How the samplers serve an adapter."""
    rank_below: int = 0
    """Rank of a frozen adapter below the trained one; samplers serve the sum of both."""
    learner_gpus: float
    """GPUs of each rank of the learner."""
    resting_gpus: float = 0.0
    """GPUs that sleeping samplers leave to each rank while they are awake; 0 if none sleeps."""
    sampler_gpus: float
    """GPUs of each sampler."""
    max_requests: int
    """Completions that one engine samples at the same time."""
    others: tuple[ProcessMemory, ...] = ()
    """Processes beside learner and samplers, such as reward models."""


def forecast_run(run: RunConfig, facts: RunFacts, device: Device, sizes: Sizes | None = None) -> RunForecast:
    """Forecast the memory of a run.

    Args:
        run: The configuration.
        facts: Further facts.
        device: The free memory of the machine.
        sizes: The sizes of an earlier start of the run; None chooses them.
    """
    sizes = sizes or sizes_of(run, facts, device)
    processes = [*_learner(run, facts, sizes), *_samplers(run, facts, device), *facts.others, *_weights(run, facts)]
    forecast = RunForecast(processes=tuple(processes), device=device, sizes=sizes)
    return replace(forecast, remedies=tuple(remedies(run, facts.shape, forecast, facts.prompt_tokens)))


def forecast_measurement(
    shape: ModelShape, facts: SamplerFacts, device: Device, others: Sequence[ProcessMemory] = ()
) -> Forecast:
    """Forecast the memory of a command that samples without a learner.

    Args:
        shape: Of the base model.
        facts: What the samplers do.
        device: The free memory of the machine.
        others: Further processes, such as reward models.
    """
    sampler = sampler_memory(shape, facts, device)
    forecast = Forecast(processes=(*([sampler] if sampler else []), *others), device=device)
    proposals: list[str] = []
    if sampler and sampler.gpus and not forecast.fits(sampler):
        proposals += sampler_remedies(facts.config, sampler, alone="sampler.num_gpus=1 with fewer samplers")
    if any(not forecast.fits(process) for process in forecast.processes):
        proposals.append(SMALLER_MODEL)
    return replace(forecast, remedies=tuple(proposals))


def sizes_of(run: RunConfig, facts: RunFacts, device: Device) -> Sizes:
    """Choose the sizes of the learner's step for this device."""
    share = min(1.0, facts.learner_gpus)
    sizes = choose_sizes(
        run,
        facts.shape,
        prompt_tokens=facts.prompt_tokens,
        on_gpu=share > 0,
        gpu_bytes=int(share * device.gpu_bytes) if share and device.gpu_bytes else None,
    )
    return replace(sizes, samplers_sleep=facts.resting_gpus > 0)


def _learner(run: RunConfig, facts: RunFacts, sizes: Sizes) -> Sequence[ProcessMemory]:
    parts = learner_bytes(run, facts.shape, sizes, prompt_tokens=facts.prompt_tokens, on_gpu=facts.learner_gpus > 0)
    if not parts:
        return []
    rank = run.learner.adapter.forecast_rank
    dtype = run.model.weights_dtype(on_gpu=True)
    return [
        ProcessMemory(
            name="learner",
            parts=parts,
            gpus=facts.learner_gpus,
            count=run.learner.num_workers,
            resting_bytes=resting_bytes(facts.shape, lora_rank=rank, dtype=dtype, base=run.learner.base)
            + parts.get("reference", 0),
            resting_gpus=facts.resting_gpus,
        )
    ]


def _samplers(run: RunConfig, facts: RunFacts, device: Device) -> Sequence[ProcessMemory]:
    rank = run.learner.adapter.served_rank
    of_samplers = SamplerFacts(
        config=run.sampler,
        dtype=run.model.weights_dtype(on_gpu=facts.sampler_gpus > 0),
        lora_rank=None if rank is None or facts.serve == "merged" else rank + facts.rank_below,
        merges=rank is not None and facts.serve == "merged",
        num_adapters=run.loop.staleness + 2,
        max_requests=facts.max_requests,
        prompt_tokens=facts.prompt_tokens,
        max_completion_tokens=run.sampler.max_completion_tokens,
        gpus=facts.sampler_gpus,
    )
    memory = sampler_memory(facts.shape, of_samplers, device)
    return [] if memory is None else [memory]


def _weights(run: RunConfig, facts: RunFacts) -> Sequence[ProcessMemory]:
    """Return the copies of the weights between learner and samplers in main memory, if whole models are published.

    Ray's object store holds every kept version and the one on its way. Samplers and driver read them there, tensor by
    tensor. The learner's own copies are mapped files, whose pages the system can drop; what it copies while it packs a
    version is freed before this version enters the store.
    """
    if run.learner.adapter.publishes == "adapter" or not run.learner.trains_a_model:
        return []
    once = facts.shape.num_weights * bytes_of(run.model.weights_dtype(on_gpu=facts.learner_gpus > 0))
    return [ProcessMemory(name="weights in transit", parts={"object store": (run.loop.staleness + 2) * once})]
