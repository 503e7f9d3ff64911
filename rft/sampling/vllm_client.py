"""The HTTP API of a vLLM server: completions of token ids, log-probabilities, and adapters loaded at run time.

Fields beyond OpenAI's API are vLLM's own (`vllm/entrypoints/openai/completion/protocol.py` and `serve/lora/`, 0.32).
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
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""The whole distribution. Parameters that a request leaves out come from the model's generation_config.json."""
HOW_TO_START = "start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora"


class VllmClient:
    """A client of one vLLM server; implements `ServerClient`.

    Args:
        sampler: Address, key and timeouts.

    Raises:
        SampleError: The environment variable with the key is not set.
    """

    longer_context = "--max-model-len {}"
    scaled_logprobs = "start it with --logprobs-mode processed_logprobs"

    def __init__(self, sampler: RemoteSamplerConfig) -> None:
        self._connection = Connection(sampler)

    async def base_model(self, *, max_lora_rank: int | None) -> ServedModel:
        """Request the base model; vLLM reports no options.

        Raises:
            SampleError: The server cannot be reached, or serves no base model.
        """
        try:
            reply = await self._connection.get_json("/models")
            for model in reply.get("data", ()):
                if not model.get("parent"):  # an adapter names its base model here
                    return ServedModel(name=model["id"], max_context_tokens=model.get("max_model_len"))
        except (openai.OpenAIError, *MALFORMED) as error:
            raise self._connection.failure("it does not list its models", error) from error
        raise SampleError(f"the server at {self._connection.url} serves no base model")

    async def sample(self, request: SampleRequest) -> Completion:
        """Sample one completion."""
        choice = await self._complete(
            request.model,
            request.prompt_ids,
            request.salt,
            seed=request.seed,
            temperature=request.temperature,
            max_tokens=request.max_completion_tokens,
            stop=list(request.stops.strings),
            stop_token_ids=sorted(request.stops.ids),
            logprobs=0,
        )
        return Completion(
            token_ids=tuple(choice["token_ids"]),
            logprobs=tuple(choice["logprobs"]["token_logprobs"]),
            text=choice["text"],
            stop=StopReason(choice["finish_reason"]),
        )

    async def score(self, model: str, ids: Sequence[int], salt: str) -> tuple[float, ...]:
        """Compute the log-probabilities of a sequence anew: `prompt_logprobs` bypasses the prefix cache."""
        choice = await self._complete(model, ids, salt, max_tokens=1, temperature=1.0, prompt_logprobs=0)
        rows = choice.get("prompt_logprobs") or ()
        try:
            return tuple(float(row[str(token)]["logprob"]) for row, token in zip(rows[1:], ids[1:], strict=True))
        except MALFORMED as error:
            raise self._connection.failure(f"{NO_LOGPROBS} (prompt_logprobs)", error) from error

    async def score_last(self, model: str, ids: Sequence[int], salt: str) -> tuple[float, int | None]:
        """Compute the log-probability of a sequence's last token through the prefix cache."""
        options = {"logprobs": 1, "logprob_token_ids": [ids[-1]], "return_tokens_as_token_ids": True}
        choice = await self._complete(model, ids[:-1], salt, max_tokens=1, temperature=1.0, **options)
        try:
            logprob = float(choice["logprobs"]["top_logprobs"][0][f"token_id:{ids[-1]}"])
            return logprob, (choice["usage"].get("prompt_tokens_details") or {}).get("cached_tokens")
        except MALFORMED as error:
            raise self._connection.failure(f"{NO_LOGPROBS} (top_logprobs)", error) from error

    async def top_gap(self, model: str, ids: Sequence[int], salt: str, temperature: float) -> float:
        """Return the difference between the log-probabilities of the two most likely next tokens."""
        choice = await self._complete(model, ids, salt, max_tokens=1, temperature=temperature, logprobs=2)
        try:
            best, second = sorted(choice["logprobs"]["top_logprobs"][0].values(), reverse=True)[:2]
            return float(best - second)
        except MALFORMED as error:
            raise self._connection.failure(f"{NO_LOGPROBS} (top_logprobs)", error) from error

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter into the server."""
        body = {"lora_name": name, "lora_path": str(folder)}
        try:
            await self._connection.post("/load_lora_adapter", body, max_retries=0)
        except openai.OpenAIError as error:
            failure = self._connection.failure(f"it did not load {folder}", error, remedy=_remedy(error))
            raise SyncError(str(failure)) from error

    async def unload_adapter(self, name: str) -> None:
        """Unload an adapter from the server."""
        try:
            await self._connection.post("/unload_lora_adapter", {"lora_name": name})
        except openai.OpenAIError as error:
            raise SyncError(str(self._connection.failure(f"it did not unload {name}", error))) from error

    async def _complete(self, model: str, prompt_ids: Sequence[int], salt: str, **parameters: Any) -> dict[str, Any]:
        """Sample one completion of token ids; return the reply's only choice with the reply's `usage`.

        Args:
            model: Name of the base model or of an adapter.
            prompt_ids: `[P]` token ids.
            salt: Separates the prefix caches; vLLM allows no slash in it.
            **parameters: vLLM's `CompletionRequest`.

        Raises:
            SampleError: The server failed, sampled another model, or read other token ids.
        """
        body = {
            "model": model,
            "prompt": list(prompt_ids),
            "cache_salt": salt,
            "return_token_ids": True,
            **NEUTRAL,
            **parameters,
        }
        try:
            reply = await self._connection.post_json("/completions", body)
            [choice] = reply["choices"]
            sampled, read_ids = reply.get("model"), choice.get("prompt_token_ids")
        except (openai.OpenAIError, *MALFORMED) as error:
            raise self._connection.failure(f"no completion of {model}", error) from error
        url = self._connection.url
        if sampled != model:
            raise SampleError(f"the server at {url} sampled {sampled}, not {model}")
        if read_ids != list(prompt_ids):
            raise SampleError(
                f"the server at {url} did not return the token ids of the prompt that it read (return_token_ids); rft "
                "needs vLLM 0.32 or later"
            )
        return {**choice, "usage": reply.get("usage") or {}}


def _remedy(error: openai.OpenAIError) -> str:
    """Return the likely remedy for an adapter that the server did not load."""
    if isinstance(error, openai.NotFoundError) and "adapter" not in str(error).lower():
        return HOW_TO_START
    return f"{SEES_FOLDER}, and accept adapters up to its --max-lora-rank"
