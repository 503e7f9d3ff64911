"""The memory forecast of the teachers' engines."""

from __future__ import annotations

from dataclasses import replace

from rft.config import RunConfig
from rft.config.samplers.vllm import VllmSamplerConfig
from rft.memory import Device, ProcessMemory, SamplerFacts, read_shape
from rft.memory.sampler import sampler_memory
from rft.models.adapter_folder import max_rank
from rft.models.base_model import read_config
from rft.run.inputs.prepare import Prepared
from rft.run.teachers.read_teachers import Teacher

BYTES_OF_A_SCORE = 2 * 4
"""Bytes for each word of the vocabulary while a token is scored: its logit and its log-probability, in float32."""


def teacher_memory(run: RunConfig, prepared: Prepared, device: Device, *, gpus: float) -> tuple[ProcessMemory, ...]:
    """Forecast the memory of an engine of each teacher; none without a teacher.

    Args:
        run: The configuration.
        prepared: Its inputs.
        device: The free memory of the machine.
        gpus: GPUs of each engine.
    """
    engines = (_engine_memory(run, prepared, teacher, device, gpus=gpus) for teacher in prepared.teachers)
    return tuple(memory for memory in engines if memory is not None)


def _engine_memory(
    run: RunConfig, prepared: Prepared, teacher: Teacher, device: Device, *, gpus: float
) -> ProcessMemory | None:
    """Forecast the memory of an engine of a teacher; None if it is unknown."""
    config, dtype = teacher.sampler(run, on_gpu=gpus > 0), run.model.weights_dtype(on_gpu=gpus > 0)
    serve = config.serving(read_config(teacher.model), dtype)
    shape = read_shape(teacher.model)
    # A scored sequence is a prompt, after which the engine samples one token.
    longest = prepared.longest_prompt_tokens + run.sampler.max_completion_tokens
    facts = SamplerFacts(
        config=config,
        dtype=dtype,
        lora_rank=max_rank(teacher.adapter) if teacher.adapter and serve == "adapter" else None,
        merges=teacher.adapter is not None and serve == "merged",
        num_adapters=2,
        max_requests=run.loop.completions_per_prompt if isinstance(config, VllmSamplerConfig) else 1,
        prompt_tokens=longest,
        max_completion_tokens=1,
        gpus=gpus,
    )
    memory = sampler_memory(shape, facts, device)
    if memory is None:
        return None
    # One sequence at a time; vLLM divides a long one.
    most = config.engine.get("max_num_batched_tokens") if isinstance(config, VllmSamplerConfig) else None
    scores = BYTES_OF_A_SCORE * min(longest, int(most or longest)) * shape.vocabulary
    return replace(memory, name=teacher.role, parts={**memory.parts, "scores": scores})
