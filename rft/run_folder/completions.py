"""Reads recorded completions of a run or a file as tasks and rollouts to grade."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft.config.environment import SCORE
from rft.data.files import Flaw, data_error
from rft.data.messages import BadRow, to_messages, type_name
from rft.data.sources import read_rows
from rft.data.tasks import refuse_flaws, renamed, to_task
from rft.events import Phase
from rft.run_folder.rollout_files import rollout_paths
from rft.turns import Turn, trained_tokens, turn_from_json
from rft.types import Policy, Rollout, Score, Split, Status, StopReason, Task

COLUMNS = ("completion", "output", "response")
"""Names of the column with the completion."""

TOKENS = "num_completion_tokens"
RUN_COLUMNS = frozenset({"step", "phase", "task_id", "split", "item", "stop", "policy"})
"""Columns that identify a line of a run."""

MAX_TOKENS = 1_000_000
"""Limit for a recorded completion. A larger number is a mistake and would fill the memory."""
UNKNOWN_TOKEN = -1
"""Placeholder for each token: the number of tokens is recorded, but not their ids."""


@dataclass(slots=True, kw_only=True)
class RecordedGroup:
    """The completions of one task, in the order of their lines."""

    task: Task
    """The task."""
    rollouts: list[Rollout]
    """`[G]` completions; prompt ids are empty, and log-probabilities are NaN."""
    places: list[str]
    """`[G]` file and line of each completion."""


def read_completions(source: str, *, columns: Mapping[str, str], phase: Phase | None) -> list[RecordedGroup]:
    """Read recorded completions.

    Lines of a run form a group if they have the same task and step. Other lines form a group if they differ only in the
    completion.

    Args:
        source: A run folder, or a source of `rft.data.sources.read_rows`.
        columns: Maps rft's column names to those of the source, such as `{"completion": "text"}`.
        phase: Phase of a run to read; None reads all.

    Raises:
        DataError: Contains every flaw of the source, or the reason why the source is unreadable.
    """
    of_run = rollout_paths(Path(source).expanduser())
    files = [str(path) for path in of_run] or [source]
    groups: dict[str, RecordedGroup] = {}
    flaws: list[Flaw] = []
    for row in (row for file in files for row in read_rows(file, key="data")):
        if isinstance(row, Flaw):
            flaws.append(row)
            continue
        try:
            content = renamed(row.content, columns)
            if phase is None or content.get("phase") == phase:
                _add(content, row.where, groups)
        except BadRow as error:
            flaws.append(Flaw(row.where, str(error)))
    if flaws and of_run and flaws[-1].where == f"{files[-1]}:{_unfinished_line(of_run[-1])}":
        flaws.pop()
    refuse_flaws(flaws, files[-1])
    if not groups:
        of_phase = f" of the phase {phase}" if phase else ""
        raise data_error(f"data={source}: it contains no completion{of_phase}")
    return list(groups.values())


def _add(content: Mapping[str, Any], where: str, groups: dict[str, RecordedGroup]) -> None:
    """Turn a line into a task and a rollout, and add them to their group."""
    column = _completion_column(content)
    text, num_tokens = content[column], content.get(TOKENS, 0)
    if not isinstance(text, str):
        raise BadRow(f'"{column}" must be a string, not {type_name(text)}')
    if type(num_tokens) is not int or num_tokens < 0:
        raise BadRow(f'"{TOKENS}" must be an integer, not {json.dumps(num_tokens, default=str)}')
    if num_tokens > MAX_TOKENS:
        raise BadRow(f'"{TOKENS}" is {num_tokens:,}; at most {MAX_TOKENS:,} are allowed')
    is_of_run = content.keys() >= RUN_COLUMNS
    task = (
        _task_of_run(content)
        if is_of_run
        else to_task(_others(content, column), split=Split.TEST, system=None, where=where)
    )
    step = [content["step"], content["phase"]] if is_of_run else []
    key = json.dumps([step, task.id, task.messages, task.item], sort_keys=True, default=str)
    group = groups.setdefault(key, RecordedGroup(task=task, rollouts=[], places=[]))
    rollout = Rollout(
        task_id=task.id,
        index=len(group.rollouts),
        prompt_ids=(),
        completion_ids=(UNKNOWN_TOKEN,) * num_tokens,
        logprobs=(math.nan,) * num_tokens,
        text=text,
        stop=_stop(content) if is_of_run else StopReason.STOP,
        policy=_policy(content) if is_of_run else Policy(version=0, fingerprint="unknown"),
        turns=_turns(content, num_tokens) if is_of_run else (),
        environment=_environment(content) if is_of_run else None,
    )
    group.rollouts.append(rollout)
    group.places.append(where)


def _completion_column(content: Mapping[str, Any]) -> str:
    present = [column for column in COLUMNS if content.get(column) is not None]
    if not present:
        names = ", ".join(content) or "no columns"
        raise BadRow(f'no "completion"; it has: {names} (map one with data.columns.completion=<column>)')
    if len(present) > 1 and present[0] != "completion":
        raise BadRow('both "output" and "response"; select one with data.columns.completion=output')
    return present[0]


def _others(content: Mapping[str, Any], column: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in (column, TOKENS)}


def _task_of_run(content: Mapping[str, Any]) -> Task:
    item, split = content["item"], content["split"]
    if not isinstance(item, dict):
        raise BadRow(f'"item" must be an object, not {type_name(item)}')
    if split not in list(Split):
        raise BadRow(f'"split" is {json.dumps(split)}; allowed: {", ".join(Split)}')
    # The environment of an episode may speak first.
    has_prompt = content.get("messages") or "turns" not in content
    messages = to_messages(content.get("messages"), column="messages") if has_prompt else ()
    return Task(id=str(content["task_id"]), messages=messages, item=item, split=Split(split))


def _stop(content: Mapping[str, Any]) -> StopReason:
    if content["stop"] not in list(StopReason):
        raise BadRow(f'"stop" is {json.dumps(content["stop"])}; allowed: {", ".join(StopReason)}')
    return StopReason(content["stop"])


def _turns(content: Mapping[str, Any], num_tokens: int) -> tuple[Turn, ...]:
    try:
        turns = tuple(map(turn_from_json, content.get("turns", ())))
        trained_tokens(turns, num_tokens)
    except (KeyError, TypeError, ValueError) as error:
        raise BadRow(f'"turns" are not those of an episode: {error}') from error
    return turns


def _environment(content: Mapping[str, Any]) -> Score | None:
    """Return the recorded score of the environment, which grading again cannot compute."""
    recorded = (content.get("scores") or {}).get(SCORE)
    if recorded is None:
        return None
    try:
        return Score(**recorded | {"status": Status(recorded["status"])})
    except (KeyError, TypeError, ValueError) as error:
        raise BadRow(f'"scores" has no valid score of the environment: {error}') from error


def _policy(content: Mapping[str, Any]) -> Policy:
    policy = content["policy"]
    if not isinstance(policy, dict) or policy.keys() != {"version", "fingerprint"}:
        raise BadRow('"policy" must be an object with "version" and "fingerprint"')
    return Policy(**policy)


def _unfinished_line(path: Path) -> int | None:
    """Return the number of an incomplete last line, which a running or killed run leaves; None if it is complete."""
    content = path.read_bytes()
    return None if content.endswith(b"\n") else content.count(b"\n") + 1
