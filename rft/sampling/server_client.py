"""Clients of running servers: the protocol that each wire format implements, and the HTTP that all share."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import openai

from rft.config.samplers.remote import RemoteSamplerConfig
from rft.errors import SampleError, ServerLost
from rft.grading.clients.http import tls_context
from rft.redaction import hide
from rft.sampling.stops import Stops
from rft.types import StopReason

SEES_FOLDER = "the server must see this folder under the same path (sampler.adapter_folder), read it"
NO_LOGPROBS = "no log-probabilities of a prompt"
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""Errors from reading a reply that does not follow the server's protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """The base model that a server serves.

    Example:
        ServedModel(name="Qwen/Qwen2.5-0.5B-Instruct", max_context_tokens=32768)
    """

    name: str
    """Name of the model in requests."""
    max_context_tokens: int | None
    """Longest prompt and completion together; None if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """One completion to sample from the whole distribution.

    Example:
        SampleRequest(model="m", prompt_ids=(5, 9), salt="s", seed=17, temperature=1.0, max_completion_tokens=64,
            stops=Stops(ids=frozenset({2}), strings=()))
    """

    model: str
    """Name of the base model or of an adapter."""
    prompt_ids: tuple[int, ...]
    """`[P]` token ids."""
    salt: str
    """Separates the prefix caches of policies."""
    seed: int
    """Seed of this completion."""
    temperature: float
    """Sampling temperature; 0 selects the most likely token."""
    max_completion_tokens: int
    """Maximum length of the completion."""
    stops: Stops
    """The end conditions of the completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A sampled completion of C tokens."""

    token_ids: tuple[int, ...]
    """`[C]` token ids, the end token among them."""
    logprobs: tuple[float, ...]
    """`[C]` log-probabilities at the sampling temperature."""
    text: str
    """Text of the completion, without end token and stop string."""
    stop: StopReason
    """Reason for the end of the completion."""

    def __post_init__(self) -> None:
        if not all(type(token) is int for token in self.token_ids):
            raise TypeError("a token id is not an integer")
        if not all(isinstance(logprob, int | float) and math.isfinite(logprob) for logprob in self.logprobs):
            raise ValueError("a log-probability is not a finite number")
        if not isinstance(self.text, str):
            raise TypeError("the text is not a string")


class ServerClient(Protocol):
    """A client of one server. All its methods run in one event loop.

    Every method raises `SampleError` if the server fails or if a reply contradicts its request.
    """

    longer_context: str
    """The server's option for a longer context, with a placeholder for the number of tokens."""
    scaled_logprobs: str
    """How to start a server that returns log-probabilities at the sampling temperature."""

    async def base_model(self, *, max_lora_rank: int | None) -> ServedModel:
        """Request the base model, and check the options that the server reports.

        Args:
            max_lora_rank: The highest rank of later adapters; None if unknown.
        """

    async def sample(self, request: SampleRequest) -> Completion:
        """Sample one completion.

        Raises:
            LookupError, TypeError, ValueError, AttributeError, RecursionError: The reply lacks a part of the
                completion (`MALFORMED`).
        """

    async def score(self, model: str, ids: Sequence[int], salt: str) -> tuple[float, ...]:
        """Compute the log-probabilities of a sequence of L tokens at temperature 1 anew, without the prefix cache.

        Returns:
            `[L - 1]`, of every token but the first.
        """

    async def score_last(self, model: str, ids: Sequence[int], salt: str) -> tuple[float, int | None]:
        """Compute the log-probability of a sequence's last token as sampling would: through the prefix cache.

        Returns:
            The log-probability at temperature 1, and the number of tokens from the cache; None if unknown.
        """

    async def top_gap(self, model: str, ids: Sequence[int], salt: str, temperature: float) -> float:
        """Return the difference between the log-probabilities of the two most likely next tokens."""

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter into the server.

        Args:
            name: A name that was never used.
            folder: Folder with the adapter in PEFT's format, under the path that the server sees.

        Raises:
            SyncError: The server refused it.
        """

    async def unload_adapter(self, name: str) -> None:
        """Unload an adapter from the server.

        Raises:
            SyncError: The server failed.
        """


class Connection:
    """HTTP requests to one server, and errors that do not show its key.

    Args:
        sampler: Address, key and timeouts.

    Raises:
        SampleError: The environment variable with the key is not set.
    """

    def __init__(self, sampler: RemoteSamplerConfig) -> None:
        self.url = sampler.url
        self._key = os.environ.get(sampler.api_key_env, "").strip() if sampler.api_key_env else ""
        if sampler.api_key_env and not self._key:
            raise SampleError(f"sampler.api_key_env={sampler.api_key_env}: the environment variable is not set")
        self._client = openai.AsyncOpenAI(
            base_url=sampler.url,
            api_key=self._key or "none",  # without a key the library would send OPENAI_API_KEY
            max_retries=3,
            timeout=sampler.request_timeout_s,
            # A redirect would take the key elsewhere.
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False, verify=tls_context()),
        )

    async def get_json(self, path: str) -> Any:
        """Return the reply to a GET request.

        Raises:
            openai.OpenAIError: The server cannot be reached, or refuses.
            ValueError: The reply is not JSON.
        """
        return json.loads(await self._client.get(path, cast_to=str))

    async def post_json(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the reply to a POST request that may be repeated.

        Raises:
            openai.OpenAIError: The server cannot be reached, or refuses.
            ValueError: The reply is not JSON.
        """
        return json.loads(await self.post(path, body))

    async def post(self, path: str, body: Mapping[str, Any], *, max_retries: int = 3) -> str:
        """Return the text of the reply to a POST request.

        Raises:
            openai.OpenAIError: The server cannot be reached, or refuses.
        """
        return await self._client.with_options(max_retries=max_retries).post(path, cast_to=str, body=dict(body))

    def failure(self, problem: str, error: Exception, *, remedy: str = "") -> SampleError:
        """Return the error of a failed request; it does not contain the key.

        A server that cannot be reached, fails internally, or lacks an adapter that it has loaded is lost.
        """
        text = f"the server at {self.url} failed: {problem}: {type(error).__name__}: {error}"
        is_lost = isinstance(error, openai.APIConnectionError | openai.InternalServerError | openai.NotFoundError)
        kind = ServerLost if is_lost else SampleError
        return kind(hide(f"{text}; {remedy}" if remedy else text, [self._key] if self._key else []))
