"""A vLLM engine driven request by request, inside the calling process.

`LLM.generate` would return a whole batch at once. By stepping the engine, rft receives every completion as soon as it
ends, so that it is graded while others are sampled, and can add requests and policies at any time.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from rft.config.samplers.vllm import VllmSamplerConfig
from rft.errors import SampleError, SyncError
from rft.imports import large_imports, vllm_needs_gpu
from rft.sampling.engine import ANY_RUN, Loaded, Request, SamplingOptions, Scores, TopRequest, Tops, not_held
from rft.sampling.gpu_memory import wait_for_room
from rft.sampling.merging import BaseWeights
from rft.sampling.spec import EngineSpec
from rft.sampling.stops import model_stops
from rft.sampling.vllm_policies import AdapterWeights, InPlaceWeights
from rft.sampling.vllm_settings import engine_arguments, inspect_here, set_environment
from rft.sampling.worker_deaths import exit_with_workers
from rft.types import Adapter, FullWeights, Logprobs, Policy, Rollout, StopReason, TopTokens

CANARY_PRIORITY = -1
"""Priority of canaries in vLLM's queue, before completions (0 and above): no sync waits for requests to start."""


@dataclass(frozen=True, slots=True)
class Held:
    """One policy in the engine."""

    policy: Policy
    lora_request: Any
    """vLLM's request of the adapter; None for the weights of the model itself."""
    salt: str
    """Salt that separates the prefix caches of policies."""
    run: int = ANY_RUN
    """The run of the policy."""


class VllmEngine:
    """One vLLM engine with its loaded policies.

    Args:
        spec: Spec of the engine; its sampler is a `VllmSamplerConfig`.
    """

    def __init__(self, spec: EngineSpec) -> None:
        place = spec.place
        if not place.on_gpu and vllm_needs_gpu():
            raise SampleError("the vLLM on this node is the build for GPUs, and this sampler has none")
        assert isinstance(spec.sampler, VllmSamplerConfig)
        set_environment(place.on_gpu, has_cache_size="kv_cache_memory_bytes" in spec.sampler.engine)
        with large_imports():
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine

            if not place.on_gpu:
                from rft.sampling.grouped_lora import use_grouped_lora

                use_grouped_lora()
                inspect_here(place.model)
        base = BaseWeights(place.model)
        arguments = EngineArgs(**engine_arguments(spec, base))
        if place.on_gpu and (place.shares_gpu or spec.num_runs > 1):
            wait_for_room(arguments.gpu_memory_utilization)  # an engine or a learner may just have been killed
        self._engine = LLMEngine.from_engine_args(arguments)
        if arguments.distributed_executor_backend == "mp":
            exit_with_workers(self._engine.engine_core.engine_core.model_executor.workers)
        as_adapter = spec.serve == "adapter" and spec.max_lora_rank is not None
        self._weights = AdapterWeights(self._engine, spec) if as_adapter else InPlaceWeights(self._engine, spec)
        self._stops = model_stops(place.model, self._engine.get_tokenizer())
        self._staleness = spec.staleness if as_adapter else 0
        self._is_shared = spec.num_runs > 1
        self._numbers = count(1)
        self._held = [Held(spec.base, None, spec.base.name)]
        self._running: dict[str, tuple[int, Request, Held]] = {}
        self._ended: list[tuple[int, Rollout]] = []

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The loaded policies, the newest last."""
        return tuple(held.policy for held in self._held)

    def describe(self) -> dict[str, Any]:
        """Return the parts of vLLM that compute, and the sizes of its batches and cache."""
        config = self._engine.vllm_config
        return {
            "model_runner": "V2" if config.use_v2_model_runner else "V1",
            "async_scheduling": bool(config.scheduler_config.async_scheduling),
            "attention_backends": self._engine.collective_rpc("rft_attention_backends")[0],
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
            "block_size": config.cache_config.block_size,
            "num_cache_blocks": config.cache_config.num_gpu_blocks,
        }

    @property
    def loads_in_place(self) -> bool:
        """Whether loading overwrites the previous policy."""
        return isinstance(self._weights, InPlaceWeights)

    @property
    def has_unfinished(self) -> bool:
        """Whether `step` has work."""
        return bool(self._running or self._ended)

    def load(self, weights: Adapter | FullWeights, run: int = 0) -> Loaded:
        """Load this policy as the newest. Drop older policies of the run, except those in use and the last `staleness`.

        Every load has its own adapter name, id and salt, which excludes any reuse of an older load.

        Raises:
            SyncError: The engine cannot serve the weights, or too many policies are in flight.
        """
        number = next(self._numbers)
        self._drop_old(run, keep=self._staleness + 1)
        if self.loads_in_place:
            if self._running:
                raise SyncError(f"{len(self._running)} requests of an older policy are still in flight")
            self._held.clear()  # if this fails half-way, no policy is loaded, and all requests are refused
        lora_request, loaded = self._weights.load(weights, number, len(self._held))
        self._held.append(Held(weights.policy, lora_request, f"{weights.policy.name}-{number}", run))
        self._drop_old(run, keep=self._staleness + 1)
        return loaded

    def _drop_old(self, run: int, *, keep: int) -> None:
        in_use = {held.salt for _, _, held in self._running.values()}
        own = [held for held in self._held if held.run in (run, ANY_RUN)]
        for held in own[:-keep]:
            # Runs that share the engine but have not started yet still need the base model.
            if held.salt not in in_use and not (self._is_shared and held.run == ANY_RUN):
                self._drop(held)

    def _drop(self, held: Held) -> None:
        self._held.remove(held)
        self._weights.drop(held.lora_request)

    def sleep(self) -> None:
        """Copy the weights to main memory, and free them and the cache on the GPU.

        Raises:
            SampleError: Requests are unfinished.
        """
        if self._running:
            raise SampleError(f"{len(self._running)} requests are unfinished, so this sampler cannot sleep")
        self._engine.sleep(level=1)

    def wake(self) -> None:
        """Copy the weights back; vLLM has emptied the prefix cache."""
        self._engine.wake_up()

    def forget(self, run: int) -> None:
        """Drop all policies and requests of a run."""
        ended = {stream for stream, _, held in self._running.values() if held.run == run}
        for stream in ended:
            self.abort(stream)
        for held in [held for held in self._held if held.run == run]:
            self._drop(held)

    def add(
        self, stream: int, requests: Sequence[Request], options: SamplingOptions, policy: Policy, run: int = 0
    ) -> None:
        """Add requests.

        Raises:
            SyncError: The engine does not have the policy.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        own = [held for held in self._held if held.run in (run, ANY_RUN) and held.policy == policy]
        if not own:
            raise not_held(policy, self.policies)
        held = own[-1]
        stops = self._stops.adding(options.stop, self._engine.get_tokenizer())
        for place, request in enumerate(requests):
            params = SamplingParams(
                temperature=options.temperature,
                max_tokens=options.max_completion_tokens,
                stop=list(stops.strings),
                stop_token_ids=sorted(stops.ids),
                logprobs=0,
                seed=request.seed,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            # The more requests of a stream have started, the longer its next one waits, so that no run delays others.
            key = self._submit(request.prompt_ids, params, held, priority=place if self._is_shared else 0)
            self._running[key] = (stream, request, held)

    def step(self) -> list[tuple[int, Rollout]]:
        """Compute one token of every request.

        Raises:
            SampleError: vLLM returned a completion without log-probabilities.
        """
        if self._running:
            self._advance()
        ended, self._ended = self._ended, []
        return ended

    def abort(self, stream: int) -> None:
        """Drop the unfinished requests of a stream."""
        keys = [key for key, (of, _, _) in self._running.items() if of == stream]
        self._engine.abort_request(keys)
        for key in keys:
            del self._running[key]

    def score(self, sequences: Sequence[Sequence[int]]) -> Scores:
        """Score sequences under the newest policy, while other requests continue.

        First requests the last token of the first sequence through the prefix cache, as sampling would. Then scores all
        sequences anew. This fills the cache, so that the next sync detects a wrong reuse.
        """
        from vllm import SamplingParams

        params = {"temperature": 1.0, "max_tokens": 1, "detokenize": False}
        probes = [
            self._submit(
                ids[:-1], SamplingParams(**params, logprob_token_ids=[ids[-1]]), self._held[-1], CANARY_PRIORITY
            )
            for ids in sequences[:1]
        ]
        fresh = self._submit_whole(sequences)
        outputs = self._until_done([*probes, *fresh])
        last = [
            outputs[key].outputs[0].logprobs[0][ids[-1]].logprob for key, ids in zip(probes, sequences[:1], strict=True)
        ]
        logprobs = _prompt_logprobs([outputs[key] for key in fresh], sequences)
        reused = outputs[probes[0]].num_cached_tokens or 0 if probes else 0
        return Scores(logprobs=logprobs, last=tuple(last), reused_tokens=reused)

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> Logprobs:
        """Return the log-probabilities of sequences under the newest policy, computed without the prefix cache."""
        fresh = self._submit_whole(sequences)
        outputs = self._until_done(fresh)
        return _prompt_logprobs([outputs[key] for key in fresh], sequences)

    def top_logprobs(self, sequences: Sequence[Sequence[int]], request: TopRequest) -> Tops:
        """Return the same log-probabilities, and the most probable tokens at each position."""
        k = min(request.k, self._engine.vllm_config.model_config.get_vocab_size())
        fresh = self._submit_whole(sequences, k=k)
        outputs = self._until_done(fresh)
        answers = [_flat(outputs[key].prompt_logprobs, k) for key in fresh]
        tops = [_top(*answer, start) for answer, start in zip(answers, request.starts, strict=True)]
        return tuple(tuple(logprobs[:, 0].tolist()) for _, logprobs in answers), tuple(tops)

    def _submit_whole(self, sequences: Sequence[Sequence[int]], *, k: int = 0) -> list[str]:
        """Request the log-probabilities of all tokens of sequences; vLLM then computes them anew.

        With k, request those of the k most probable tokens, too, as flat lists, which have no object for each of them.
        """
        from vllm import SamplingParams

        options = {"temperature": 1.0, "max_tokens": 1, "detokenize": False, "prompt_logprobs": k}
        options["flat_logprobs"] = k > 0
        return [self._submit(ids, SamplingParams(**options), self._held[-1], CANARY_PRIORITY) for ids in sequences]

    def _until_done(self, keys: Collection[str]) -> dict[str, Any]:
        """Step vLLM until these requests have ended; return their outputs."""
        outputs: dict[str, Any] = {}
        while not outputs.keys() >= set(keys):
            outputs |= self._advance()
        return outputs

    def _submit(self, prompt_ids: Sequence[int], params: Any, held: Held, priority: int = 0) -> str:
        number = next(self._numbers)
        prompt = {"prompt_token_ids": list(prompt_ids), "cache_salt": held.salt}
        self._engine.add_request(
            str(number),
            prompt,
            params,
            # Orders requests of equal priority; vLLM's own value is the clock, which may be set back.
            arrival_time=float(number),
            lora_request=held.lora_request,
            priority=priority,
        )
        return str(number)

    def _advance(self) -> dict[str, Any]:
        """Step vLLM; keep finished rollouts, and return the other outputs."""
        others = {}
        for output in self._engine.step():
            if output.finished and output.request_id in self._running:
                stream, request, held = self._running.pop(output.request_id)
                self._ended.append((stream, _rollout(request, held.policy, output)))
            elif output.finished:
                others[output.request_id] = output
        return others


def _prompt_logprobs(outputs: Sequence[Any], sequences: Sequence[Sequence[int]]) -> Logprobs:
    """Return `[N][L - 1]` log-probabilities of the tokens after the first from the outputs of N prompts."""
    return tuple(
        tuple(entry[token].logprob for entry, token in zip(output.prompt_logprobs[1:], ids[1:], strict=True))
        for output, ids in zip(outputs, sequences, strict=True)
    )


def _flat(prompt_logprobs: Any, k: int) -> tuple[Any, Any]:
    """Return `[L - 1, 1 + k]` token ids and log-probabilities: at each position its own token, then the top k."""
    ids, logprobs = (np.array(prompt_logprobs.token_ids, np.int32), np.array(prompt_logprobs.logprobs, np.float32))
    return ids.reshape(-1, 1 + k), logprobs.reshape(-1, 1 + k)


def _top(ids: Any, logprobs: Any, start: int) -> TopTokens:
    """Return the most probable tokens from a position on, from the arrays of `_flat`."""
    top = (array(code, part[start - 1 :, 1:].tobytes()) for code, part in (("i", ids), ("f", logprobs)))
    return TopTokens(ids.shape[1] - 1, *top)


def _rollout(request: Request, policy: Policy, output: Any) -> Rollout:
    completion = output.outputs[0]
    if completion.logprobs is None:
        raise SampleError(f"vLLM returned no log-probabilities for task {request.task_id}")
    ids = tuple(completion.token_ids)
    return Rollout(
        task_id=request.task_id,
        index=request.index,
        prompt_ids=request.prompt_ids,
        completion_ids=ids,
        logprobs=tuple(entry[token].logprob for entry, token in zip(completion.logprobs, ids, strict=True)),
        text=completion.text,
        stop=StopReason(completion.finish_reason),
        policy=policy,
    )
