"""Sampling with `generate` of Transformers, for machines where vLLM cannot be installed.

It samples batch by batch, so completions leave together; everything else is as with vLLM.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from rft.sampling.engine import Request, SamplingOptions
from rft.sampling.spec import EngineSpec
from rft.types import Adapter, Policy, Rollout, StopReason


class TransformersEngine:
    """One model in Transformers and the adapter it serves.

    Args:
        spec: What to build; `spec.options` holds `completions_per_batch`.
    """

    def __init__(self, spec: EngineSpec) -> None:
        torch.set_num_threads(spec.num_threads)
        self._device = "cuda" if spec.on_gpu else "cpu"
        model = AutoModelForCausalLM.from_pretrained(spec.model, dtype=getattr(torch, spec.dtype))
        self._model: Any = model.to(self._device).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(spec.model)
        self._policy = spec.base
        self._completions_per_batch: int = spec.options["completions_per_batch"]

    @property
    def policy(self) -> Policy:
        """The policy that is served."""
        return self._policy

    def load(self, adapter: Adapter) -> Policy:
        """Serve this adapter from the next request on; the one before is removed."""
        name = adapter.policy.name.replace(".", "_")
        with tempfile.TemporaryDirectory(prefix="rft-adapter-") as folder:
            (Path(folder) / "adapter_config.json").write_text(json.dumps(adapter.config))
            (Path(folder) / "adapter_model.safetensors").write_bytes(adapter.tensors)
            if isinstance(self._model, PeftModel):
                previous = self._model.active_adapter
                self._model.load_adapter(folder, adapter_name=name)
                self._model.set_adapter(name)
                if previous != name:
                    self._model.delete_adapter(previous)
            else:
                self._model = PeftModel.from_pretrained(self._model, folder, adapter_name=name)
        self._model.eval()
        self._policy = adapter.policy
        return self._policy

    def sample(self, requests: Sequence[Request], options: SamplingOptions) -> Iterator[list[Rollout]]:
        """Sample every request; yield them batch by batch."""
        for start in range(0, len(requests), self._completions_per_batch):
            yield self._batch(requests[start : start + self._completions_per_batch], options)

    @torch.inference_mode()
    def _batch(self, requests: Sequence[Request], options: SamplingOptions) -> list[Rollout]:
        # One generator serves the batch, so a completion here depends on its neighbours, unlike with vLLM.
        torch.manual_seed(requests[0].seed)
        longest = max(len(request.prompt_ids) for request in requests)
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else 0
        rows = [[pad] * (longest - len(request.prompt_ids)) + list(request.prompt_ids) for request in requests]
        mask = [[0] * (longest - len(request.prompt_ids)) + [1] * len(request.prompt_ids) for request in requests]
        sampled = {"do_sample": True, "temperature": options.temperature, "top_k": 0, "top_p": 1.0}
        output = self._model.generate(
            input_ids=torch.tensor(rows, device=self._device),
            attention_mask=torch.tensor(mask, device=self._device),
            max_new_tokens=options.max_completion_tokens,
            pad_token_id=pad,
            return_dict_in_generate=True,
            output_scores=True,
            **(sampled if options.temperature > 0 else {"do_sample": False}),
        )
        logprobs = self._model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
        completions = output.sequences[:, longest:]
        return [
            self._rollout(request, ids.tolist(), row.tolist())
            for request, ids, row in zip(requests, completions, logprobs, strict=True)
        ]

    def _rollout(self, request: Request, ids: list[int], logprobs: list[float]) -> Rollout:
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        length = next((position + 1 for position, token in enumerate(ids) if token in ends), len(ids))
        stopped = ids[length - 1] in ends
        return Rollout(
            task_id=request.task_id,
            index=request.index,
            prompt_ids=request.prompt_ids,
            completion_ids=tuple(ids[:length]),
            logprobs=tuple(logprobs[:length]),
            text=self._tokenizer.decode(ids[:length], skip_special_tokens=True),
            stop=StopReason.STOP if stopped else StopReason.LENGTH,
            policy=self._policy,
        )
