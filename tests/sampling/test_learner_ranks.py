"""A learner of several ranks on a real Ray: what the loop hears of them, and how it ends when one of them fails."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray
from ray.exceptions import RayActorError

from rft.errors import LearnerLost, LearnError
from rft.learning import remote
from rft.learning.fake import FakeLearner
from rft.learning.remote import RemoteLearner
from rft.learning.spec import LearnerSpec, RankPlace

pytestmark = pytest.mark.e2e


class Rank(FakeLearner):
    """A fake learner that adds up with the others, as a real one does in every step."""

    wait_s: ClassVar[float] = 300.0
    """Deadline of the waits for other ranks."""

    def __init__(self, spec: LearnerSpec, place: RankPlace) -> None:
        from rft.learning.ranks import Ranks

        super().__init__(spec)
        self.number = place.number
        # The processes may start far apart: only later waits have the deadline of a test.
        self.ranks = Ranks.join(place, timeout_s=300)
        assert self.ranks._store is not None
        self.ranks._store._timeout_s = self.wait_s

    def learn(self, groups: Sequence[Any]) -> dict[str, float]:
        import torch

        total = torch.tensor([float(self.number + 1)])
        self.ranks.add_up([total])
        return super().learn(groups) | {"total": total.item(), "said_by": float(self.number)}


async def with_ranks(job: Callable[[RemoteLearner], Coroutine[Any, Any, Any]], spec: LearnerSpec, of: int = 2) -> Any:
    learner = RemoteLearner([spec] * of, actor_options=[{"num_cpus": 0.1}] * of, start_timeout_s=300)
    try:
        await learner.start()
        return await job(learner)
    finally:
        learner.kill()


@pytest.fixture
def rank_kind(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., FakeLearner]], None]:
    """`rank_kind(SomeRank)`: what each rank of this test is."""

    def use(kind: Callable[[LearnerSpec, RankPlace], FakeLearner]) -> None:
        class Actor(remote.RankActor):
            def join(self, place: RankPlace) -> int:
                self._learner = kind(self._spec, place)
                return self._learner.steps_done

        monkeypatch.setattr(remote, "RankActor", Actor)

    return use


async def one_step(learner: RemoteLearner, of: int) -> None:
    assert await learner.learn([]) == {"loss": 0.0, "total": of * (of + 1) / 2, "said_by": 0.0}
    assert (await learner.publish()).policy.version == 1
    await learner.save()
    assert [publication.policy.version for publication in await learner.history()] == [1]


@pytest.mark.full  # the next test shows it of two
def test_the_first_rank_speaks_for_all(in_ray: Any, tmp_path: Path, make_learner_spec: Any, rank_kind: Any) -> None:
    async def job(learner: RemoteLearner) -> None:
        await one_step(learner, of=3)
        await learner.close()

    rank_kind(Rank)
    in_ray(with_ranks(job, make_learner_spec(tmp_path), of=3))
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-1"]


def test_the_first_rank_speaks_for_both_and_one_that_dies_is_named_not_the_one_that_noticed(
    in_ray: Any, tmp_path: Path, make_learner_spec: Any, rank_kind: Any
) -> None:
    class Dying(Rank):
        def learn(self, groups: Sequence[Any]) -> dict[str, float]:
            if self.number == 1 and self.steps_done == 1:
                os._exit(7)
            return super().learn(groups)

    async def job(learner: RemoteLearner) -> None:
        await one_step(learner, of=2)
        await learner.learn([])

    rank_kind(Dying)
    with pytest.raises(LearnerLost, match=r"^rank 1 of 2 of the learner \([0-9.]+\) is lost: its process ended: "):
        in_ray(with_ranks(job, make_learner_spec(tmp_path)))
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-1"]


@pytest.mark.full
def test_a_rank_that_fails_ends_the_step_of_all(
    in_ray: Any, tmp_path: Path, make_learner_spec: Any, rank_kind: Any
) -> None:
    class Failing(Rank):
        def learn(self, groups: Sequence[Any]) -> dict[str, float]:
            if self.number == 1:
                raise ValueError("the loss is not finite")
            return super().learn(groups)  # and so waits for the other

    async def job(learner: RemoteLearner) -> None:
        with pytest.raises(
            LearnError,
            match=r"^rank 1 of 2 of the learner \([0-9.]+\) failed: ValueError: the loss is not finite$",
        ):
            await learner.learn([])
        with pytest.raises(RayActorError):  # the one that waited is ended as well
            ray.get(learner._first.steps_done.remote(), timeout=60)

    rank_kind(Failing)
    in_ray(with_ranks(job, make_learner_spec(tmp_path)))


@pytest.mark.full
def test_a_rank_that_stalls(
    in_ray: Any, tmp_path: Path, make_learner_spec: Any, rank_kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stalling(Rank):
        wait_s = 1.0

        def learn(self, groups: Sequence[Any]) -> dict[str, float]:
            if self.number == 1:
                threading.Event().wait()
            return super().learn(groups)

    rank_kind(Stalling)
    monkeypatch.setattr(remote, "FIRST_FAILURE_S", 0.1)
    one, other = (rf"rank {number} of 2 of the learner \([0-9.]+\)" for number in (0, 1))
    message = rf"^{other} is lost: {one} waited 1 s$"
    with pytest.raises(LearnerLost, match=message):
        in_ray(with_ranks(lambda learner: learner.learn([]), make_learner_spec(tmp_path)))


def test_ranks_with_other_weights(in_fake_ray: Any, tmp_path: Path, make_learner_spec: Any, rank_kind: Any) -> None:
    class Drifting(FakeLearner):
        def __init__(self, spec: LearnerSpec, place: RankPlace) -> None:
            super().__init__(spec)
            self.number = place.number

        def checksum(self) -> int:
            return super().checksum() + self.number * self.steps_done

    async def job(learner: RemoteLearner) -> None:
        await learner.learn([])
        await learner.publish()

    rank_kind(Drifting)
    with pytest.raises(
        LearnError,
        match=r"^after step 1 the weights of rank 1 of 2 of the learner \([0-9.]+\) differ from those of rank 0; ",
    ):
        in_fake_ray(with_ranks(job, make_learner_spec(tmp_path)))
