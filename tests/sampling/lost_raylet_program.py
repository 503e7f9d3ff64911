"""Asks the raylet to end while a learner takes a step on a batch; ends with the exit code of the loss.

python -m tests.sampling.lost_raylet_program <empty folder> <learner.max_restarts>
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from rft.cluster import ray_session
from rft.config.clusters import LocalClusterConfig
from rft.errors import RayLost
from rft.learning import remote
from rft.learning.fake import FakeLearner
from rft.learning.spec import LearnerSpec
from rft.run.recovery import RecoveringLearner
from tests.conftest import _group, _learner_spec

FOLDER, MAX_RESTARTS = Path(sys.argv[1]), int(sys.argv[2])
BEGUN = FOLDER / "the step has begun"
IDS = tuple(range(20_000))
"""Token ids of a completion that is larger than an argument that Ray sends inside a call."""


class EndlessLearner(FakeLearner):
    def learn(self, groups: Sequence[Any]) -> dict[str, float]:
        BEGUN.touch()
        threading.Event().wait()
        return {}


class Actor(remote.LearnerActor):
    def __init__(self, spec: LearnerSpec) -> None:
        self._learner = EndlessLearner(spec)


async def build(_: Path | None) -> remote.RemoteLearner:
    return remote.RemoteLearner([_learner_spec(FOLDER)], actor_options=[{"num_cpus": 0.1}], start_timeout_s=300)


async def main() -> None:
    async with ray_session(LocalClusterConfig(), num_processes=1):
        learner = RecoveringLearner(
            await build(None), build=build, folder=FOLDER, max_restarts=MAX_RESTARTS, emit=print
        )
        await learner.start()
        group = _group([1.0, 0.5], completion_ids=IDS, logprobs=tuple(map(float, IDS)))
        step = asyncio.create_task(learner.learn([group]))
        while not BEGUN.exists():
            await asyncio.sleep(0.05)
        processes = psutil.Process().children(recursive=True)
        next(process for process in processes if process.name() == "raylet").terminate()
        await step


if __name__ == "__main__":
    remote.LearnerActor = Actor  # type: ignore[misc]
    try:
        asyncio.run(main())
    except RayLost as lost:
        print(lost, flush=True)
        os._exit(lost.exit_code)  # a process that lost its Ray cannot end otherwise
