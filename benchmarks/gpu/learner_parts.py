"""Parts about the learner, without an engine of vLLM."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from gpu.adapters import random_adapter
from gpu.bench import RANK, Bench, differences
from gpu.report import Notes, NotRun
from rft.learning.spec import LearnerSpec, RankPlace

FORECAST_TOLERANCE = 0.15
"""Largest error of a forecast, relative to the measured peak."""
NUM_SEQUENCES = 8
"""Sequences of the parts that score some."""


def steps(bench: Bench, notes: Notes, *, shape: str, cases: Sequence[Mapping[str, Any]]) -> None:
    """Take optimizer steps of several sizes; compare the peak memory with the forecast."""
    for case in cases:
        name = f"{case['rows']}x({case['prompt_tokens']}+{case['completion_tokens']})"
        name += " checkpointed" if case.get("checkpointing") else ""
        _step(bench, notes, shape, name, **case)


def _step(
    bench: Bench,
    notes: Notes,
    shape: str,
    name: str,
    *,
    rows: int,
    prompt_tokens: int,
    completion_tokens: int,
    checkpointing: bool = False,
) -> None:
    divisor = bench.size.divisor
    prompt, completion = max(2, prompt_tokens // divisor), max(2, completion_tokens // divisor)
    held = bench.forget_peak() or 0
    spec = bench.learner_spec(shape, rows=rows, completion_tokens=completion)
    with open_learner(replace(spec, gradient_checkpointing=checkpointing)) as learner:
        seconds = []
        for _ in range(2):  # the first step compiles kernels and fills the allocator
            group = bench.group(
                rows=rows, prompt_tokens=prompt, completion_tokens=completion, policy=learner.publish().policy
            )
            with bench.timed() as took:
                metrics = learner.learn([group])
            seconds += took
        peak = bench.peak_bytes()
    forecast = _forecast_bytes(bench, shape, rows, prompt, completion, checkpointing)
    notes.check(f"{name}: learned from all", metrics["completions/learned_from"] == rows)
    notes.note(
        **{
            name: {
                "peak_bytes": peak and peak - held,
                "forecast_bytes": forecast,
                "first_step_s": seconds[0],
                "step_s": seconds[1],
                "tokens_per_s": rows * (prompt + completion) / seconds[1],
            }
        }
    )
    if peak is not None:
        notes.check(f"{name}: forecast", abs(forecast / (peak - held) - 1) <= FORECAST_TOLERANCE)


def _forecast_bytes(
    bench: Bench, shape: str, rows: int, prompt_tokens: int, completion_tokens: int, checkpointing: bool
) -> int:
    """Return the forecast of torch's memory: without the libraries, which allocate their own."""
    from rft.memory import read_shape
    from rft.memory.learner import MicroBatch, fixed_bytes, pass_bytes

    batch = MicroBatch(
        rows=rows,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        gradient_checkpointing=checkpointing,
    )
    sizes = read_shape(bench.model(shape))
    conditions: dict[str, Any] = {"lora_rank": RANK, "dtype": bench.size.dtype, "on_gpu": not bench.dry}
    parts = fixed_bytes(sizes, **conditions) | pass_bytes(sizes, batch, **conditions)
    return sum(parts.values()) - parts["libraries"]


def noise(bench: Bench, notes: Notes) -> None:
    """Score the same sequences one by one and together, with logits in 16 bits and in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    from rft.learning.canaries import score_canaries
    from rft.learning.float32_head import _compute_in_float32

    model = AutoModelForCausalLM.from_pretrained(bench.model("0.5B"), dtype=getattr(torch, bench.size.dtype))
    model = model.to(bench.device).eval()
    for head in ("plain", "float32"):
        if head == "float32":
            _compute_in_float32(model.get_output_embeddings(), model.dtype)
        for length in bench.size.gap_lengths:
            sequences = bench.random_ids(NUM_SEQUENCES, length)
            alone = [row for ids in sequences for row in score_canaries(model, [ids])]
            together = score_canaries(model, sequences)
            notes.note(**{f"{head} head, {length} tokens": differences(alone, together)})
            notes.check(
                f"{head} head, {length} tokens: finite", all(math.isfinite(value) for row in together for value in row)
            )


def sum_over_ranks(bench: Bench, notes: Notes) -> None:
    """Add up over a process group of one rank, and compare the checksum with that on the CPU."""
    import torch

    from rft.learning.rank_store import open_store
    from rft.learning.ranks import Ranks, checksum

    store = open_store("127.0.0.1")
    backend: Any = "gloo" if bench.dry else "nccl"
    place = RankPlace(number=0, of=1, address=f"127.0.0.1:{store.port}", host="127.0.0.1", backend=backend)
    ranks = Ranks.join(place, timeout_s=20)
    tensors = [torch.arange(5.0, device=bench.device), torch.ones(3, 2, dtype=torch.bfloat16, device=bench.device)]
    before = [tensor.clone() for tensor in tensors]
    with bench.timed() as seconds:
        ranks.add_up(tensors)
    notes.note(backend=backend, seconds=seconds[0])
    notes.check("the sum over one rank is its own", all(map(torch.equal, tensors, before)))
    notes.check("checksum", checksum(tensors) == checksum([tensor.cpu() for tensor in tensors]))


def halved_micro_batch(bench: Bench, notes: Notes) -> None:
    """Take a step, then one with less memory than it used: the learner must halve its micro-batch.

    Raises:
        NotRun: On the CPU, where torch raises no OutOfMemoryError.
    """
    if bench.dry:
        raise NotRun("torch raises OutOfMemoryError on GPUs only")
    import torch

    rows, prompt, completion = 16, 128, 128
    spec = bench.learner_spec("0.5B", rows=rows, completion_tokens=completion)
    with open_learner(spec) as learner:

        def learn() -> dict[str, float]:
            policy = learner.publish().policy
            group = bench.group(rows=rows, prompt_tokens=prompt, completion_tokens=completion, policy=policy)
            metrics: dict[str, float] = learner.learn([group])
            return metrics

        learn()
        held = bench.forget_peak() or 0
        learn()
        peak = bench.peak_bytes() or 0
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction((held + 0.75 * (peak - held)) / total)
        metrics = learn()
    notes.note(held_bytes=held, peak_bytes=peak, parts=metrics.get("micro_batch_parts"))
    notes.check("the micro-batch was halved", metrics.get("micro_batch_parts") == 2)
    notes.check("the step was taken", math.isfinite(metrics["loss"]))


def ppo_step(bench: Bench, notes: Notes) -> None:
    """Take a step of PPO, write a checkpoint, and resume from it."""
    spec = bench.learner_spec("0.5B", rows=8, completion_tokens=16, kind="ppo")
    with open_learner(spec) as learner:
        metrics = learner.learn([_short_group(bench, learner)])
        checksum = learner.checksum()
        learner.save()
    notes.note(**{name: value for name, value in metrics.items() if name.startswith("value/")})
    notes.check("finite loss", math.isfinite(metrics["loss"]))
    bench.forget_peak()
    with open_learner(replace(spec, resume_from=spec.run_folder / "checkpoints" / "checkpoint-1")) as learner:
        notes.check("resumes at its step", learner.steps_done == 1)
        notes.check("resumes with its weights", learner.checksum() == checksum)


def float16_steps(bench: Bench, notes: Notes) -> None:
    """Take steps in float16, where the loss is scaled; the first ones may change no weight until the scale fits."""
    spec = bench.learner_spec("0.5B", rows=8, completion_tokens=16)
    with open_learner(spec if bench.dry else replace(spec, dtype="float16")) as learner:
        before = learner.checksum()
        losses = [learner.learn([_short_group(bench, learner)])["loss"] for _ in range(4)]
        after = learner.checksum()
    notes.note(losses=losses)
    notes.check("finite losses", all(map(math.isfinite, losses)))
    notes.check("the weights changed", before != after)


def full_weights(bench: Bench, notes: Notes) -> None:
    """Train all weights for a step, and publish them."""
    from rft.types import FullWeights

    spec = bench.learner_spec("0.5B", rows=8, completion_tokens=16, adapter="full", learning_rate=1e-5)
    spec = replace(spec, canaries=tuple(bench.random_ids(3, 36)))
    with open_learner(spec) as learner:
        before = learner.publish()
        with bench.timed() as seconds:
            learner.learn([_short_group(bench, learner)])
        with bench.timed() as publishing:
            after = learner.publish()
    assert isinstance(after.weights, FullWeights)
    gap = differences(before.canary_logprobs, before.base_canary_logprobs)
    notes.note(
        step_s=seconds[0],
        publish_s=publishing[0],
        published_bytes=len(after.weights.tensors),
        peak_bytes=bench.peak_bytes(),
        version_0_against_base=gap,
        moved=differences(after.canary_logprobs, before.canary_logprobs),
    )
    notes.check("version 0 is the base model", gap["mean"] <= 0.01)
    notes.check("the weights changed", before.policy.fingerprint != after.policy.fingerprint)


def transformers_engine(bench: Bench, notes: Notes) -> None:
    """Sample with Transformers, load an adapter, and sample with it."""
    from rft.config.samplers.transformers import TransformersSamplerConfig
    from rft.sampling.engine import Request, SamplingOptions, sample_all
    from rft.sampling.transformers_engine import TransformersEngine

    spec = replace(bench.engine_spec("0.5B"), sampler=TransformersSamplerConfig(completions_per_batch=8))
    engine = TransformersEngine(spec)
    canaries = bench.random_ids(3, 36)
    base = engine.score(canaries)
    loaded = engine.load(random_adapter(bench, version=1, seed=1))
    moved = differences(engine.score(canaries).logprobs, base.logprobs)
    prompt = bench.random_ids(1, 16)[0]
    requests = [Request(task_id="t", index=i, prompt_ids=prompt, seed=i) for i in range(8)]
    options = SamplingOptions(temperature=1.0, max_completion_tokens=bench.size.completion_tokens // 8)
    with bench.timed() as seconds:
        rollouts = sample_all(engine, requests, options)
    notes.note(moved=moved, tokens_per_s=sum(len(rollout.completion_ids) for rollout in rollouts) / seconds[0])
    notes.check("the adapter is read back", not loaded.problems and loaded.modules_matched > 0)
    notes.check("the adapter changes the scores", moved["mean"] > 0.01)
    notes.check("all completions ended", len(rollouts) == len(requests))


def reward_model(bench: Bench, notes: Notes) -> None:
    """Score completions with a reward model of random weights, alone and together, on half of the device."""
    from transformers import AutoTokenizer, Qwen2ForSequenceClassification

    from rft.grading.models.batches import Row
    from rft.grading.models.reward_scorer import RewardScorer, ScorerSettings

    folder = bench.work / "reward-model"
    if not folder.exists():
        Qwen2ForSequenceClassification.from_pretrained(bench.model("0.5B"), num_labels=1).save_pretrained(folder)
        AutoTokenizer.from_pretrained(bench.model("0.5B")).save_pretrained(folder)
    scorer = RewardScorer(ScorerSettings(model=str(folder)), gpus=0.0 if bench.dry else 0.5)
    answers = [letter * 20 for letter in "abcdefgh"]
    rows = [Row(messages=[{"role": "user", "content": "abc"}], answer=answer) for answer in answers]
    with bench.timed() as seconds:
        together = [reward.value for reward in scorer.score(rows)]
    alone = [scorer.score([row])[0].value for row in rows]
    notes.note(seconds=seconds[0], difference=differences([together], [alone]), peak_bytes=bench.peak_bytes())
    notes.check("finite rewards", all(map(math.isfinite, together)))
    notes.check("answers differ", len(set(together)) > 1)


@contextmanager
def open_learner(spec: LearnerSpec) -> Iterator[Any]:
    """Build a learner in this process, and close it."""
    from rft.learning.build import build_learner

    learner = build_learner(spec)
    try:
        yield learner
    finally:
        learner.close()


def _short_group(bench: Bench, learner: Any) -> Any:
    return bench.group(rows=8, prompt_tokens=16, completion_tokens=16, policy=learner.publish().policy)
