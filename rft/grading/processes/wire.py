"""What travels between this process and the workers: one line of JSON for each call, one for each reply. Never pickle.

A call holds the inputs that its grader takes and no others; a reply holds the scores, made into `Score`s where the
grader ran. The inputs' JSON is also what the cache knows a call by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rft.grading.contract import LoadedGrader
from rft.types import Policy, Rollout, Score, Status, StopReason, Task


def arguments_of(grader: LoadedGrader, task: Task, rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """Return what a grader is called with, by name: for one rollout, or for those of a whole group."""
    texts = [rollout.text for rollout in rollouts]
    pool = {
        "task": task,
        "completion": texts[0],
        "completions": texts,
        "rollout": rollouts[0],
        "rollouts": list(rollouts),
    }
    return {name: pool[name] for name in grader.takes}


def encode_inputs(grader: LoadedGrader, task: Task, rollouts: Sequence[Rollout]) -> str:
    """Write the inputs that a grader takes as JSON.

    Raises:
        ValueError: JSON cannot hold one of the task's columns; the message says which.
    """
    inputs: dict[str, Any] = {}
    if "task" in grader.takes:
        inputs["task"] = {"id": task.id, "messages": task.messages, "item": task.item, "split": task.split}
    if "rollout" in grader.takes or "rollouts" in grader.takes:
        inputs["rollouts"] = [_rollout(rollout) for rollout in rollouts]
    else:
        inputs["texts"] = [rollout.text for rollout in rollouts]
    try:
        return json.dumps(inputs)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(_unfit(task, error)) from error


def encode_call(grader: LoadedGrader, inputs: str) -> bytes:
    """Write a call, from its inputs' JSON, as a line."""
    return f'{{"grader": {json.dumps(grader.name)}, "inputs": {inputs}}}\n'.encode("ascii")


def decode_call(line: bytes, graders: Mapping[str, LoadedGrader]) -> tuple[LoadedGrader, dict[str, Any], int]:
    """Read a call: the grader, its arguments, and how many completions they hold."""
    call = json.loads(line)
    grader, inputs = graders[call["grader"]], call["inputs"]
    pool: dict[str, Any] = {}
    if "task" in inputs:
        task = inputs["task"]
        pool["task"] = Task(**task | {"messages": tuple(task["messages"])})
    if "rollouts" in inputs:
        pool["rollouts"] = [_read_rollout(one) for one in inputs["rollouts"]]
        pool["rollout"] = pool["rollouts"][0]
        pool["completions"] = [rollout.text for rollout in pool["rollouts"]]
    else:
        pool["completions"] = inputs["texts"]
    pool["completion"] = pool["completions"][0]
    return grader, {name: pool[name] for name in grader.takes}, len(pool["completions"])


def encode_scores(scores: Sequence[Score], seconds: float, traceback: str = "") -> bytes:
    """Write scores, how long the grader took, and where it was if it raised, as a line."""
    rows = [[score.value, score.status, score.reason, score.answer] for score in scores]
    return json.dumps([rows, seconds, traceback] if traceback else [rows, seconds]).encode("ascii") + b"\n"


def decode_scores(line: bytes | str, count: int) -> tuple[list[Score], str]:
    """Read the scores of `count` completions, and the traceback of a grader that raised; empty where it did not.

    Raises:
        ValueError: The line holds something else; who wrote it has been tampered with.
    """
    try:
        rows, seconds, *traceback = json.loads(line)
        scores = [
            Score(value=_number(value), status=Status(status), reason=reason, answer=answer, seconds=float(seconds))
            for value, status, reason, answer in rows
        ]
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{line[:80]!r} holds no scores: {error}") from error
    if len(scores) != count:
        raise ValueError(f"{len(scores)} scores for {count} completions")
    return scores, str(traceback[0]) if traceback else ""


def _number(value: Any) -> float | None:
    if value is not None and type(value) not in (int, float):
        raise ValueError(f"{value!r} is no number")
    return value if value is None else float(value)


def _rollout(rollout: Rollout) -> dict[str, Any]:
    return {
        "task_id": rollout.task_id,
        "index": rollout.index,
        "prompt_ids": rollout.prompt_ids,
        "completion_ids": rollout.completion_ids,
        "logprobs": rollout.logprobs,
        "text": rollout.text,
        "stop": rollout.stop,
        "policy": {"version": rollout.policy.version, "fingerprint": rollout.policy.fingerprint},
    }


def _read_rollout(values: dict[str, Any]) -> Rollout:
    sequences = {name: tuple(values[name]) for name in ("prompt_ids", "completion_ids", "logprobs")}
    return Rollout(**values | sequences | {"stop": StopReason(values["stop"]), "policy": Policy(**values["policy"])})


def _unfit(task: Task, error: BaseException) -> str:
    """Name the columns that JSON cannot hold."""
    columns = []
    for column, value in task.item.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            columns.append(f"column '{column}' (of type {type(value).__name__})")
    return (
        f"task {task.id} cannot be handed to a worker process as JSON: {', '.join(columns) or error}; "
        "write it as text or numbers in the task file, or mark the grader with in_process = True"
    )
