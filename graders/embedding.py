"""Embedding: the similarity in meaning of the final answer and a text in a column of the task, by a model of
embeddings.

graders:
  close:
    use: embedding
    base_url: http://localhost:8000/v1
    model: embedder
    api_key_env: EMBEDDING_KEY    # the name of an environment variable, never the key itself
    zero_at: 0.6
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.clients.model_client import ModelCallError, ModelClient
from rft.grading.clients.outage import OUTAGE_S

MAX_REASON_CHARS = 500


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Scores the cosine of the two embeddings, with `zero_at` to 1 mapped to 0 to 1, and 0 below.

    Most models give any two texts a cosine well above 0: measure the cosine of wrong answers and set `zero_at` to it.
    Embeddings represent the topic better than the claim: "it is Paris" and "it is not Paris" are similar. A task with
    an empty column is skipped.
    """

    deterministic: ClassVar[bool] = True

    base_url: str
    """Address of the API, as `http://localhost:8000/v1`."""
    model: str
    """The model's name at the endpoint."""
    api_key_env: str | None = None
    """Environment variable with the key; None sends no key."""
    column: str = "answer"
    """The task's column with the reference."""
    zero_at: float = 0.0
    """The cosine that scores 0."""
    max_completion_chars: int = 20_000
    """A longer answer scores 0 without a call; models cut or reject texts beyond their context."""
    attempts: int = 4
    """Total number of attempts, as with `endpoint`."""
    attempt_timeout_s: float = 10.0
    """Deadline of one attempt in seconds."""
    backoff_s: float = 0.5
    """Seconds before the second attempt; doubled with each attempt, unless `Retry-After` asks for more (at most 30)."""
    outage_s: float = OUTAGE_S
    """Seconds to wait for a service that is down but has answered before. They do not count towards `timeout_s`."""

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.zero_at < 1:
            problems.append(f"zero_at={self.zero_at} must be at least 0 and below 1")
        if self.attempts < 1 or self.max_completion_chars < 1:
            problems.append("attempts and max_completion_chars must be at least 1")
        try:
            _ = self.client
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))

    @cached_property
    def client(self) -> ModelClient:
        """The model."""
        retries = self.attempts - 1
        return ModelClient(
            self.base_url,
            self.model,
            self.api_key_env,
            self.attempt_timeout_s,
            retries,
            backoff_s=self.backoff_s,
            outage_s=self.outage_s,
        )

    async def grade(self, completion: str, task: Task) -> Score | None:
        """Compare the answer with the reference."""
        given = reference(task, self.column)
        if given is None:
            return None
        expected, answer = str(given).strip(), final_answer(completion)
        if not expected:
            raise ValueError(f"the reference of task {task.id} is an empty text")
        if not answer:
            return Score(value=0.0, status=Status.NO_ANSWER)
        if len(answer) > self.max_completion_chars:
            reason = f"longer than {self.max_completion_chars} characters"
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=reason)
        if answer == expected:
            return Score(value=1.0, answer=answer[:200], reason="equal")
        try:
            cosine = _cosine(*await self.client.embed([answer, expected]))
        except ModelCallError as error:
            return Score(value=None, status=Status.GRADER_ERROR, reason=str(error)[:MAX_REASON_CHARS])
        value = min(1.0, max(0.0, (cosine - self.zero_at) / (1 - self.zero_at)))
        return Score(value=value, answer=answer[:200], reason=f"cosine {cosine:.3f}")


def _cosine(a: list[float], b: list[float]) -> float:
    norms = math.hypot(*a) * math.hypot(*b)
    if not norms:
        raise ModelCallError("an embedding is zero")
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / norms
