"""SGLang's native HTTP API: completions of token ids, log-probabilities, and adapters loaded at run time.

Written from SGLang's documentation (docs.sglang.io: native API, sampling parameters, LoRA serving) and the records that
it refers to (`GenerateReqInput` and `LoRAUpdateOutput` in `sglang/srt/managers/io_struct.py`). It was never tried
against a real SGLang.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openai

from rft.config.samplers.remote import RemoteSamplerConfig
from rft.errors import SampleError, SyncError
from rft.sampling.server_client import (
    MALFORMED,
    NO_LOGPROBS,
    SEES_FOLDER,
    Completion,
    Connection,
    SampleRequest,
    ServedModel,
)
from rft.types import StopReason

NEUTRAL = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""The whole distribution. Parameters that a request leaves out come from the model's generation_config.json."""
OUTPUT_ONLY = -1
"""`logprob_start_len` that returns the log-probabilities of the completion alone."""


class SglangClient:
    """A client of one SGLang server; implements `ServerClient`.

    Args:
        sampler: Address, key and timeouts.

    Raises:
        SampleError: The environment variable with the key is not set.
    """

    longer_context = "--context-length {}"
    scaled_logprobs = "start it without SGLANG_RETURN_ORIGINAL_LOGPROB"

    def __init__(self, sampler: RemoteSamplerConfig) -> None:
        self._connection = Connection(sampler)
        self._base_name = ""

    async def base_model(self, *, max_lora_rank: int | None) -> ServedModel:
        """Request the base model, and check the server's options.

        Raises:
            SampleError: The server cannot be reached, or lacks options that rft requires.
        """
        try:
            info = await self._connection.get_json("/server_info")
            self._base_name = info["model_path"]
            missing = _missing_options(info, max_lora_rank)
        except (openai.OpenAIError, *MALFORMED) as error:
            remedy = "sampler.url is the address of SGLang's native API, without /v1"
            raise self._connection.failure("it does not report its options", error, remedy=remedy) from error
        if missing:
            raise SampleError(f"the server at {self._connection.url}: start it with {' '.join(missing)}")
        return ServedModel(name=self._base_name, max_context_tokens=info.get("context_length"))

    async def sample(self, request: SampleRequest) -> Completion:
        """Sample one completion."""
        reply = await self._generate(
            request.model,
            request.prompt_ids,
            request.salt,
            {
                "sampling_seed": request.seed,
                "temperature": request.temperature,
                "max_new_tokens": request.max_completion_tokens,
                "stop": list(request.stops.strings),
                "stop_token_ids": sorted(request.stops.ids),
            },
        )
        rows = reply["meta_info"]["output_token_logprobs"]
        token_ids = tuple(reply["output_ids"])
        if token_ids != tuple(token for _, token, *_ in rows):
            raise ValueError("output_token_logprobs and output_ids contain different tokens")
        return Completion(
            token_ids=token_ids,
            logprobs=tuple(logprob for logprob, *_ in rows),
            text=reply["text"],
            stop=StopReason(reply["meta_info"]["finish_reason"]["type"]),
        )

    async def score(self, model: str, ids: Sequence[int], salt: str) -> tuple[float, ...]:
        """Compute the log-probabilities of a sequence anew: from `logprob_start_len` on, SGLang uses no cache."""
        reply = await self._generate(model, ids, salt, {"max_new_tokens": 1, "temperature": 1.0}, logprob_start_len=0)
        try:
            rows = reply["meta_info"]["input_token_logprobs"]
            if [token for _, token, *_ in rows] != list(ids):
                raise ValueError("their tokens differ from the prompt's")
            return tuple(float(logprob) for logprob, *_ in rows[1:])  # the first token has no log-probability
        except MALFORMED as error:
            raise self._connection.failure(f"{NO_LOGPROBS} (input_token_logprobs)", error) from error

    async def score_last(self, model: str, ids: Sequence[int], salt: str) -> tuple[float, int | None]:
        """Compute the log-probability of a sequence's last token through the prefix cache."""
        parameters = {"max_new_tokens": 1, "temperature": 1.0}
        reply = await self._generate(model, ids[:-1], salt, parameters, token_ids_logprob=[ids[-1]])
        info = reply["meta_info"]
        try:
            [[logprob, *_]] = info["output_token_ids_logprobs"][0]
            return float(logprob), info.get("cached_tokens")
        except MALFORMED as error:
            raise self._connection.failure(_lacks("output_token_ids_logprobs", info), error) from error

    async def top_gap(self, model: str, ids: Sequence[int], salt: str, temperature: float) -> float:
        """Return the difference between the log-probabilities of the two most likely next tokens."""
        parameters = {"max_new_tokens": 1, "temperature": temperature}
        reply = await self._generate(model, ids, salt, parameters, top_logprobs_num=2)
        info = reply["meta_info"]
        try:
            best, second = sorted((row[0] for row in info["output_top_logprobs"][0]), reverse=True)
            return float(best - second)
        except MALFORMED as error:
            raise self._connection.failure(_lacks("output_top_logprobs", info), error) from error

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter into the server."""
        body = {"lora_name": name, "lora_path": str(folder)}
        try:
            await self._connection.post("/load_lora_adapter", body, max_retries=0)
        except openai.OpenAIError as error:
            remedy = f"{SEES_FOLDER}, and accept adapters up to its --max-lora-rank for its --lora-target-modules"
            failure = self._connection.failure(f"it did not load {folder}", error, remedy=remedy)
            raise SyncError(str(failure)) from error

    async def unload_adapter(self, name: str) -> None:
        """Unload an adapter from the server."""
        try:
            await self._connection.post("/unload_lora_adapter", {"lora_name": name})
        except openai.OpenAIError as error:
            raise SyncError(str(self._connection.failure(f"it did not unload {name}", error))) from error

    async def _generate(
        self,
        model: str,
        prompt_ids: Sequence[int],
        salt: str,
        sampling_params: dict[str, Any],
        *,
        logprob_start_len: int = OUTPUT_ONLY,
        **fields: Any,
    ) -> dict[str, Any]:
        """Sample one completion of token ids.

        Args:
            model: Name of the base model or of an adapter.
            prompt_ids: `[P]` token ids.
            salt: Separates the prefix caches of policies.
            sampling_params: SGLang's `SamplingParams`.
            logprob_start_len: The first token of the prompt whose log-probability SGLang returns.
            **fields: Further fields of SGLang's `GenerateReqInput`.

        Raises:
            SampleError: The server failed, or read another number of tokens.
        """
        body = {
            "input_ids": list(prompt_ids),
            "sampling_params": {**NEUTRAL, **sampling_params},
            "return_logprob": True,
            "logprob_start_len": logprob_start_len,
            "lora_path": None if model == self._base_name else model,  # the name under which it was loaded
            "cache_salt": salt,
            **fields,
        }
        try:
            reply: dict[str, Any] = await self._connection.post_json("/generate", body)
            num_read = reply["meta_info"]["prompt_tokens"]
        except (openai.OpenAIError, *MALFORMED) as error:
            raise self._connection.failure(f"no completion of {model}", error) from error
        if num_read != len(prompt_ids):
            raise SampleError(
                f"the server at {self._connection.url} read {num_read} tokens of a prompt of {len(prompt_ids)}"
            )
        return reply


def _lacks(name: str, info: dict[str, Any]) -> str:
    """Return the problem of a reply without usable log-probabilities under this name."""
    return f"its reply has no usable {name}; meta_info has the keys {', '.join(sorted(info))}"


def _missing_options(info: dict[str, Any], max_lora_rank: int | None) -> list[str]:
    """Return the required options that the server lacks."""
    missing = []
    if not info.get("enable_lora"):
        missing.append("--enable-lora")
    rank = info.get("max_lora_rank")
    if max_lora_rank is not None and (rank is None or rank < max_lora_rank):
        missing.append(f"--max-lora-rank {max_lora_rank}")
    if not info.get("lora_target_modules"):
        missing.append("--lora-target-modules all")
    if not info.get("enable_deterministic_inference"):
        missing.append("--enable-deterministic-inference")  # without it, SGLang ignores the seed of a completion
    return missing
