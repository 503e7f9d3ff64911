"""A reward model in an actor of a real Ray: the scores of a local one, and what its end means for the run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import ray

from rft.errors import GradeError
from rft.grading import LoadedGrader, Score, Task, load_grader
from rft.grading.models.model_grader import model_graders
from rft.run import grader_models as module
from rft.run.grader_models import grader_models
from rft.types import Split

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("running_ray")]

TASK = Task(id="t", messages=({"role": "user", "content": "What is 2 + 3?"},), item={}, split=Split.TRAIN)
OPTIONS: dict[str, Any] = {"num_cpus": 0.1, "num_gpus": 0}


def grader(model: Path) -> LoadedGrader:
    return load_grader("quality", {"use": "reward_model", "model": str(model), "batch_size": 2})


async def scores(graders: LoadedGrader) -> list[Score]:
    model_graders([graders])["quality"].load_here()
    return list(await asyncio.gather(*(graders.call(completion=text, task=TASK) for text in ("5", "6", "7"))))


def test_the_actor_scores_like_a_local_model(reward_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_run, here = grader(reward_model), grader(reward_model)
    actors: list[Any] = []
    connect = module._scoring
    monkeypatch.setattr(module, "_scoring", lambda actor: (actors.append(actor), connect(actor))[1])

    async def job() -> None:
        async with grader_models([load_grader("exact", {"use": "exact"}), in_run], [OPTIONS]):
            assert await scores(in_run) == await scores(here)
            ray.kill(actors[0])
            with pytest.raises(RuntimeError, match="the model's process ended: "):
                while True:  # the process may score a completion before it ends
                    await in_run.call(completion="5", task=TASK)

    asyncio.run(asyncio.wait_for(job(), 300))


@pytest.mark.full
def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")

    async def job() -> None:
        async with grader_models([grader(tmp_path)], [OPTIONS]):
            raise AssertionError

    with pytest.raises(GradeError, match=r"^graders\.quality: the model could not be loaded: "):
        asyncio.run(asyncio.wait_for(job(), 300))
