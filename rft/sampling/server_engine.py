"""Sampling with a running server: token ids in and out over HTTP, adapters that it loads from a shared folder.

The weights are in the server's memory, where nothing can be read back. The canaries' log-probabilities prove a policy,
as soon as it differs from the base model.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import queue
import shutil
import tempfile
import threading
import uuid
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from rft.config.samplers.remote import RemoteSamplerConfig
from rft.errors import SampleError, SyncError
from rft.models.base_model import load_tokenizer
from rft.sampling.engine import ANY_RUN, Loaded, Request, SamplingOptions, Scores, TopRequest, Tops, not_held
from rft.sampling.lora_modules import refuse, take_apart, unmatched_problem
from rft.sampling.merging import BaseWeights, touched, unmatched
from rft.sampling.server_client import MALFORMED, SampleRequest, ServerClient
from rft.sampling.spec import EngineSpec
from rft.sampling.stops import model_stops
from rft.types import Adapter, FullWeights, Logprobs, Policy, Rollout

STEP_S = 0.05
"""A step without a completion ends after this time, so that loads and aborts get their turn."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Held:
    """One policy that the server holds."""

    policy: Policy
    name: str
    """Name of the model in requests."""
    salt: str
    """Separates the prefix caches of policies; vLLM allows no slash in it, which names of base models have."""
    folder: Path | None = None
    """Folder of the adapter; None for the base model. It stays while the server may load it again."""
    run: int = ANY_RUN
    """The run of the policy."""


class ServerEngine:
    """A client of one server.

    Args:
        spec: What to serve; its sampler is a `RemoteSamplerConfig`.

    Raises:
        SampleError: The server cannot be reached, or does not fit the run.
    """

    def __init__(self, spec: EngineSpec) -> None:
        sampler = spec.sampler
        assert isinstance(sampler, RemoteSamplerConfig)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="server-client", daemon=True).start()
        self._client = _client(sampler)
        self._places = asyncio.Semaphore(sampler.max_concurrency)
        self._base = BaseWeights(spec.place.model)
        self._tokenizer = load_tokenizer(spec.place.model, None, needs_template=False)
        self._stops = model_stops(spec.place.model, self._tokenizer)
        self._staleness = spec.staleness
        self._is_shared = spec.num_runs > 1
        self._max_rank = spec.max_lora_rank
        self._prefix = f"rft-{uuid.uuid4().hex[:8]}"
        self._folder = Path(sampler.adapter_folder or tempfile.gettempdir()) / self._prefix
        self._numbers = count(1)
        self._running: dict[int, tuple[int, Held, Future[Rollout]]] = {}
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        served = self._wait(self._client.base_model(max_lora_rank=spec.max_lora_rank))
        if (served.max_context_tokens or spec.max_context_tokens) < spec.max_context_tokens:
            raise SampleError(
                f"the server takes {served.max_context_tokens} tokens of prompt and completion, the run needs "
                f"{spec.max_context_tokens}: start the server with "
                f"{self._client.longer_context.format(spec.max_context_tokens)}, or lower model.max_context_tokens"
            )
        self._held = [Held(spec.base, served.name, f"{self._prefix}-{spec.base.name}")]
        if sampler.temperature != 1.0 and spec.canaries:
            self._refuse_raw_logprobs(spec.canaries[0], sampler.temperature)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies that can be sampled, the newest last."""
        return tuple(held.policy for held in self._held)

    def describe(self) -> dict[str, Any]:
        """Return no facts: the server tells none."""
        return {}

    @property
    def loads_in_place(self) -> bool:
        """The server holds several adapters side by side."""
        return False

    @property
    def has_unfinished(self) -> bool:
        """Whether completions are to come."""
        return bool(self._running)

    def load(self, weights: Adapter | FullWeights, run: int = 0) -> Loaded:
        """Let the server load this policy under a new name. Older ones go, save those with requests and the last few.

        Raises:
            SyncError: It is a whole model, or the server does not load it.
        """
        if isinstance(weights, FullWeights):
            raise SyncError(f"{weights.policy.name} is a whole model, but a server serves adapters")
        refuse(weights, merged=False, max_rank=self._max_rank)
        name = f"{self._prefix}-{weights.policy.name}-{next(self._numbers)}"
        folder = self._folder / name
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text(json.dumps(weights.config))
        tensors = folder / "adapter_model.safetensors"
        tensors.write_bytes(weights.tensors)
        try:
            self._wait(self._client.load_adapter(name, folder))
        except SyncError:
            shutil.rmtree(folder)
            raise
        self._held.append(Held(weights.policy, name, name, folder, run))
        self._drop_old(run)
        parts = take_apart(weights)
        matched = len(touched(self._base, parts))
        written = hashlib.sha256(tensors.read_bytes()).hexdigest()[:16]
        return Loaded(
            policy=replace(weights.policy, fingerprint=written),
            modules_matched=matched,
            problems=unmatched_problem(unmatched(self._base, parts), matched),
            is_remote=True,
        )

    def _drop_old(self, run: int) -> None:
        in_use = {held for _, held, _ in self._running.values()}
        own = [held for held in self._held if held.run in (run, ANY_RUN)]
        for held in own[: -self._staleness - 1]:
            # The base model is still to come for runs that share the engine and have not begun.
            if held not in in_use and not (self._is_shared and held.run == ANY_RUN):
                self._drop(held)

    def _drop(self, held: Held) -> None:
        self._held.remove(held)
        if held.folder is not None:
            self._wait(self._client.unload_adapter(held.name))
            shutil.rmtree(held.folder)

    def sleep(self) -> None:
        """Refuse: only vLLM's engines sleep."""
        raise SampleError("this sampler cannot free its memory")

    def wake(self) -> None:
        """Do nothing."""

    def forget(self, run: int) -> None:
        """Let the server unload all policies of a run, and give up its requests."""
        for stream in {stream for stream, held, _ in self._running.values() if held.run == run}:
            self.abort(stream)
        for held in [held for held in self._held if held.run == run]:
            self._drop(held)

    def add(
        self, stream: int, requests: Sequence[Request], options: SamplingOptions, policy: Policy, run: int = 0
    ) -> None:
        """Send requests to the server, at most `sampler.max_concurrency` at a time.

        Raises:
            SyncError: The policy is not held.
        """
        own = [held for held in self._held if held.run in (run, ANY_RUN) and held.policy == policy]
        if not own:
            raise not_held(policy, self.policies)
        stops = self._stops.adding(options.stop, self._tokenizer)
        for request in requests:
            key = next(self._numbers)
            sample_request = SampleRequest(
                model=own[-1].name,
                prompt_ids=request.prompt_ids,
                salt=own[-1].salt,
                seed=request.seed,
                temperature=options.temperature,
                max_completion_tokens=options.max_completion_tokens,
                stops=stops,
            )
            future = asyncio.run_coroutine_threadsafe(self._sample(request, sample_request, own[-1].policy), self._loop)
            self._running[key] = (stream, own[-1], future)
            future.add_done_callback(lambda _, key=key: self._ended.put(key))  # type: ignore[misc]

    async def _sample(self, request: Request, sample_request: SampleRequest, policy: Policy) -> Rollout:
        try:
            async with self._places:
                completion = await self._client.sample(sample_request)
            return Rollout(
                task_id=request.task_id,
                index=request.index,
                prompt_ids=request.prompt_ids,
                completion_ids=completion.token_ids,
                logprobs=completion.logprobs,
                text=completion.text,
                stop=completion.stop,
                policy=policy,
            )
        except MALFORMED as error:
            raise SampleError(
                f"the server's completion of task {request.task_id} lacks token ids, log-probabilities or a reason for "
                f"its end: {type(error).__name__}: {error}"
            ) from error

    def step(self) -> list[tuple[int, Rollout]]:
        """Wait briefly for a completion; return all that have ended.

        Raises:
            SampleError: The server failed.
        """
        ended: list[tuple[int, Rollout]] = []
        keys: list[int] = []
        try:
            keys.append(self._ended.get(timeout=STEP_S))
            while True:
                keys.append(self._ended.get_nowait())
        except queue.Empty:
            pass
        for key in keys:
            if key in self._running:  # else it was given up
                stream, _, future = self._running.pop(key)
                ended.append((stream, future.result()))
        return ended

    def abort(self, stream: int) -> None:
        """Give up the unfinished requests of a stream: the server ends those whose connection closes."""
        for key in [key for key, (of, _, _) in self._running.items() if of == stream]:
            self._running.pop(key)[2].cancel()

    def score(self, sequences: Sequence[Sequence[int]]) -> Scores:
        """Score sequences under the newest policy, while other requests go on.

        The first request scores the first sequence's last token as sampling would: through the prefix cache.
        """
        return self._wait(self._scores(sequences, self._held[-1]))

    async def _scores(self, sequences: Sequence[Sequence[int]], held: Held) -> Scores:
        last: list[float] = []
        reused: int | None = 0
        for ids in sequences[:1]:
            logprob, reused = await self._client.score_last(held.name, ids, held.salt)
            last.append(logprob)
        rows = await self._logprobs(sequences, held)
        return Scores(logprobs=rows, last=tuple(last), reused_tokens=reused)

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> Logprobs:
        """Return the log-probabilities of sequences under the newest policy."""
        return self._wait(self._logprobs(sequences, self._held[-1]))

    def top_logprobs(self, sequences: Sequence[Sequence[int]], request: TopRequest) -> Tops:
        """Refuse: servers are no teachers."""
        raise SampleError("this sampler does not return the most probable tokens of a sequence")

    async def _logprobs(self, sequences: Sequence[Sequence[int]], held: Held) -> Logprobs:
        return tuple(await asyncio.gather(*(self._client.score(held.name, ids, held.salt) for ids in sequences)))

    def _refuse_raw_logprobs(self, ids: Sequence[int], temperature: float) -> None:
        """Refuse a server whose log-probabilities are not those at the sampling temperature.

        The gap between two tokens' log-probabilities is divided by the temperature; in raw ones it stays.
        """
        base = self._held[0]
        at_1, at_temperature = (
            self._wait(self._client.top_gap(base.name, ids, base.salt, each)) for each in (1.0, temperature)
        )
        if abs(at_temperature - at_1) < abs(at_temperature - at_1 / temperature):
            raise SampleError(
                f"sampler.temperature={temperature:g}: the server returns log-probabilities at temperature 1; "
                f"{self._client.scaled_logprobs}"
            )

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call in the client's event loop; the client's timeouts bound it."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()


def _client(sampler: RemoteSamplerConfig) -> ServerClient:
    """Return the client that speaks the server's protocol."""
    module, _, name = sampler.client_class.partition(":")
    client: ServerClient = getattr(importlib.import_module(module), name)(sampler)
    return client
