"""The parts of each plan, in their order, with the deadline of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part: a function that runs in a process of its own.

    Example:
        Part(name="nccl", target="gpu.learner_parts:sum_over_ranks", deadline_s=20, question="does NCCL add up?")
    """

    name: str
    """Unique name."""
    target: str
    """The function, as `module:function`. It gets the bench, the notes, and the options."""
    deadline_s: float
    """Deadline of its process, in seconds."""
    question: str
    """The question that it answers."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the function."""


LEARNER = (
    Part(
        name="environment",
        target="gpu.machine_parts:environment",
        deadline_s=20,
        question="Which versions, driver, headers and shared memory does the machine have? Do vLLM's kernels load?",
    ),
    Part(
        name="models",
        target="gpu.machine_parts:models_of_shapes",
        deadline_s=40,
        question="Makes the base models of random weights that the other parts use.",
    ),
    Part(
        name="step_0_5b",
        target="gpu.learner_parts:steps",
        deadline_s=60,
        question="Peak memory against the forecast, and tokens per second, with and without checkpointing.",
        options={
            "shape": "0.5B",
            "cases": [
                {"rows": 16, "prompt_tokens": 128, "completion_tokens": 128},
                {"rows": 16, "prompt_tokens": 250, "completion_tokens": 512},
                {"rows": 16, "prompt_tokens": 250, "completion_tokens": 512, "checkpointing": True},
            ],
        },
    ),
    Part(
        name="step_1_5b",
        target="gpu.learner_parts:steps",
        deadline_s=45,
        question="The same for a larger model.",
        options={"shape": "1.5B", "cases": [{"rows": 8, "prompt_tokens": 250, "completion_tokens": 512}]},
    ),
    Part(
        name="noise",
        target="gpu.learner_parts:noise",
        deadline_s=30,
        question="How far do log-probabilities of one model differ between batch sizes, with and without an fp32 head?",
    ),
    Part(
        name="nccl",
        target="gpu.learner_parts:sum_over_ranks",
        deadline_s=30,
        question="Can a process group of NCCL be made and used without init_process_group? Does the checksum agree?",
    ),
    Part(
        name="ppo_step",
        target="gpu.learner_parts:ppo_step",
        deadline_s=40,
        question="Does a PPO step run, save and load on the GPU?",
    ),
)
"""The learner: at most 130 s."""
VARIANTS = (
    Part(
        name="halving",
        target="gpu.learner_parts:halved_micro_batch",
        deadline_s=30,
        question="Does a step that runs out of memory succeed with half the micro-batch?",
    ),
    Part(
        name="float16",
        target="gpu.learner_parts:float16_steps",
        deadline_s=40,
        question="Do steps in float16, with a scaled loss, change the weights?",
    ),
    Part(
        name="full_weights",
        target="gpu.learner_parts:full_weights",
        deadline_s=40,
        question="Does training of all weights run under autocast, and do its canaries use the same precision?",
    ),
    Part(
        name="transformers",
        target="gpu.learner_parts:transformers_engine",
        deadline_s=40,
        question="Does the sampler without vLLM sample, load an adapter and score it?",
    ),
    Part(
        name="reward_model",
        target="gpu.learner_parts:reward_model",
        deadline_s=40,
        question="Does a reward model score on its share of the GPU?",
    ),
)
"""Other ways to train and to sample, with the models of `LEARNER`."""
ENGINE = (
    Part(
        name="engine_models",
        target="gpu.machine_parts:models_of_shapes",
        deadline_s=40,
        question="Makes the base models, unless an earlier plan has made them.",
    ),
    Part(
        name="read_back",
        target="gpu.engine_parts:read_back",
        deadline_s=80,
        question="Which model runner, backend and block size? Does the read-back find a changed tensor, scaling, slot?",
    ),
    Part(
        name="prefix_cache",
        target="gpu.engine_parts:prefix_cache",
        deadline_s=70,
        question="How far does a token through the prefix cache differ, and how long does a proof take, under load?",
    ),
    Part(
        name="gap_bfloat16",
        target="gpu.engine_parts:gap_to_learner",
        deadline_s=60,
        question="How far do engine and learner differ in bfloat16?",
        options={"float32_head": False},
    ),
    Part(
        name="gap_float32_head",
        target="gpu.engine_parts:gap_to_learner",
        deadline_s=60,
        question="The same with an fp32 head on both sides.",
        options={"float32_head": True},
    ),
    Part(
        name="seeds",
        target="gpu.engine_parts:seeds",
        deadline_s=50,
        question="Does a completion depend on its neighbours?",
    ),
    Part(
        name="merged",
        target="gpu.engine_parts:merged",
        deadline_s=60,
        question="Do merged policies score the same at each load, also right after completions have ended?",
    ),
    Part(
        name="graphs",
        target="gpu.engine_parts:graphs",
        deadline_s=110,
        question="How long is a cold start with compiled graphs? Does a load between replays change what they compute?",
    ),
    Part(
        name="throughput_small",
        target="gpu.throughput_parts:throughput",
        deadline_s=60,
        question="Tokens per second of 320 completions with vLLM's default batch limits.",
        options={"serve": "adapter", "limits": {"max_num_seqs": 128, "max_num_batched_tokens": 2048}},
    ),
    Part(
        name="throughput_large",
        target="gpu.throughput_parts:throughput",
        deadline_s=60,
        question="The same with larger limits.",
        options={"serve": "adapter", "limits": {"max_num_seqs": 512, "max_num_batched_tokens": 8192}},
    ),
    Part(
        name="throughput_merged",
        target="gpu.throughput_parts:throughput",
        deadline_s=60,
        question="The same with a merged adapter.",
        options={"serve": "merged", "limits": {"max_num_seqs": 512, "max_num_batched_tokens": 8192}},
    ),
    Part(
        name="sleep",
        target="gpu.sharing_parts:asleep",
        deadline_s=45,
        question="Is the memory of a sleeping engine free, and does the engine score the same after it woke?",
    ),
    Part(
        name="cache_alone",
        target="gpu.sharing_parts:cache_blocks",
        deadline_s=45,
        question="How many blocks does the key-value cache get on a quiet GPU?",
        options={"beside_gb": 0},
    ),
    Part(
        name="cache_beside",
        target="gpu.sharing_parts:cache_blocks",
        deadline_s=60,
        question="The same beside a process that took 40 GB before; is that memory free soon after a kill?",
        options={"beside_gb": 40},
    ),
    Part(
        name="learner_beside_engine",
        target="gpu.sharing_parts:learner_beside_engine",
        deadline_s=80,
        question="A learner step of 12,200 tokens beside a decoding engine: how much slower are both?",
    ),
)
"""The engine, and engine and learner in one process: at most 9 minutes."""
CLUSTER = (
    Part(
        name="run_shared",
        target="gpu.cluster_parts:run",
        deadline_s=240,
        question="Does a whole run with engine and learner on one GPU prove every sync?",
        options={"words": ["sampler.num_actors=1"]},
    ),
    Part(
        name="run_merged",
        target="gpu.cluster_parts:run",
        deadline_s=240,
        question="The same with merged adapters and one batch sampled ahead.",
        options={"words": ["sampler.serve=merged", "loop.staleness=1"]},
    ),
    Part(
        name="run_all_weights",
        target="gpu.cluster_parts:run",
        deadline_s=240,
        question="The same with all weights trained.",
        options={"words": ["learner.adapter=full"]},
    ),
    Part(
        name="run_asleep",
        target="gpu.cluster_parts:run",
        deadline_s=240,
        question="The same with an engine that sleeps while the learner works.",
        options={"words": ["sampler.sleep=true"], "needs_gpu": True},
    ),
    Part(
        name="command_sample",
        target="gpu.cluster_parts:sample",
        deadline_s=120,
        question="Does `rft sample` sample on the GPU, without Ray?",
    ),
    Part(
        name="lost_rank",
        target="gpu.cluster_parts:lost_rank",
        deadline_s=240,
        question="Is a rank that dies during a sum of NCCL named before a deadline?",
    ),
    Part(
        name="two_ranks",
        target="gpu.cluster_parts:run",
        deadline_s=300,
        question="Do two ranks with a GPU each agree, with NCCL?",
        options={"words": ["learner.num_workers=2"], "num_gpus": 3},
    ),
    Part(
        name="tensor_parallel",
        target="gpu.cluster_parts:run",
        deadline_s=300,
        question="Does an engine that spans two GPUs read back and prove on both?",
        options={"words": ["sampler.engine.tensor_parallel_size=2"], "num_gpus": 3},
    ),
    *(
        Part(
            name=f"beside_trl_{shape.lower().replace('.', '_')}",
            target="gpu.cluster_parts:beside_trl",
            deadline_s=1500,
            question="How long is a step beside one of TRL with vLLM in its process?",
            options={"shape": shape},
        )
        for shape in ("0.5B", "1.5B")
    ),
)
"""Whole runs with Ray, and TRL side by side: optional."""
PLANS: Mapping[str, tuple[tuple[Part, ...], float]] = {
    "learner": (LEARNER, 130.0),
    "variants": (VARIANTS, 150.0),
    "engine": (ENGINE, 540.0),
    "cluster": (CLUSTER, 4500.0),
}
"""The parts of each plan, and the seconds that all of them may take."""


def part_named(name: str) -> Part:
    """Return the part with this name.

    Raises:
        KeyError: There is none.
    """
    return {part.name: part for parts, _ in PLANS.values() for part in parts}[name]
