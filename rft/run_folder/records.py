"""The lines of rollouts.jsonl, as types."""

from __future__ import annotations

from typing import Any, TypedDict

from rft.types import Message


class PolicyRecord(TypedDict):
    """Which weights sampled a completion: `rft.types.Policy` as JSON."""

    version: int
    """0 is the base model."""
    fingerprint: str
    """Hash of the weights, 16 hexadecimal digits."""


class ScoreRecord(TypedDict):
    """One grader's result: `rft.types.Score` as JSON."""

    value: float | None
    """The score; None if there is none."""
    status: str
    """`ok`, `no answer`, `invalid output`, `skipped`, `grader error` or `timeout`."""
    reason: str | None
    """Why, in words."""
    answer: str | None
    """What the grader took for the answer."""
    seconds: float
    """How long grading took."""


class RolloutRecord(TypedDict):
    """One completion with its grades: a line of rollouts.jsonl.

    Example:
        {"step": 3, "phase": "train", "task_id": "3f1c...", "completion": "4", "reward": 1.0, ...}
    """

    step: int
    """The step that sampled it; 0 before the first."""
    phase: str
    """What it was sampled for: `train`, `validation`, `before`, `after`, `pass rate` or `test`."""
    task_id: str
    """`Task.id` of its task."""
    split: str
    """`train`, `validation` or `test`."""
    messages: list[Message]
    """The prompt as a chat."""
    item: dict[str, Any]
    """The other columns of the task's row."""
    index: int
    """Position in its group, from 0."""
    completion: str
    """The text."""
    num_completion_tokens: int
    """Length of the completion, tokens."""
    stop: str
    """Why it ended: `stop`, `length` or `abort`."""
    policy: PolicyRecord
    """The policy that sampled it."""
    scores: dict[str, ScoreRecord]
    """Scores by grader name."""
    reward: float | None
    """The weighted sum of the scores; None if a needed score is missing."""
