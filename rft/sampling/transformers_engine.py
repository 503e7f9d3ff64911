"""Sampling with `generate` of Transformers, for machines where vLLM cannot be installed.

It samples batch by batch, so completions of a batch end together. Each completion has its own random numbers, as with
vLLM. Beyond vLLM, its log-probabilities are equal bit for bit in every batch of a call.
"""

from __future__ import annotations

import json
from array import array
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import safetensors.torch
import torch
from peft import PeftModel, get_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LogitsProcessorList, StoppingCriteria

from rft.config.samplers.transformers import TransformersSamplerConfig
from rft.errors import SampleError, SyncError
from rft.reliability.temporary import temporary_folder
from rft.sampling.draws import Draws
from rft.sampling.engine import (
    ANY_RUN,
    PROMPT_TOKENS_STEP,
    BatchShape,
    Loaded,
    Request,
    SamplingOptions,
    Scores,
    TopRequest,
    Tops,
    arrived,
    not_held,
)
from rft.sampling.full_weights import tensors_in
from rft.sampling.lora_modules import scaling_of, some, take_apart, unmatched_problem
from rft.sampling.spec import EngineSpec
from rft.sampling.stops import Stops, model_stops
from rft.types import Adapter, FullWeights, Logprobs, Policy, Rollout, StopReason, TopTokens

_Held = tuple[int, Policy]
"""A policy with its run."""
_Waiting = tuple[int, Request, SamplingOptions, _Held]


class TransformersEngine:
    """One model in Transformers with its loaded adapters.

    Args:
        spec: Spec of the engine; its sampler is a `TransformersSamplerConfig`.
    """

    def __init__(self, spec: EngineSpec) -> None:
        sampler, place = spec.sampler, spec.place
        assert isinstance(sampler, TransformersSamplerConfig)
        torch.set_num_threads(place.num_threads)
        self._device = "cuda" if place.on_gpu else "cpu"
        model = AutoModelForCausalLM.from_pretrained(place.model, dtype=getattr(torch, spec.dtype))
        # `generate` would use the model's own defaults, such as a repetition penalty, which the learner and
        # vLLM do not know.
        model.generation_config = GenerationConfig()
        # Frozen at once, not by PEFT with the first adapter: torch rounds otherwise for weights that need gradients.
        self._model: Any = model.to(self._device).eval().requires_grad_(False)
        self._tokenizer = AutoTokenizer.from_pretrained(place.model)
        self._stops = model_stops(place.model, self._tokenizer)
        self._in_place = spec.max_lora_rank is None
        self._staleness = spec.staleness
        self._is_shared = spec.num_runs > 1
        self._base = spec.base
        self._held: list[_Held] = [(ANY_RUN, spec.base)]
        self._completions_per_batch = sampler.completions_per_batch
        self._waiting: deque[_Waiting] = deque()

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The loaded policies, the newest last."""
        return tuple(policy for _, policy in self._held)

    def describe(self) -> dict[str, Any]:
        """Return the implementation of attention."""
        return {"attention_backend": self._model.config._attn_implementation}

    @property
    def loads_in_place(self) -> bool:
        """Whether policies are whole models, which overwrite each other."""
        return self._in_place

    @property
    def has_unfinished(self) -> bool:
        """Whether requests are waiting."""
        return bool(self._waiting)

    def load(self, weights: Adapter | FullWeights, run: int = 0) -> Loaded:
        """Load this policy as the newest. Drop older policies of the run, except those with requests and the last few.

        Raises:
            SyncError: The policy is a whole model but the engine serves adapters, or the reverse.
        """
        if isinstance(weights, FullWeights) != self._in_place:
            kinds = ("a whole model", "an adapter")
            received, expected = kinds if isinstance(weights, FullWeights) else reversed(kinds)
            raise SyncError(f"{weights.policy.name} is {received}, but this sampler was built to serve {expected}")
        if isinstance(weights, FullWeights):
            return self._overwrite(weights)
        new = (run, weights.policy)
        if new in self._held:
            self._remove(new)
        in_use = {held for _, _, _, held in self._waiting}
        own = [held for held in self._held if held[0] in (run, ANY_RUN)]
        for held in own[: len(own) - self._staleness]:
            if held not in in_use and not (self._is_shared and held[0] == ANY_RUN):
                self._remove(held)
        self._insert(weights, _name(new))
        self._held.append(new)
        return self._read_back(weights, _name(new))

    def sleep(self) -> None:
        """Refuse: only vLLM's engines sleep."""
        raise SampleError("this sampler cannot free its memory")

    def wake(self) -> None:
        """Do nothing."""

    def forget(self, run: int) -> None:
        """Drop all policies and requests of a run."""
        self._waiting = deque(waiting for waiting in self._waiting if waiting[3][0] != run)
        for held in [held for held in self._held if held[0] == run]:
            self._remove(held)

    def _insert(self, adapter: Adapter, name: str) -> None:
        with temporary_folder("adapter") as folder:
            (folder / "adapter_config.json").write_text(json.dumps(adapter.config))
            (folder / "adapter_model.safetensors").write_bytes(adapter.tensors)
            if isinstance(self._model, PeftModel):
                self._model.load_adapter(str(folder), adapter_name=name)
            else:
                self._model = PeftModel.from_pretrained(self._model, str(folder), adapter_name=name)
        self._model.eval()

    def _remove(self, held: _Held) -> None:
        self._held.remove(held)
        if held[1] == self._base:
            return
        self._model.delete_adapter(_name(held))
        if not self._model.peft_config:  # PEFT cannot disable adapters if there is none
            self._model = self._model.unload()

    def _read_back(self, adapter: Adapter, name: str) -> Loaded:
        there = get_peft_model_state_dict(self._model, adapter_name=name)
        shipped = safetensors.torch.load(adapter.tensors)
        modules = take_apart(adapter).updates
        absent = sorted({key for key in shipped if key not in there})
        different = [key for key in shipped if key in there and not torch.equal(there[key].cpu(), shipped[key])]
        layers = {key: layer for key, layer in self._model.base_model.model.named_modules() if key in modules}
        different += [key for key, layer in layers.items() if layer.scaling[name] != scaling_of(adapter.config, key)]
        problems = unmatched_problem(absent, len(layers))
        if different:
            problems += (f"the weights or their scaling differ from the published ones in {some(sorted(different))}",)
        return Loaded(policy=arrived(adapter), modules_matched=len(layers), problems=problems)

    def _overwrite(self, weights: FullWeights) -> Loaded:
        self._held.clear()  # if this fails half-way, no policy is loaded, and all requests are refused
        tensors = tensors_in(weights.tensors)
        there = self._model.state_dict()
        absent = sorted(tensors.keys() - there.keys())
        self._model.load_state_dict(tensors, strict=False)
        self._held.append((ANY_RUN, weights.policy))
        matched = len(tensors) - len(absent)
        return Loaded(policy=arrived(weights), modules_matched=matched, problems=unmatched_problem(absent, matched))

    def add(
        self, stream: int, requests: Sequence[Request], options: SamplingOptions, policy: Policy, run: int = 0
    ) -> None:
        """Add requests.

        Raises:
            SyncError: The engine does not have the policy.
        """
        held = next((held for held in ((run, policy), (ANY_RUN, policy)) if held in self._held), None)
        if held is None:
            raise not_held(policy, self.policies)
        self._waiting += [(stream, request, options, held) for request in requests]

    def step(self) -> list[tuple[int, Rollout]]:
        """Sample one batch: requests of one stream, in order. Runs that share the engine take turns."""
        if not self._waiting:
            return []
        batch: list[_Waiting] = []
        max_completions = self._num_rows(self._waiting[0][2])
        while self._waiting and len(batch) < max_completions:
            if batch and _kind(self._waiting[0]) != _kind(batch[0]):
                break
            batch.append(self._waiting.popleft())
        stream, _, options, held = batch[0]
        others = [place for place, waiting in enumerate(self._waiting) if waiting[0] != stream]
        if self._is_shared and others:
            self._waiting.rotate(-others[0])
        return [(stream, rollout) for rollout in self._sample([request for _, request, _, _ in batch], options, held)]

    def abort(self, stream: int) -> None:
        """Drop the waiting requests of a stream."""
        self._waiting = deque(waiting for waiting in self._waiting if waiting[0] != stream)

    def score(self, sequences: Sequence[Sequence[int]]) -> Scores:
        """Score sequences under the newest policy. There is no prefix cache."""
        rows = self.logprobs(sequences)
        return Scores(logprobs=rows, last=tuple(row[-1] for row in rows[:1]), reused_tokens=0)

    @torch.inference_mode()
    def logprobs(self, sequences: Sequence[Sequence[int]]) -> Logprobs:
        """Return the log-probabilities of sequences under the newest policy, one sequence after another."""
        with self._under(self._held[-1]):
            return tuple(_of_tokens(self._distributions(ids), ids) for ids in sequences)

    @torch.inference_mode()
    def top_logprobs(self, sequences: Sequence[Sequence[int]], request: TopRequest) -> Tops:
        """Return the same scores, and the most probable tokens at each position."""
        rows, tops = [], []
        with self._under(self._held[-1]):
            for ids, start in zip(sequences, request.starts, strict=True):
                logprobs = self._distributions(ids)
                rows.append(_of_tokens(logprobs, ids))
                tops.append(_top(logprobs[start - 1 :], request.k))
        return tuple(rows), tuple(tops)

    def _distributions(self, ids: Sequence[int]) -> torch.Tensor:
        """Return `[L - 1, V]` log-probabilities of the active policy at each token of a sequence but the first."""
        logits = self._model(torch.tensor([list(ids)], device=self._device)).logits
        return torch.log_softmax(logits[0, :-1].float(), dim=-1)

    def _under(self, held: _Held) -> AbstractContextManager[None]:
        """Activate this policy in the model."""
        if not isinstance(self._model, PeftModel):
            return nullcontext()
        if held[1] == self._base:
            disabled: AbstractContextManager[None] = self._model.disable_adapter()
            return disabled
        self._model.set_adapter(_name(held))
        return nullcontext()

    @torch.inference_mode()
    def _sample(self, requests: Sequence[Request], options: SamplingOptions, held: _Held) -> list[Rollout]:
        longest, num_rows = max(len(request.prompt_ids) for request in requests), len(requests)
        if options.shape is not None:
            # Rounding depends on a batch's shape, and with it the log-probabilities. So the shape depends on the call
            # alone: copies fill up the rows. One more column pads every prompt: Transformers computes batches without
            # padding differently.
            longest, num_rows = _width(requests[0], options.shape) + 1, self._num_rows(options)
        filled = [*requests, *[requests[-1]] * (num_rows - len(requests))]
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else 0
        rows = [[pad] * (longest - len(request.prompt_ids)) + list(request.prompt_ids) for request in filled]
        mask = [[0] * (longest - len(request.prompt_ids)) + [1] * len(request.prompt_ids) for request in filled]
        stops = self._stops.adding(options.stop, self._tokenizer)
        draws = Draws([request.seed for request in filled], options, self._device)
        with self._under(held):
            output = self._model.generate(
                input_ids=torch.tensor(rows, device=self._device),
                attention_mask=torch.tensor(mask, device=self._device),
                max_new_tokens=options.max_completion_tokens,
                pad_token_id=pad,
                eos_token_id=sorted(stops.ids) or None,
                stopping_criteria=[_StopStrings(stops, self._tokenizer, longest)] if stops.strings else None,
                logits_processor=LogitsProcessorList([draws]),
                do_sample=False,
            )
        completions, logprobs = output[:, longest:].tolist(), draws.logprobs.tolist()
        return [
            self._rollout(request, held[1], stops, ids, row)
            for request, ids, row in zip(requests, completions, logprobs, strict=False)
        ]

    def _num_rows(self, options: SamplingOptions) -> int:
        """Return the largest number of completions in a batch."""
        if options.shape is None:
            return self._completions_per_batch
        return min(self._completions_per_batch, options.shape.num_completions)

    def _rollout(
        self, request: Request, policy: Policy, stops: Stops, ids: list[int], logprobs: list[float]
    ) -> Rollout:
        end = stops.length(ids, self._tokenizer)
        ids = ids[:end]
        # An end token is part of the completion, but not of its text.
        text_ids = ids[:-1] if ids[-1] in stops.ids else ids
        return Rollout(
            task_id=request.task_id,
            index=request.index,
            prompt_ids=request.prompt_ids,
            completion_ids=tuple(ids),
            logprobs=tuple(logprobs[:end]),
            text=stops.cut(self._tokenizer.decode(text_ids, skip_special_tokens=True)),
            stop=StopReason.LENGTH if end is None else StopReason.STOP,
            policy=policy,
        )


class _StopStrings(StoppingCriteria):  # type: ignore[misc]  # Transformers is not followed
    """Ends a completion with the token that completes a stop string; Transformers' criterion also checks the prompt."""

    def __init__(self, stops: Stops, tokenizer: Any, prompt_length: int) -> None:
        self._stops, self._tokenizer, self._prompt_length = stops, tokenizer, prompt_length
        # A character has up to 4 bytes, and each may be a token.
        self._window = 4 * max(map(len, stops.strings)) + 4

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """`[B]` whether each completion has just ended."""
        start = max(self._prompt_length, input_ids.shape[1] - self._window)
        texts = self._tokenizer.batch_decode(input_ids[:, start:], skip_special_tokens=True)
        return torch.tensor([self._stops.are_in(text) for text in texts], device=input_ids.device)


def _of_tokens(logprobs: torch.Tensor, ids: Sequence[int]) -> tuple[float, ...]:
    """Return the log-probabilities of a sequence's own tokens from `[L - 1, V]` ones of all tokens."""
    own = torch.tensor(list(ids[1:]), device=logprobs.device)
    return tuple(logprobs.gather(1, own[:, None])[:, 0].tolist())


def _top(logprobs: torch.Tensor, k: int) -> TopTokens:
    """Return the k most probable tokens at each of `[C, V]` positions."""
    values, ids = logprobs.topk(min(k, logprobs.shape[1]))
    return TopTokens(values.shape[1], array("i", ids.flatten().tolist()), array("f", values.flatten().tolist()))


def _kind(waiting: _Waiting) -> tuple[Any, ...]:
    """Return what the requests of a batch have in common: stream, policy, and the width of their prompts."""
    stream, request, options, held = waiting
    return stream, held, options.shape and _width(request, options.shape)


def _width(request: Request, shape: BatchShape) -> int:
    """Return the tokens of a prompt with its padding."""
    if shape.num_prompt_tokens is not None:
        return shape.num_prompt_tokens
    return -(-len(request.prompt_ids) // PROMPT_TOKENS_STEP) * PROMPT_TOKENS_STEP


def _name(held: _Held) -> str:
    """Return PEFT's name of a policy's adapter, without dots."""
    return f"{held[1].name}-{held[0]}".replace(".", "_")
