"""Starts the models of graders in Ray actors, each in its place of the run, and connects the graders with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from rft.errors import GradeError, WaitTimeout
from rft.grading import LoadedGrader
from rft.grading.models.batches import Reward, Row, ScoreRows
from rft.grading.models.model_grader import model_graders
from rft.grading.models.reward_scorer import RewardScorer, ScorerSettings
from rft.reliability.stack_traces import write_stacks_on_signal
from rft.waiting import blocking, together, wait_for

KILL_S = 10.0
"""Seconds that Ray has to accept that a process is killed."""


class ScorerActor(RewardScorer):
    """A reward model in its own process."""

    def __init__(self, settings: ScorerSettings, gpus: float) -> None:
        write_stacks_on_signal()
        super().__init__(settings, gpus)


@asynccontextmanager
async def grader_models(
    graders: Sequence[LoadedGrader], actor_options: Sequence[Mapping[str, Any]]
) -> AsyncIterator[None]:
    """Run the models of graders for the duration of the block.

    Args:
        graders: All graders of the run.
        actor_options: Ray's options for the actor of each model: its resources and its node.

    Raises:
        GradeError: A model could not be loaded.
        WaitTimeout: A model did not load in time.
    """
    models = model_graders(graders)
    actors = {
        name: ray.remote(ScorerActor).options(**options).remote(model.settings, options["num_gpus"])
        for (name, model), options in zip(models.items(), actor_options, strict=True)
    }
    try:
        await together(*(_loaded(name, actors[name], model.start_timeout_s) for name, model in models.items()))
        for name, model in models.items():
            model.connect(_scoring(actors[name]))
        yield
    finally:
        for name, model in models.items():
            model.close()
            with suppress(WaitTimeout):  # without its head, Ray does not return
                what = f"the model of grader '{name}' to end"
                await blocking(partial(ray.kill, actors[name]), what=what, deadline_s=KILL_S)


async def _loaded(name: str, actor: Any, deadline_s: float) -> None:
    try:
        await wait_for(actor.score.remote([]), what=f"the model of grader '{name}'", deadline_s=deadline_s)
    except RayError as error:
        raise GradeError(f"graders.{name}: the model could not be loaded: {_reason(error)}") from error


def _scoring(actor: Any) -> ScoreRows:
    async def score_rows(rows: Sequence[Row]) -> Sequence[Reward]:
        try:
            rewards: list[Reward] = await actor.score.remote(list(rows))
            return rewards
        except RayError as error:
            raise RuntimeError(_reason(error)) from error

    return score_rows


def _reason(error: RayError) -> str:
    """Return the model's own error, which Ray wraps."""
    last = str(error).strip().splitlines()[-1]
    if isinstance(error, RayActorError):
        return f"the model's process ended: {last}"
    cause = error.cause if isinstance(error, RayTaskError) else error
    return f"{type(cause).__name__}: {cause}".partition("\n")[0] if cause is not None else last
