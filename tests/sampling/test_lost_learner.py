"""A learner that is lost on a real Ray: killed, frozen, or gone with the weights that samplers load."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rft.events import Event, LearnerRestarted
from rft.learning import remote
from rft.learning.fake import FakeLearner
from rft.learning.remote import RemoteLearner
from rft.learning.spec import LearnerSpec, RankPlace
from rft.run.recovery import RecoveringLearner, RenewingSampler
from rft.sampling.fleet import Fleet
from rft.types import StoredWeights

pytestmark = [pytest.mark.e2e, pytest.mark.full]  # test_real_ray.py kills a learner, test_fleet.py stalls one

RAYS_CPUS = 4
"""CPUs of the tests' Ray. Each learner takes more than half of them, so the next one starts only when it has ended."""
FREEZE_S = 0.5
"""Deadline of the step in which a process freezes; nothing else depends on it."""


class MortalLearner(FakeLearner):
    """A learner, or a rank of a learner, that receives a signal in its second step, once."""

    number: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(self, spec: LearnerSpec, place: RankPlace | None = None) -> None:
        super().__init__(spec)
        self._is_mortal = place is None or place.number == 1
        self._ranks: Any = None
        if place is not None:
            from rft.learning.ranks import Ranks

            self._ranks = Ranks.join(place, timeout_s=300)  # the processes may start far apart

    def learn(self, groups: Sequence[Any]) -> dict[str, float]:
        mark = self._spec.run_folder / "lost"
        if self._is_mortal and self.steps_done == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), self.number)
        if self._ranks is not None:
            import torch

            self._ranks.add_up([torch.ones(1)])
        return super().learn(groups)


class FreezingLearner(MortalLearner):
    """A learner, or a rank of a learner, that is stopped in its second step, once."""

    number = signal.SIGSTOP


@pytest.fixture
def recovering(
    in_ray: Any, tmp_path: Path, make_learner_spec: Callable[..., LearnerSpec], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Event]]:
    """`recovering(job, MortalLearner, of=2)`: run `job(learner, events)` with a learner of this kind."""

    async def run(job: Callable[..., Coroutine[Any, Any, Any]], of: int) -> list[Event]:
        spec = make_learner_spec(tmp_path)
        events: list[Event] = []

        async def build(checkpoint: Path | None) -> RemoteLearner:
            options = [{"num_cpus": (RAYS_CPUS / 2 + 0.2) / of}] * of
            return RemoteLearner([spec] * of, actor_options=options, start_timeout_s=300)

        learner = RecoveringLearner(await build(None), build=build, folder=tmp_path, max_restarts=2, emit=events.append)
        try:
            await learner.start()
            await job(learner, events)
        finally:
            learner._learner.kill()
        return [event for event in events if isinstance(event, LearnerRestarted)]

    def start(job: Callable[..., Coroutine[Any, Any, Any]], kind: type[MortalLearner], of: int = 1) -> list[Event]:
        class Actor(remote.LearnerActor):
            def __init__(self, spec: LearnerSpec) -> None:
                self._learner = kind(spec)

        class Rank(remote.RankActor):
            def join(self, place: RankPlace) -> int:
                self._learner = kind(self._spec, place)
                return self._learner.steps_done

        monkeypatch.setattr(remote, "LearnerActor", Actor)
        monkeypatch.setattr(remote, "RankActor", Rank)
        restarts: list[Event] = in_ray(run(job, of))
        return restarts

    return start


async def two_steps(learner: RecoveringLearner, freezes: bool) -> None:
    for version in (1, 2):
        if freezes and version == 2:
            learner._learner._step_timeout_s = FREEZE_S
        assert await learner.learn([]) == {"loss": 0.0}
        assert (await learner.publish()).policy.version == version
    assert (await learner.weights()).policy.version == 2


@pytest.mark.parametrize("of", [1, 2])
@pytest.mark.parametrize("kind", [MortalLearner, FreezingLearner])
def test_a_process_that_dies_or_freezes_is_replaced(recovering: Any, kind: type[MortalLearner], of: int) -> None:
    async def job(learner: RecoveringLearner, events: list[Event]) -> None:
        await two_steps(learner, freezes=kind is FreezingLearner)

    assert recovering(job, kind, of) == [LearnerRestarted(from_step=0, redone_steps=1)]


def test_samplers_load_the_weights_of_the_next_process(recovering: Any, with_fleet: Any) -> None:
    async def job(learner: RecoveringLearner, events: list[Event]) -> None:
        async def in_fleet(fleet: Fleet) -> None:
            await learner.learn([])
            publication = await learner.publish()
            assert isinstance(publication.weights, StoredWeights)
            learner._learner.kill()
            sampler = RenewingSampler(sampler=fleet, learner=learner)
            while not events:  # Ray ends the process in its own time
                sync = await sampler.load(publication)
                assert sync.policy == publication.policy == fleet.policy

        await with_fleet(in_fleet, num_actors=2)

    assert recovering(job, MortalLearner) == [LearnerRestarted(from_step=0, redone_steps=1)]
