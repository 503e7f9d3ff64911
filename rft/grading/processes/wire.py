"""The protocol between this process and the workers: one line of JSON for each call and each reply. Never pickle.

A call contains only the inputs that its grader takes. A reply contains `Score`s that the worker has made. The JSON of
the inputs is also part of the cache's key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rft.grading.contract import LoadedGrader
from rft.turns import turn_from_json, turn_to_json
from rft.types import Policy, Rollout, Score, Status, StopReason, Task


def arguments_of(grader: LoadedGrader, task: Task, rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """Return the arguments of a grader by name, for one rollout or for the rollouts of a group."""
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
    """Write a grader's inputs as JSON.

    Raises:
        ValueError: JSON cannot hold a column of the task; the message names the column.
    """
    inputs: dict[str, Any] = {}
    if "task" in grader.takes:
        inputs["task"] = {"id": task.id, "messages": task.messages, "item": task.item, "split": task.split}
        if task.family:
            inputs["task"]["family"] = task.family
    if "rollout" in grader.takes or "rollouts" in grader.takes:
        inputs["rollouts"] = [_rollout(rollout) for rollout in rollouts]
    else:
        inputs["texts"] = [rollout.text for rollout in rollouts]
    try:
        return json.dumps(inputs)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(_unfit(task, error)) from error


def encode_call(grader: LoadedGrader, inputs: str) -> bytes:
    """Return a call as a line, from the JSON of its inputs."""
    return f'{{"grader": {json.dumps(grader.name)}, "inputs": {inputs}}}\n'.encode("ascii")


def decode_call(line: bytes, graders: Mapping[str, LoadedGrader]) -> tuple[LoadedGrader, dict[str, Any], int]:
    """Read a call: the grader, its arguments, and the number of completions."""
    call = json.loads(line)
    grader, inputs = graders[call["grader"]], call["inputs"]
    pool: dict[str, Any] = {}
    if "task" in inputs:
        task = inputs["task"]
        pool["task"] = Task(**task | {"messages": tuple(task["messages"])})
    if "rollouts" in inputs:
        pool["rollouts"] = [_read_rollout(rollout) for rollout in inputs["rollouts"]]
        pool["rollout"] = pool["rollouts"][0]
        pool["completions"] = [rollout.text for rollout in pool["rollouts"]]
    else:
        pool["completions"] = inputs["texts"]
    pool["completion"] = pool["completions"][0]
    return grader, {name: pool[name] for name in grader.takes}, len(pool["completions"])


def encode_scores(scores: Sequence[Score], seconds: float, traceback: str = "") -> bytes:
    """Return scores as a line, with the duration of the call and the traceback of an exception."""
    rows = [[score.value, score.status, score.reason, score.answer] for score in scores]
    return json.dumps([rows, seconds, traceback] if traceback else [rows, seconds]).encode("ascii") + b"\n"


def decode_scores(line: bytes | str, count: int) -> tuple[list[Score], str]:
    """Read the scores of `count` completions, and the traceback of the grader; empty without an exception.

    Raises:
        ValueError: The line contains something else; the worker has been tampered with.
    """
    try:
        rows, seconds, *traceback = json.loads(line)
        scores = [
            Score(value=_number(value), status=Status(status), reason=reason, answer=answer, seconds=float(seconds))
            for value, status, reason, answer in rows
        ]
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{line[:80]!r} contains no scores: {error}") from error
    if len(scores) != count:
        raise ValueError(f"{len(scores)} scores for {count} completions")
    return scores, str(traceback[0]) if traceback else ""


def _number(value: Any) -> float | None:
    if value is not None and type(value) not in (int, float):
        raise ValueError(f"{value!r} is not a number")
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
        **({"turns": list(map(turn_to_json, rollout.turns))} if rollout.turns else {}),
    }


def _read_rollout(values: dict[str, Any]) -> Rollout:
    sequences = {name: tuple(values[name]) for name in ("prompt_ids", "completion_ids", "logprobs")}
    turns = tuple(map(turn_from_json, values.get("turns", ())))
    others = {"stop": StopReason(values["stop"]), "policy": Policy(**values["policy"]), "turns": turns}
    return Rollout(**values | sequences | others)


def _unfit(task: Task, error: BaseException) -> str:
    """Return an error that names the columns that JSON cannot hold."""
    columns = []
    for column, value in task.item.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            columns.append(f"column '{column}' (of type {type(value).__name__})")
    return (
        f"JSON cannot carry task {task.id} to a worker process: {', '.join(columns) or error}; "
        "write it as text or numbers in the task file, or mark the grader with in_process = True"
    )
