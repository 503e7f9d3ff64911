"""The parts of a run in this process: a scripted sampler, a real panel, and a learner that counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest

from rft.config import RunConfig
from rft.run import build
from rft.run.parts import Parts
from rft.types import Adapter, GradedGroup, Policy, Publication, Rollout, Sync, Task


class FakeSampler:
    """Samples `4` for each task. A load is proved if the publication comes from the learner's newest step."""

    def __init__(self, learner: FakeLearner, make_rollout: Callable[..., Rollout]) -> None:
        self.policy = Policy(version=0, fingerprint="base")
        self._learner = learner
        self._make_rollout = make_rollout

    async def sample(self, tasks: Sequence[Task], *, completions_per_task: int, **_: Any) -> AsyncIterator[Rollout]:
        for task in tasks:
            for index in range(completions_per_task):
                yield self._make_rollout(task.id, index, text="4", policy=self.policy)

    async def load(self, publication: Publication) -> Sync:
        self.policy = publication.policy
        return Sync(policy=self.policy, proved=self.policy.version == len(self._learner.batches), metrics={})


class FakeLearner:
    """Remembers what it learns from."""

    max_restarts = 0

    def __init__(self) -> None:
        self.batches: list[Sequence[GradedGroup]] = []
        self.saved_steps: list[int] = []

    async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        self.batches.append(groups)
        return {"loss": 0.5}

    async def publish(self) -> Publication:
        version = len(self.batches)
        policy = Policy(version=version, fingerprint=f"step {version}")
        return Publication(weights=Adapter(policy=policy, config={}, tensors=b""))

    async def save(self) -> None:
        self.saved_steps.append(len(self.batches))


@pytest.fixture
def fake_parts(monkeypatch: pytest.MonkeyPatch, make_rollout: Callable[..., Rollout]) -> FakeLearner:
    """`rft.parts` without Ray. Returns the learner of the parts."""
    learner = FakeLearner()

    @asynccontextmanager
    async def open_fakes(config: RunConfig, prepared: Any, emit: Any) -> AsyncIterator[Parts[Any]]:
        panel = build.panel(config, prepared, lambda _: None)
        try:
            yield Parts(FakeSampler(learner, make_rollout), panel, learner)  # type: ignore[arg-type]
        finally:
            panel.close()

    monkeypatch.setattr("rft.run.parts.open_parts", open_fakes)
    monkeypatch.setattr("rft.api.parts.ray_ahead_for", lambda config: nullcontext())
    return learner
