"""The lines of rollouts.jsonl, as types."""

from __future__ import annotations

from typing import Any, TypedDict

from rft.types import Message


class PolicyRecord(TypedDict):
    """The policy that sampled a completion: `rft.types.Policy` as JSON."""

    version: int
    """Version of the policy; 0 is the base model."""
    fingerprint: str
    """Hash of the weights, 16 hexadecimal digits."""


class ScoreRecord(TypedDict):
    """One grader's result: `rft.types.Score` as JSON."""

    value: float | None
    """The score, or None."""
    status: str
    """`ok`, `no answer`, `invalid output`, `skipped`, `grader error` or `timeout`."""
    reason: str | None
    """Reason for the score, or for its absence."""
    answer: str | None
    """The answer that the grader extracted from the completion."""
    seconds: float
    """Duration of the grading."""


class RolloutRecord(TypedDict):
    """One completion with its grades: a line of rollouts.jsonl.

    Example:
        {"step": 3, "phase": "train", "task_id": "3f1c...", "completion": "4", "reward": 1.0, ...}
    """

    step: int
    """The step that sampled the completion; 0 before the first step."""
    phase: str
    """Purpose of the completion: `train`, `before`, `after` or another of `rft.config.phases`."""
    task_id: str
    """`Task.id` of the task."""
    split: str
    """`train`, `validation` or `test`."""
    messages: list[Message]
    """The prompt as a chat."""
    item: dict[str, Any]
    """The other columns of the task's row."""
    index: int
    """Position in the group, from 0."""
    completion: str
    """The text."""
    num_completion_tokens: int
    """Length of the completion, tokens."""
    stop: str
    """Reason for the end: `stop`, `length` or `abort`."""
    policy: PolicyRecord
    """The policy that sampled the completion."""
    scores: dict[str, ScoreRecord]
    """Scores by grader name."""
    reward: float | None
    """The weighted sum of the scores; None if a needed score is missing."""


class TokensRecord(TypedDict):
    """The tokens of a completion; `rft.run_folder.recorded_tokens.tokens_of` reads them."""

    ids: str
    """Token ids, little-endian uint32 in base64."""
    logprobs: str
    """Log-probabilities of the sampler, little-endian float16 in base64."""
