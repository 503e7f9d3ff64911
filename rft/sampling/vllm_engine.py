"""A vLLM engine driven request by request, inside the calling process.

`LLM.generate` would hand back a whole batch at once; stepping the engine ourselves lets every completion leave the
moment it ends, so that it is graded while its neighbours are still being sampled.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rft.errors import SampleError
from rft.sampling.engine import Request, SamplingOptions
from rft.sampling.spec import EngineSpec
from rft.types import Adapter, Policy, Rollout, StopReason

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM allows for `max_lora_rank`."""


class VllmEngine:
    """One vLLM engine and the adapter it serves.

    Args:
        spec: What to build; `spec.options` are vLLM's own `EngineArgs` by name and win over what is set here.
    """

    def __init__(self, spec: EngineSpec) -> None:
        _set_environment(spec.on_gpu)
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        arguments: dict[str, Any] = {
            "model": str(spec.model),
            "dtype": spec.dtype,
            "seed": spec.seed,
            "max_model_len": spec.max_context_tokens,
            "enable_lora": True,
            "max_lora_rank": next(rank for rank in LORA_RANKS if rank >= spec.max_lora_rank),
            "max_loras": 2,
            "logprobs_mode": "processed_logprobs",
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
            **({} if spec.on_gpu else _cpu_arguments(spec.max_context_tokens)),
            **spec.options,
        }
        self._engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        self._policy = spec.base
        self._lora_request: Any = None
        self._folder = tempfile.TemporaryDirectory(prefix="rft-adapters-")

    @property
    def policy(self) -> Policy:
        """The policy that is served."""
        return self._policy

    def load(self, adapter: Adapter) -> Policy:
        """Serve this adapter from the next request on.

        Every version has its own name, id and path, so that nothing of an older one can be taken for it.

        Raises:
            SampleError: vLLM refused the adapter.
        """
        from vllm.lora.request import LoRARequest

        folder = Path(self._folder.name) / adapter.policy.name
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(adapter.config))
        (folder / "adapter_model.safetensors").write_bytes(adapter.tensors)
        request = LoRARequest(adapter.policy.name, adapter.policy.version, str(folder))
        if not self._engine.add_lora(request):
            raise SampleError(f"vLLM did not take adapter {adapter.policy.name}; its log says why")
        previous, self._lora_request, self._policy = self._lora_request, request, adapter.policy
        if previous is not None and previous.lora_int_id != request.lora_int_id:
            self._engine.remove_lora(previous.lora_int_id)
            shutil.rmtree(previous.lora_path)
        return self._policy

    def sample(self, requests: Sequence[Request], options: SamplingOptions) -> Iterator[list[Rollout]]:
        """Sample every request; yield completions as they end.

        Raises:
            SampleError: vLLM returned a completion without log-probabilities.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        pending: dict[str, Request] = {}
        for number, request in enumerate(requests):
            params = SamplingParams(
                temperature=options.temperature,
                max_tokens=options.max_completion_tokens,
                logprobs=0,
                seed=request.seed,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            # The salt keeps the prefix cache of one policy from being read by another.
            prompt = {"prompt_token_ids": list(request.prompt_ids), "cache_salt": self._policy.name}
            key = str(number)
            self._engine.add_request(key, prompt, params, lora_request=self._lora_request)
            pending[key] = request
        try:
            while pending:
                finished = [output for output in self._engine.step() if output.finished]
                if finished:
                    yield [self._rollout(pending.pop(output.request_id), output) for output in finished]
        finally:
            self._engine.abort_request(list(pending))

    def _rollout(self, request: Request, output: Any) -> Rollout:
        completion = output.outputs[0]
        if completion.logprobs is None:
            raise SampleError(f"vLLM returned no log-probabilities for task {request.task_id}")
        ids = tuple(completion.token_ids)
        logprobs = tuple(entry[token].logprob for entry, token in zip(completion.logprobs, ids, strict=True))
        return Rollout(
            task_id=request.task_id,
            index=request.index,
            prompt_ids=request.prompt_ids,
            completion_ids=ids,
            logprobs=logprobs,
            text=completion.text,
            stop=StopReason(completion.finish_reason),
            policy=self._policy,
        )


def _cpu_arguments(max_context_tokens: int) -> dict[str, Any]:
    # A prompt prefilled in chunks rewinds its random generator, which vLLM cannot do on a CPU ("CPU Generator does not
    # use offset"); so prompts are prefilled whole.
    return {
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(2048, max_context_tokens),
        # The smallest that the attention kernel takes: only whole blocks of a prompt are computed once for its group.
        "block_size": 32,
    }


def _set_environment(on_gpu: bool) -> None:
    """Set what vLLM reads when it is imported; what the user has set stands."""
    defaults = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    if not on_gpu:
        # Threads bound to cores stand still whenever another process has the core: the learner, or a second engine.
        # Compiling costs 3 s and a C++ compiler, to gather log-probabilities a little faster.
        defaults |= {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "TORCHDYNAMO_DISABLE": "1",
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # What vLLM says while it is being imported, before it has read its logging level.
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
    logging.getLogger("vllm").setLevel(logging.ERROR)
