"""Proposes changes with which a run fits into memory, the cheapest first."""

from __future__ import annotations

from dataclasses import replace

from rft.config import RunConfig
from rft.config.adapters import LoraAdapterConfig
from rft.config.learners.policy import PolicyLearnerConfig
from rft.config.samplers.base import SamplerConfig
from rft.config.samplers.vllm import VllmSamplerConfig
from rft.memory.device import in_gb
from rft.memory.forecast_records import ProcessMemory, RunForecast
from rft.memory.model_shape import ModelShape
from rft.memory.sizes import learner_bytes

LEARNER_ELSEWHERE = "learner.num_gpus=1 with sampler.num_gpus=1, on two GPUs"
SMALLER_MODEL = "use a smaller model, or a machine with more memory"


def remedies(run: RunConfig, shape: ModelShape, forecast: RunForecast, prompt_tokens: int) -> list[str]:
    """Return the changes that help, each with the memory that it needs; empty if everything fits.

    Args:
        run: The configuration.
        shape: Of the base model.
        forecast: The forecast without remedies.
        prompt_tokens: Longest prompt.
    """
    proposals: list[str] = []
    for process in forecast.processes:
        if forecast.fits(process):
            continue
        if process.name == "learner" and not forecast.works(process):
            proposals += _for_learner(run, shape, forecast, process, prompt_tokens)
        elif process.name == "learner":
            proposals += _for_resting_learner(run)
        elif process.name == "sampler" and process.gpus:
            proposals += sampler_remedies(run.sampler, process, alone=LEARNER_ELSEWHERE)
    if any(not forecast.fits(process) for process in forecast.processes):
        proposals.append(SMALLER_MODEL)
    return list(dict.fromkeys(proposals))


def _for_learner(
    run: RunConfig, shape: ModelShape, forecast: RunForecast, process: ProcessMemory, prompt_tokens: int
) -> list[str]:
    learner, sizes = run.learner, forecast.sizes

    def needs(changed: RunConfig, **changes: object) -> str:
        parts = learner_bytes(
            changed,
            shape,
            replace(sizes, **changes),  # type: ignore[arg-type]
            prompt_tokens=prompt_tokens,
            on_gpu=process.gpus > 0,
        )
        return f"the learner then needs {in_gb(sum(parts.values()))}"

    proposals = []
    smallest: dict[str, object] = {"completions_per_micro_batch": 1}
    if sizes.completions_per_micro_batch > 1:
        proposals.append(f"learner.completions_per_micro_batch=1 ({needs(run, **smallest)})")
    if not sizes.gradient_checkpointing and isinstance(learner, PolicyLearnerConfig):
        smallest["gradient_checkpointing"] = True
        proposals.append(f"learner.trl.gradient_checkpointing=true ({needs(run, **smallest)})")
    if 0 < process.gpus < 1:
        proposals.append(LEARNER_ELSEWHERE)
    if run.sampler.max_completion_tokens > 64:
        shorter = run.sampler.max_completion_tokens // 2
        sampler = run.sampler.model_copy(update={"max_completion_tokens": shorter})
        changed = run.model_copy(update={"sampler": sampler})
        proposals.append(f"sampler.max_completion_tokens={shorter} ({needs(changed, **smallest)})")
    if learner.adapter.trains_base:
        changed = run.model_copy(update={"learner": learner.model_copy(update={"adapter": LoraAdapterConfig()})})
        proposals.append(f"an adapter: learner.adapter=lora ({needs(changed, **smallest)})")
    return proposals


def _for_resting_learner(run: RunConfig) -> list[str]:
    proposals = ["a smaller sampler.num_gpus with a larger learner.num_gpus"]
    if run.learner.adapter.trains_base:
        proposals.append("an adapter: learner.adapter=lora")
    return [*proposals, f"{LEARNER_ELSEWHERE}, without sampler.sleep"]


def sampler_remedies(sampler: SamplerConfig, process: ProcessMemory, *, alone: str) -> list[str]:
    """Return the changes that help a sampler that does not fit on its GPU.

    Args:
        sampler: Its settings.
        process: Its memory.
        alone: The change that gives it a GPU of its own.
    """
    proposals = []
    if process.gpus < 1:
        proposals.append(alone)
    if isinstance(sampler, VllmSamplerConfig):
        twice = 2 * max(1, sampler.gpus_spanned)
        proposals.append(f"sampler.engine.tensor_parallel_size={twice}, which divides the model among {twice} GPUs")
    return proposals
