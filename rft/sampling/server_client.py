"""The HTTP API of a vLLM server: completions of token ids, log-probabilities, and adapters loaded at run time.

Fields beyond OpenAI's API are vLLM's own (`vllm/entrypoints/openai/completion/protocol.py` and `serve/lora/`, 0.32).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from rft.config.samplers.server import ServerSamplerConfig
from rft.errors import SampleError, SyncError
from rft.redaction import hide

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """The base model that a server serves.

    Example:
        ServedModel(name="Qwen/Qwen2.5-0.5B-Instruct", max_context_tokens=32768)
    """

    name: str
    """Name of the model in requests."""
    max_context_tokens: int | None
    """Longest prompt and completion together; None if the server does not say."""


class ServerClient:
    """A client of one server. All its methods run in one event loop.

    Args:
        sampler: Address, key and timeouts.

    Raises:
        SampleError: The environment variable with the key is not set.
    """

    def __init__(self, sampler: ServerSamplerConfig) -> None:
        self._url = sampler.url
        self._key = os.environ.get(sampler.api_key_env, "").strip() if sampler.api_key_env else ""
        if sampler.api_key_env and not self._key:
            raise SampleError(f"sampler.api_key_env={sampler.api_key_env}: the environment variable is not set")
        self._client = openai.AsyncOpenAI(
            base_url=sampler.url,
            api_key=self._key or "none",  # without a key the library would send OPENAI_API_KEY
            max_retries=3,
            timeout=sampler.request_timeout_s,
            # A redirect would take the key elsewhere.
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        )

    async def base_model(self) -> ServedModel:
        """Ask for the base model.

        Raises:
            SampleError: The server cannot be reached, or serves no base model.
        """
        try:
            listed = json.loads(await self._client.get("/models", cast_to=str))
        except (openai.OpenAIError, ValueError) as error:
            raise self._failure("it does not list its models", error) from error
        for model in listed.get("data", ()):
            if not model.get("parent"):  # an adapter names its base model here
                return ServedModel(name=model["id"], max_context_tokens=model.get("max_model_len"))
        raise SampleError(f"the server at {self._url} serves no base model")

    async def complete(self, model: str, prompt_ids: Sequence[int], **parameters: Any) -> dict[str, Any]:
        """Sample one completion of token ids; return the reply's only choice, with the reply's `usage` in it.

        Args:
            model: Name of the base model or of an adapter.
            prompt_ids: `[P]` token ids.
            **parameters: vLLM's `CompletionRequest`.

        Raises:
            SampleError: The server failed, sampled another model, or read other token ids.
        """
        body = {"model": model, "prompt": list(prompt_ids), "return_token_ids": True, **NEUTRAL, **parameters}
        try:
            reply = json.loads(await self._client.post("/completions", cast_to=str, body=body))
            [choice] = reply["choices"]
        except (openai.OpenAIError, ValueError, KeyError) as error:
            raise self._failure(f"no completion of {model}", error) from error
        if reply.get("model") != model:
            raise SampleError(f"the server at {self._url} sampled {reply.get('model')}, not {model}")
        if choice.get("prompt_token_ids") != list(prompt_ids):
            raise SampleError(
                f"the server at {self._url} did not return the token ids of the prompt that it read "
                "(return_token_ids); rft needs vLLM 0.32 or later"
            )
        return {**choice, "usage": reply.get("usage") or {}}

    async def score(self, model: str, ids: Sequence[int], **parameters: Any) -> tuple[float, ...]:
        """Compute the log-probabilities of a sequence anew, without the prefix cache.

        Returns:
            `[L - 1]`, of every token but the first.

        Raises:
            SampleError: As for `complete`.
        """
        choice = await self.complete(model, ids, max_tokens=1, temperature=1.0, prompt_logprobs=0, **parameters)
        rows: Sequence[Mapping[str, Any] | None] = choice.get("prompt_logprobs") or ()
        try:
            return tuple(row[str(token)]["logprob"] for row, token in zip(rows[1:], ids[1:], strict=True))  # type: ignore[index]
        except (KeyError, TypeError, ValueError) as error:
            raise self._failure("no log-probabilities of a prompt (prompt_logprobs)", error) from error

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Let the server load an adapter.

        Args:
            name: A name that was never used.
            folder: Folder with the adapter in PEFT's format, under the path that the server sees.

        Raises:
            SyncError: The server does not load it.
        """
        body = {"lora_name": name, "lora_path": str(folder)}
        try:
            await self._client.with_options(max_retries=0).post("/load_lora_adapter", cast_to=str, body=body)
        except openai.OpenAIError as error:
            failure = self._failure(f"it did not load {folder}", error, what_to_do=_remedy(error))
            raise SyncError(str(failure)) from error

    async def unload_adapter(self, name: str) -> None:
        """Let the server forget an adapter.

        Raises:
            SyncError: The server failed.
        """
        try:
            await self._client.post("/unload_lora_adapter", cast_to=str, body={"lora_name": name})
        except openai.OpenAIError as error:
            raise SyncError(str(self._failure(f"it did not unload {name}", error))) from error

    def _failure(self, what: str, error: Exception, *, what_to_do: str = "") -> SampleError:
        """The error that a call ends with; it holds no key."""
        text = f"the server at {self._url} failed: {what}: {type(error).__name__}: {error}" + (
            f"; {what_to_do}" if what_to_do else ""
        )
        return SampleError(hide(text, [self._key] if self._key else []))


def _remedy(error: openai.OpenAIError) -> str:
    """What to do about an adapter that was not loaded."""
    if isinstance(error, openai.NotFoundError) and "adapter" not in str(error).lower():
        return HOW_TO_START
    return (
        "the server must see this folder under the same path (sampler.adapter_folder), may read it, and takes adapters "
        "up to its --max-lora-rank"
    )
