"""Steps that a learner takes again, from the batches on disk, lead to the same weights bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.run_folder.token_shards import read_shard, write_shard
from rft.types import GradedGroup

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

REWARDS = ([1.0, None, 0.25, 0.0], [0.0, 1.0, 1.0, 0.5], [0.1 + 0.2, 0.0, None, 1.0])


@pytest.mark.parametrize(
    ("kind", "from_checkpoint"),
    [
        ("grpo", False),
        ("ppo", True),
        pytest.param("grpo", True, marks=pytest.mark.full),
        pytest.param("ppo", False, marks=pytest.mark.full),
    ],
)
def test_recorded_batches_lead_to_the_same_weights(
    build: Callable[..., Any],
    group_for: Callable[..., GradedGroup],
    tmp_path: Path,
    kind: str,
    from_checkpoint: bool,
) -> None:
    whole = build(kind=kind)
    published = []
    for step, rewards in enumerate(REWARDS, start=1):
        batch = [group_for(whole, rewards, off=0.1)]
        write_shard(tmp_path, step, batch)
        whole.learn(batch)
        published.append(whole.publish())
        if step == 1:
            whole.save()

    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-1"
    again = build(kind=kind, folder="again", resume_from=checkpoint if from_checkpoint else None)
    again.publish()  # the policy of the first rollouts; in a run that is the base model
    assert again.steps_done == int(from_checkpoint)
    for step in range(again.steps_done + 1, 4):
        again.learn(read_shard(tmp_path, step))
        assert again.publish() == published[step - 1]
    assert again.checksum() == whole.checksum()  # includes PPO's value function


def test_a_resumed_learner_draws_the_same_dropout(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], tmp_path: Path
) -> None:
    options = {"adapter": {"rank": 4, "alpha": 8, "dropout": 0.1}}
    whole = build(**options)
    whole.learn([group_for(whole, REWARDS[0])])
    batch = [group_for(whole, REWARDS[1])]
    whole.save()
    expected = (whole.learn(batch)["loss"], whole.publish())
    resumed = build(folder="again", resume_from=tmp_path / "run" / "checkpoints" / "checkpoint-1", **options)
    assert (resumed.learn(batch)["loss"], resumed.publish()) == expected
