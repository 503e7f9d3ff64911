"""The batch of a step on disk: the learner must receive it again bit for bit, or not at all."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rft.errors import LearnError
from rft.run_folder.token_shards import read_shard, remove_shards, shard_of, write_shard
from rft.turns import Author, Turn
from rft.types import GradedGroup, Policy, StopReason, TopTokens

OLD, NEW = Policy(version=6, fingerprint="six"), Policy(version=7, fingerprint="seven")
THIRD = float(np.float32(-1 / 3))
"""A log-probability as a sampler computes it, in float32."""

Make = Callable[..., GradedGroup]


def batch(make_group: Make) -> list[GradedGroup]:
    """Two groups of different sizes, prompts, policies and stop reasons; one completion is empty."""
    first = make_group([1.0, None], "a", policy=OLD, completion_ids=(7, 8, 2), logprobs=(THIRD, -0.0, -1e-30))
    last = make_group([0.1 + 0.2], "b", policy=NEW, prompt_ids=(1,), completion_ids=(), logprobs=())
    cut = make_group([-2.5], "c", policy=NEW, stop=StopReason.LENGTH, completion_ids=(151_642,), logprobs=(-0.5,))
    return [first, last, cut]


def test_a_batch_comes_back_as_the_learner_reads_it(tmp_path: Path, make_group: Make) -> None:
    groups = batch(make_group)
    write_shard(tmp_path, 8, groups)
    again = read_shard(tmp_path, 8)
    assert [path.name for path in (tmp_path / "tokens").iterdir()] == ["step-000008.safetensors"]
    assert [group.rewards for group in again] == [[1.0, None], [0.1 + 0.2], [-2.5]]
    for group, expected in zip(again, groups, strict=True):
        assert group.task.id == expected.task.id
        for rollout, of in zip(group.rollouts, expected.rollouts, strict=True):
            ours = (rollout.task_id, rollout.index, rollout.prompt_ids, rollout.completion_ids, rollout.stop)
            assert ours == (of.task_id, of.index, of.prompt_ids, of.completion_ids, of.stop)
            assert rollout.policy == of.policy
            expected_bits = np.array(of.logprobs, dtype=np.float32).tobytes()
            assert np.array(rollout.logprobs, dtype=np.float32).tobytes() == expected_bits


def test_the_turns_of_episodes_come_back(tmp_path: Path, make_group: Make) -> None:
    """Without their messages, which the learner does not read; a completion of one turn among them has none."""
    [first, *others] = batch(make_group)
    authors = (Author.ENVIRONMENT, Author.POLICY, Author.ENVIRONMENT, Author.POLICY)
    spans = ((0, 0), (0, 1), (1, 2), (2, 3))
    turns = tuple(
        Turn(author=author, start=start, end=end, messages=({"role": "user", "content": "x"},))
        for author, (start, end) in zip(authors, spans, strict=True)
    )
    first = replace(first, rollouts=(first.rollouts[0], replace(first.rollouts[1], turns=turns)))
    by_turn = replace(first.grades[0], turn_rewards=(0.1, 0.9))
    first = replace(first, grades=(by_turn, first.grades[1]))
    write_shard(tmp_path, 8, [first, *others])
    [group, *rest] = read_shard(tmp_path, 8)
    assert group.rollouts[0].turns == ()
    assert group.rollouts[1].turns == tuple(replace(turn, messages=()) for turn in turns)
    assert group.rollouts[1].trained == (True, False, True)
    assert [grade.turn_rewards for grade in group.grades] == [(0.1, 0.9), ()]
    assert all(rollout.turns == () for one in rest for rollout in one.rollouts)


def test_a_shard_holds_plain_tensors(tmp_path: Path, make_group: Make) -> None:
    write_shard(tmp_path, 8, batch(make_group))
    tensors = load_file(shard_of(tmp_path, 8))
    assert tensors["completion_lengths"].tolist() == [3, 3, 0, 1]
    assert tensors["prompt_ids"].tolist() == [5, 6, 5, 6, 1, 5, 6]
    assert tensors["logprobs"].dtype == np.float32
    assert tensors["logprobs"][:3].tolist() == pytest.approx([-1 / 3, 0.0, -1e-30])
    assert tensors["rewards"].tolist()[0] == 1.0
    assert np.isnan(tensors["rewards"][1])


def test_a_second_attempt_at_a_step_replaces_its_shard(tmp_path: Path, make_group: Make) -> None:
    write_shard(tmp_path, 1, batch(make_group))
    write_shard(tmp_path, 1, [make_group([0.5], "d")])
    assert [group.task.id for group in read_shard(tmp_path, 1)] == ["d"]


def test_every_flipped_bit_is_noticed(tmp_path: Path, make_group: Make) -> None:
    write_shard(tmp_path, 1, [make_group([0.5], "d")])
    path = shard_of(tmp_path, 1)
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(LearnError, match=r"step 1 cannot be made again: .*step-000001.safetensors "):
            read_shard(tmp_path, 1)


@pytest.mark.parametrize("kept", [0, 7, 100])
def test_a_shard_that_was_cut_short(tmp_path: Path, make_group: Make, kept: int) -> None:
    write_shard(tmp_path, 1, batch(make_group))
    path = shard_of(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(LearnError, match=r"step-000001\.safetensors cannot be read"):
        read_shard(tmp_path, 1)


def test_a_missing_shard(tmp_path: Path) -> None:
    with pytest.raises(LearnError, match=r"step 3 cannot be made again: .*step-000003.safetensors cannot be read"):
        read_shard(tmp_path, 3)


def test_the_shard_of_another_step(tmp_path: Path, make_group: Make) -> None:
    write_shard(tmp_path, 1, batch(make_group))
    shard_of(tmp_path, 1).rename(shard_of(tmp_path, 2))
    with pytest.raises(LearnError, match="step 2 cannot be made again"):
        read_shard(tmp_path, 2)


def test_a_file_of_someone_else(tmp_path: Path, make_group: Make) -> None:
    write_shard(tmp_path, 1, batch(make_group))
    save_file({"a": np.ones(1)}, shard_of(tmp_path, 1))
    with pytest.raises(LearnError, match="is damaged"):
        read_shard(tmp_path, 1)


def test_old_shards_are_removed(tmp_path: Path, make_group: Make) -> None:
    remove_shards(tmp_path, up_to=5)  # nothing is recorded yet
    for step in (1, 2, 9, 10):
        write_shard(tmp_path, step, batch(make_group))
    remove_shards(tmp_path, up_to=9)
    assert [path.name for path in (tmp_path / "tokens").iterdir()] == ["step-000010.safetensors"]


def test_the_teachers_log_probabilities_come_back(tmp_path: Path, make_group: Make) -> None:
    first, last, cut = batch(make_group)
    top = TopTokens(2, array("i", [7, 2, 0, 9, 4, 1]), array("f", [THIRD, -0.0, -40.0, -1e-8, -0.5, -1.0]))
    taught = [
        replace(first, teacher_logprobs=((THIRD, -0.0, -40.0), None), teacher_top=(top, None)),
        replace(last, teacher_logprobs=((),)),
        replace(cut, teacher_logprobs=((-0.25,),)),
    ]
    write_shard(tmp_path, 8, taught)
    assert [group.teacher_logprobs for group in read_shard(tmp_path, 8)] == [
        ((THIRD, -0.0, -40.0), None),
        ((),),
        ((-0.25,),),
    ]
    assert [group.teacher_top for group in read_shard(tmp_path, 8)] == [(top, None), (), ()]
    assert load_file(shard_of(tmp_path, 8))["teacher_logprobs"].dtype == np.float32
    write_shard(tmp_path, 9, [first])
    assert "teacher_logprobs" not in load_file(shard_of(tmp_path, 9))
