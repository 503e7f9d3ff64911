"""A fake engine: it draws completions from a script, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rft.sampling.engine import Request, SamplingOptions
from rft.sampling.spec import EngineSpec
from rft.types import Adapter, Policy, Rollout, StopReason


class FakeEngine:
    """Completion number `seed % len(script)` for every request; its token ids are the text's bytes.

    Args:
        spec: What to build; `spec.options` holds the `script`.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._script: Sequence[str] = spec.options["script"]
        self._policy = spec.base

    @property
    def policy(self) -> Policy:
        """The policy that it pretends to serve."""
        return self._policy

    def load(self, adapter: Adapter) -> Policy:
        """Pretend to serve this adapter."""
        self._policy = adapter.policy
        return self._policy

    def sample(self, requests: Sequence[Request], options: SamplingOptions) -> Iterator[list[Rollout]]:
        """Yield completions one by one, in the order of the requests."""
        for request in requests:
            text = self._script[request.seed % len(self._script)]
            ids = tuple(text.encode())[: options.max_completion_tokens]
            yield [
                Rollout(
                    task_id=request.task_id,
                    index=request.index,
                    prompt_ids=request.prompt_ids,
                    completion_ids=ids,
                    logprobs=(-1.0,) * len(ids),
                    text=bytes(ids).decode(errors="replace"),
                    stop=StopReason.STOP if len(ids) == len(text.encode()) else StopReason.LENGTH,
                    policy=self._policy,
                )
            ]
