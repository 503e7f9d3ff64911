"""Parts about the correctness of vLLM's engine: read-back, prefix cache, numerics, seeds, merged policies, graphs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gpu.adapters import random_adapter, spoilt
from gpu.bench import Bench, differences
from gpu.report import Notes
from rft.sampling.engine import Request, SamplingOptions, sample_all

NUM_SEQUENCES = 8
"""Sequences of the parts that score some."""
LARGEST_GAP = 0.1
"""Largest mean difference in 16 bits between two computations of the same log-probabilities."""


def read_back(bench: Bench, notes: Notes) -> None:
    """Note the engine's components; check that the read-back detects every kind of wrong adapter."""
    with bench.timed() as seconds:
        engine = bench.engine("0.5B")
    notes.note(start_s=seconds[0], peak_bytes=bench.peak_bytes(), **engine.describe())
    first, second = (random_adapter(bench, version=version, seed=version) for version in (1, 2))
    with bench.timed() as seconds:
        loaded = engine.load(first)
    notes.note(load_s=seconds[0], modules=loaded.modules_matched)
    notes.check("an honest adapter is read back", not loaded.problems and loaded.modules_matched > 0)
    number = engine._held[-1].lora_request.lora_int_id

    def is_detected(published: Any) -> bool:
        return bool(engine._weights._read_back(published, number).problems)

    notes.check("a changed tensor is found", is_detected(spoilt(first)))
    doubled = replace(first, config={**first.config, "lora_alpha": 2 * first.config["lora_alpha"]})
    notes.check("another scaling is found", is_detected(doubled))
    notes.check("another adapter in the slot is found", is_detected(second))
    notes.check("the honest adapter is still there", not is_detected(first))


def prefix_cache(bench: Bench, notes: Notes) -> None:
    """Score a token through the prefix cache and without it, idle and under load."""
    size = bench.size
    longest = max(size.num_busy)
    engine = bench.engine("0.5B", max_num_seqs=longest + 8)
    probes = bench.random_ids(size.num_probes, 36)
    options = SamplingOptions(temperature=1.0, max_completion_tokens=size.max_context_tokens - 32)
    for busy in size.num_busy:
        requests = [Request(task_id="t", index=i, prompt_ids=(7,) * 16, seed=i) for i in range(busy)]
        engine.add(busy, requests, options, engine.policies[-1])
        engine.load(random_adapter(bench, version=1 + busy, seed=1))  # a new salt: the cache is empty for it
        together, apart, seconds, reused = [], [], [], set()
        for ids in probes:
            began = time.perf_counter()
            fresh = engine.score([ids])
            seconds.append(time.perf_counter() - began)
            cached = engine.score([ids])
            together.append((fresh.last[0], fresh.logprobs[0][-1]))
            apart.append((cached.last[0], fresh.logprobs[0][-1]))
            reused.add((fresh.reused_tokens, (cached.reused_tokens or 0) > 0))
        engine.abort(busy)
        seconds.sort()
        notes.note(
            **{
                f"{busy} in flight": {
                    "together": differences(*zip(*[([a], [b]) for a, b in together], strict=True)),
                    "through the cache": differences(*zip(*[([a], [b]) for a, b in apart], strict=True)),
                    "median_score_s": seconds[len(seconds) // 2],
                    "max_score_s": seconds[-1],
                }
            }
        )
        notes.check(f"{busy} in flight: only the second request reuses tokens", reused == {(0, True)})


def gap_to_learner(bench: Bench, notes: Notes, *, float32_head: bool) -> None:
    """Compare the scores of the engine with those of the learner, for the base model and after a step."""
    from gpu.learner_parts import open_learner

    lengths = bench.size.gap_lengths
    canaries = tuple(ids for length in lengths for ids in bench.random_ids(NUM_SEQUENCES, length))
    engine = bench.engine("0.5B", hf_overrides={"head_dtype": "float32" if float32_head else "model"})
    base_scores = engine.score(canaries)
    trl = {} if float32_head else {"cast_lm_head_to_fp32": False}
    spec = bench.learner_spec("0.5B", rows=8, completion_tokens=16, learning_rate=1e-3, trl=trl)
    with open_learner(replace(spec, canaries=canaries)) as learner:
        group = bench.group(rows=8, prompt_tokens=16, completion_tokens=16, policy=learner.publish().policy)
        learner.learn([group])
        publication = learner.publish()
    loaded = engine.load(publication.weights)
    scores = engine.score(canaries)
    for number, length in enumerate(lengths):
        rows = slice(number * NUM_SEQUENCES, (number + 1) * NUM_SEQUENCES)
        for policy, ours, theirs in (
            ("base", base_scores.logprobs, publication.base_canary_logprobs),
            ("adapter", scores.logprobs, publication.canary_logprobs),
        ):
            gap = differences(ours[rows], theirs[rows])
            notes.note(**{f"{policy}, {length} tokens": gap})
            notes.check(f"{policy}, {length} tokens: small", gap["mean"] <= LARGEST_GAP)
    notes.note(moved=differences(scores.logprobs, base_scores.logprobs))
    notes.check("the adapter is read back", not loaded.problems and loaded.modules_matched > 0)
    notes.check("the cache is empty for a new policy", scores.reused_tokens == 0)


def seeds(bench: Bench, notes: Notes) -> None:
    """Sample requests alone, again, and among many others."""
    size = bench.size
    engine = bench.engine("0.5B", max_num_seqs=size.num_completions)
    prompts = bench.random_ids(4, 32)
    requests = [
        Request(task_id=str(i % 4), index=i, prompt_ids=prompts[i % 4], seed=i) for i in range(size.num_completions)
    ]
    options = SamplingOptions(temperature=1.0, max_completion_tokens=size.completion_tokens)
    alone = [sample_all(engine, [request], options)[0].completion_ids for request in requests[:4]]
    again = [sample_all(engine, [request], options)[0].completion_ids for request in requests[:4]]
    among = {rollout.index: rollout.completion_ids for rollout in sample_all(engine, requests, options)}
    # Rounding depends on the batch, and may change a token sooner or later; a wrong seed changes the first one.
    for name, others in (("again", again), ("among others", [among[index] for index in range(4)])):
        places = [_first_difference(one, other) for one, other in zip(alone, others, strict=True)]
        notes.note(**{f"first difference, {name}": places})
        notes.check(f"the same first tokens, {name}", all(place is None or place > 0 for place in places))
    notes.note(completion_tokens=size.completion_tokens)
    notes.check("other seeds give other completions", len(set(among.values())) > 1)


def merged(bench: Bench, notes: Notes) -> None:
    """Load merged policies over each other, also right after completions have ended with an end token."""
    from rft.sampling.stops import Stops

    engine = bench.engine("0.5B", serve="merged")
    # One token in eight ends a completion, so that completions end at different steps.
    engine._stops = Stops(frozenset(range(0, bench.size.vocabulary, 8)), ())
    versions = {version: random_adapter(bench, version=version, seed=version) for version in (1, 2)}
    sequences = bench.random_ids(NUM_SEQUENCES, 36)
    requests = [Request(task_id="t", index=i, prompt_ids=(7,) * 16, seed=i) for i in range(32)]
    options = SamplingOptions(temperature=1.0, max_completion_tokens=bench.size.completion_tokens)
    scores, ended, load_s = [], 0, []
    for version in (1, 2, 1):
        with bench.timed() as seconds:
            loaded = engine.load(versions[version])
        load_s += seconds
        notes.check(f"version {version} is merged", not loaded.problems)
        scores.append(engine.score(sequences).logprobs)
        ended += sum(rollout.stop == "stop" for rollout in sample_all(engine, requests, options))
    notes.note(load_s=load_s, ended_by_token=ended, moved=differences(scores[0], scores[1]))
    notes.check("the same policy scores the same, bit for bit", scores[0] == scores[2])
    notes.check("another policy scores otherwise", differences(scores[0], scores[1])["mean"] > 0.01)
    notes.check("some completions ended with an end token", ended > 0)


def graphs(bench: Bench, notes: Notes) -> None:
    """Start with compiled graphs; check that a load between replays changes the log-probabilities of decoding."""
    with bench.timed() as seconds:
        engine = bench.engine("0.5B", enforce_eager=bench.dry)
    notes.note(start_s=seconds[0])
    options = SamplingOptions(temperature=1.0, max_completion_tokens=bench.size.completion_tokens // 8)
    requests = [Request(task_id="t", index=i, prompt_ids=(7,) * 16, seed=i) for i in range(NUM_SEQUENCES)]
    previous: Sequence[Sequence[float]] | None = None
    for version in (0, 1, 2):
        if version:
            engine.load(random_adapter(bench, version=version, seed=10 + version))
        rollouts = sorted(sample_all(engine, requests, options), key=lambda rollout: rollout.index)
        if previous is None:
            sequences = [rollout.prompt_ids + rollout.completion_ids for rollout in rollouts]
        own = [rollout.prompt_ids + rollout.completion_ids for rollout in rollouts]
        scored = zip(engine.score(own).logprobs, rollouts, strict=True)
        prefilled = [row[-len(rollout.logprobs) :] for row, rollout in scored]
        gap = differences([rollout.logprobs for rollout in rollouts], prefilled)
        notes.note(**{f"version {version}: decoding against prefill": gap})
        notes.check(f"version {version}: decoding agrees with prefill", gap["mean"] <= LARGEST_GAP)
        scores = engine.score(sequences).logprobs
        if previous is not None:
            moved = differences(scores, previous)
            notes.note(**{f"version {version}: moved": moved})
            notes.check(f"version {version}: differs from the one before", moved["mean"] > 0.01)
        previous = scores


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Return the first place at which two completions differ, or None."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
