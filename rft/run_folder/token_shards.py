"""Records the batch of each step exactly as the learner receives it, so that the learner can take the step again.

    tokens/step-000007.safetensors

A shard contains token ids, float32 log-probabilities, rewards (by turn, too), stop reasons and policies of the rollouts
of a step, and a SHA-256 of all of them. With a teacher, it also contains the teacher's log-probabilities and most
probable tokens, so a step is taken again without the teacher. Texts and scores are in rollouts.jsonl. rft removes a
shard that no kept checkpoint needs.
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from rft.errors import LearnError
from rft.reliability.durable import writing
from rft.run_folder.recorder import TOKENS
from rft.turns import Author, Turn
from rft.types import Grade, GradedGroup, Policy, Rollout, Split, StopReason, Task, TopTokens

_SHA256 = "sha256"
_STOPS = tuple(StopReason)
_AUTHORS = tuple(Author)


def shard_of(run_folder: Path, step: int) -> Path:
    """Return the path of a step's shard."""
    return run_folder / TOKENS / f"step-{step:06}.safetensors"


def write_shard(run_folder: Path, step: int, groups: Sequence[GradedGroup]) -> None:
    """Write the shard of a step, completely or not at all.

    Args:
        run_folder: The run folder.
        step: Number of the step.
        groups: The groups that the learner is about to receive.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    policies = list(dict.fromkeys(rollout.policy for rollout in rollouts))
    rewards = [math.nan if reward is None else reward for group in groups for reward in group.rewards]
    tensors = {
        "group_sizes": np.array([len(group.rollouts) for group in groups], dtype=np.int32),
        "indices": np.array([rollout.index for rollout in rollouts], dtype=np.int32),
        "policies": np.array([policies.index(rollout.policy) for rollout in rollouts], dtype=np.int32),
        "stops": np.array([_STOPS.index(rollout.stop) for rollout in rollouts], dtype=np.int32),
        "rewards": np.array(rewards, dtype=np.float64),
        "prompt_lengths": np.array([len(rollout.prompt_ids) for rollout in rollouts], dtype=np.int32),
        "prompt_ids": _joined((rollout.prompt_ids for rollout in rollouts), np.int32),
        "completion_lengths": np.array([len(rollout.completion_ids) for rollout in rollouts], dtype=np.int32),
        "completion_ids": _joined((rollout.completion_ids for rollout in rollouts), np.int32),
        # The learner computes in float32, so it receives the same values again.
        "logprobs": _joined((rollout.logprobs for rollout in rollouts), np.float32),
    }
    if any(group.teacher_logprobs for group in groups):
        tensors["teacher_logprobs"] = _joined((row for group in groups for row in _teacher_rows(group)), np.float32)
    if tops := [top for group in groups for top in group.teacher_top]:
        tensors |= _top_tensors(tops)
    if any(rollout.turns for rollout in rollouts):
        turns = [turn for rollout in rollouts for turn in rollout.turns]
        tensors["turn_counts"] = np.array([len(rollout.turns) for rollout in rollouts], dtype=np.int32)
        tensors["turn_ends"] = np.array([turn.end for turn in turns], dtype=np.int32)
        tensors["turn_authors"] = np.array([_AUTHORS.index(turn.author) for turn in turns], dtype=np.int32)
    by_turn = [grade.turn_rewards for group in groups for grade in group.grades]
    if any(by_turn):
        tensors["turn_reward_counts"] = np.array(list(map(len, by_turn)), dtype=np.int32)
        tensors["turn_rewards"] = _joined(by_turn, np.float64)
    about = {
        "step": str(step),
        "task_ids": json.dumps([group.task.id for group in groups]),
        "policies": json.dumps([asdict(policy) for policy in policies]),
    }
    content = safetensors.numpy.save(tensors, about | {_SHA256: _digest(tensors, about)})
    path = shard_of(run_folder, step)
    unfinished = path.with_name(f"{path.name}.unfinished")
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        unfinished.write_bytes(content)
        unfinished.replace(path)


def read_shard(run_folder: Path, step: int) -> list[GradedGroup]:
    """Read the groups of a step. Tasks have only their id, rollouts no text, and grades no scores.

    Raises:
        LearnError: The shard is missing or damaged.
    """
    path = shard_of(run_folder, step)
    try:
        with safe_open(path, framework="numpy") as file:
            about: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: a type that numpy lacks
        raise LearnError(f"step {step} cannot be made again: {path} cannot be read: {error}") from error
    digest = about.pop(_SHA256, "")
    if digest != _digest(tensors, about) or about.get("step") != str(step):
        raise LearnError(f"step {step} cannot be made again: {path} is damaged: its content does not match its SHA-256")
    try:
        return _groups(tensors, about)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise LearnError(
            f"step {step} cannot be made again: {path} is no batch of rft: {type(error).__name__}: {error}"
        ) from error


def remove_shards(run_folder: Path, *, up_to: int) -> None:
    """Remove the shards of all steps up to this one."""
    for path in (run_folder / TOKENS).glob("step-*.safetensors"):
        if int(path.stem.removeprefix("step-")) <= up_to:
            path.unlink()


def _groups(tensors: Mapping[str, Any], about: Mapping[str, str]) -> list[GradedGroup]:
    policies = [Policy(**policy) for policy in json.loads(about["policies"])]
    prompts = iter(tensors["prompt_ids"].tolist())
    completions = iter(tensors["completion_ids"].tolist())
    logprobs = iter(tensors["logprobs"].tolist())
    of_teacher = iter(tensors["teacher_logprobs"].tolist()) if "teacher_logprobs" in tensors else None
    tops = _tops(tensors) if "teacher_top_ks" in tensors else iter(())
    counts = iter(tensors["turn_counts"].tolist()) if "turn_counts" in tensors else repeat(0)
    reward_counts = iter(tensors["turn_reward_counts"].tolist()) if "turn_rewards" in tensors else repeat(0)
    by_turn = iter(tensors["turn_rewards"].tolist()) if "turn_rewards" in tensors else iter(())
    turns = zip(tensors.get("turn_ends", ()), tensors.get("turn_authors", ()), strict=True)
    names = ("indices", "policies", "stops", "rewards", "prompt_lengths", "completion_lengths")
    rows = zip(*(tensors[name].tolist() for name in names), strict=True)
    groups = []
    for task_id, size in zip(json.loads(about["task_ids"]), tensors["group_sizes"].tolist(), strict=True):
        rollouts, grades, teacher_rows = [], [], []
        for index, policy, stop, reward, prompt_length, completion_length in islice(rows, size):
            rollouts.append(
                Rollout(
                    task_id=task_id,
                    index=index,
                    prompt_ids=tuple(islice(prompts, prompt_length)),
                    completion_ids=tuple(islice(completions, completion_length)),
                    logprobs=tuple(islice(logprobs, completion_length)),
                    text="",
                    stop=_STOPS[stop],
                    policy=policies[policy],
                    turns=_turns(islice(turns, next(counts))),
                )
            )
            parts = tuple(islice(by_turn, next(reward_counts)))
            grades.append(Grade(scores={}, reward=None if math.isnan(reward) else reward, turn_rewards=parts))
            if of_teacher is not None:
                row = tuple(islice(of_teacher, completion_length))
                teacher_rows.append(None if any(map(math.isnan, row)) else row)
        task = Task(id=task_id, messages=(), item={}, split=Split.TRAIN)
        groups.append(
            GradedGroup(
                task=task,
                rollouts=tuple(rollouts),
                grades=tuple(grades),
                teacher_logprobs=tuple(teacher_rows),
                teacher_top=tuple(islice(tops, size)),
            )
        )
    return groups


def _turns(recorded: Iterable[tuple[int, int]]) -> tuple[Turn, ...]:
    """Return the turns of a rollout from their ends and authors, without their messages."""
    turns: list[Turn] = []
    for end, author in recorded:
        turns.append(Turn(author=_AUTHORS[author], start=turns[-1].end if turns else 0, end=int(end)))
    return tuple(turns)


def _teacher_rows(group: GradedGroup) -> list[tuple[float, ...]]:
    """Return the teacher's log-probabilities of each completion; NaN for a completion that it could not score."""
    return [
        (math.nan,) * len(rollout.completion_ids) if row is None else row
        for rollout, row in zip(group.rollouts, group.teacher_logprobs, strict=True)
    ]


def _top_tensors(tops: Sequence[TopTokens | None]) -> dict[str, Any]:
    """Return the tensors of the teachers' most probable tokens; 0 of them for a completion without a score."""
    there = [top for top in tops if top is not None]
    return {
        "teacher_top_ks": np.array([0 if top is None else top.k for top in tops], dtype=np.int32),
        "teacher_top_sizes": np.array([0 if top is None else len(top.ids) for top in tops], dtype=np.int32),
        "teacher_top_ids": _concatenated((top.ids for top in there), np.int32),
        "teacher_top_logprobs": _concatenated((top.logprobs for top in there), np.float32),
    }


def _tops(tensors: Mapping[str, Any]) -> Iterator[TopTokens | None]:
    """Read the tensors of `_top_tensors`."""
    start = 0
    for k, size in zip(tensors["teacher_top_ks"].tolist(), tensors["teacher_top_sizes"].tolist(), strict=True):
        ids, logprobs = (tensors[f"teacher_top_{name}"][start : start + size] for name in ("ids", "logprobs"))
        yield TopTokens(k, array("i", ids.tobytes()), array("f", logprobs.tobytes())) if k else None
        start += size


def _concatenated(parts: Iterable[array[Any]], dtype: type[np.generic]) -> Any:
    return np.concatenate([np.empty(0, dtype), *(np.frombuffer(part, dtype) for part in parts)])


def _joined(rows: Iterable[Iterable[float]], dtype: type[np.generic]) -> Any:
    return np.fromiter(chain.from_iterable(rows), dtype=dtype)


def _digest(tensors: Mapping[str, Any], about: Mapping[str, str]) -> str:
    """Return the SHA-256 of the texts, and of the tensors with their names, types and shapes."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()
