"""The records that flow through a run, one type per stage.

The type of a record shows its stage: sampling turns a `Task` into `Rollout`s, grading adds a `Grade` to each `Rollout`,
and the learner receives `GradedGroup`s. Records are frozen; no field is filled in later. Standard library only.
"""

from __future__ import annotations

import math
import pickle
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from rft.turns import Turn, trained_tokens

EQUAL_REWARDS = 1e-6
"""Relative tolerance for equal rewards: 0.1 + 0.2 equals 0.3."""

Message = Mapping[str, Any]
"""One chat message in OpenAI's format: `{"role": "user", "content": "..."}`."""


class Split(StrEnum):
    """Purpose of a task."""

    TRAIN = "train"
    """For training."""
    VALIDATION = "validation"
    """Measured during the run; never used for training."""
    TEST = "test"
    """Measured before and after the run, never in between; never used for training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One problem for the model.

    Example:
        Task(id="3f1c...", messages=({"role": "user", "content": "2 + 2 = ?"},), item={"answer": "4"}, split="train")
    """

    id: str
    """Stable id: the row's own `id`, or a hash of its content (16 hexadecimal digits)."""
    messages: tuple[Message, ...]
    """The prompt as a chat; the last message is not the assistant's."""
    item: Mapping[str, Any]
    """All other columns of the row, unchanged, for the graders."""
    split: Split
    """Purpose of the task."""
    family: str = ""
    """Name of its family in `data.mixture`; empty without a mixture."""
    where: str = field(default="", compare=False)
    """Origin in messages, such as `tasks.jsonl:17`; empty without a source."""


class StopReason(StrEnum):
    """Reason for the end of a completion."""

    STOP = "stop"
    """The model emitted an end token."""
    LENGTH = "length"
    """The completion, or a turn of it, reached `max_completion_tokens`."""
    TURNS = "turns"
    """The episode reached `environment.max_turns`."""
    CONTEXT = "context"
    """The context had no room for another turn."""
    FORK = "fork"
    """The agent rewrote the history of the episode, so there is no single sequence of tokens to learn from."""
    ABORT = "abort"
    """The sampler aborted the completion, or the environment failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Identity of a set of weights.

    Example:
        Policy(version=3, fingerprint="9b2e51c07d44a1f0")
    """

    version: int
    """0 for the base model; each publication adds 1."""
    fingerprint: str
    """Hash of the adapter's tensors (for version 0, of the base model's files), 16 hexadecimal digits."""

    @property
    def name(self) -> str:
        """Name that is unique among all runs, such as `policy-v3-9b2e51c07d44a1f0`."""
        return f"policy-v{self.version}-{self.fingerprint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter on its way from the learner to the samplers and to disk.

    Example:
        Adapter(policy=Policy(version=3, fingerprint="9b2e..."), config={"r": 16, ...}, tensors=b"...")
    """

    policy: Policy
    """The policy of these weights."""
    config: Mapping[str, Any]
    """PEFT's `adapter_config.json`, as an object."""
    tensors: bytes
    """PEFT's `adapter_model.safetensors`, as bytes."""

    @property
    def num_bytes(self) -> int:
        """Size of the tensors."""
        return len(self.tensors)


@dataclass(frozen=True, slots=True, kw_only=True)
class FullWeights:
    """All weights of a fully fine-tuned model on their way from the learner to the samplers and to disk.

    Example:
        FullWeights(policy=Policy(version=3, fingerprint="9b2e..."), tensors=b"...")
    """

    policy: Policy
    """The policy of these weights."""
    tensors: bytes | memoryview
    """Every tensor of the model under its checkpoint name, as the content of a safetensors file; a read-only view of a
    mapped file or of Ray's object store."""

    @property
    def num_bytes(self) -> int:
        """Size of the tensors."""
        return len(self.tensors)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickle the tensors as a buffer, which Ray stores and reads without further copies."""
        tensors = pickle.PickleBuffer(self.tensors) if protocol >= 5 else bytes(self.tensors)
        return _full_weights, (self.policy, tensors)


def _full_weights(policy: Policy, tensors: Any) -> FullWeights:
    return FullWeights(policy=policy, tensors=tensors if isinstance(tensors, bytes) else memoryview(tensors).cast("B"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWeights:
    """A reference to an `Adapter` or `FullWeights` in Ray's object store.

    The process that stored the weights owns them. They disappear when it ends, or when no process holds a reference.

    Example:
        StoredWeights(policy=Policy(version=3, fingerprint="9b2e..."), num_bytes=1048576, reference=ray.put(adapter))
    """

    policy: Policy
    """The policy of these weights."""
    num_bytes: int
    """Size of the tensors."""
    reference: Any
    """Ray's `ObjectRef`. Ray passes the weights themselves to an actor method that gets this as an argument."""


Logprobs = tuple[tuple[float, ...], ...]
"""`[N][L - 1]` log-probability of every token but the first of N sequences of L tokens, at temperature 1."""


class TopTokens(NamedTuple):
    """The k most probable next tokens at each of C positions, the most probable first, and their log-probabilities.

    Example:
        TopTokens(k=2, ids=array("i", [7, 2]), logprobs=array("f", [-0.1, -2.5]))
    """

    k: int
    ids: array[int]
    """`[C k]` token ids, position by position."""
    logprobs: array[float]
    """`[C k]` log-probabilities at temperature 1, in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A policy from the learner: its weights, and its log-probabilities of the canaries.

    The canaries are a few fixed token sequences. Sampler and learner score the same canaries, so equal scores prove
    that both have the same policy.

    Example:
        Publication(weights=Adapter(...), canary_logprobs=((-0.1, -2.3),), base_canary_logprobs=((-0.4, -1.9),))
    """

    weights: Adapter | FullWeights | StoredWeights
    """The weights. A learner in another process publishes a reference, so that only the samplers read them."""
    canary_logprobs: Logprobs = ()
    """The learner's scores of the canaries under this policy; empty without a learner."""
    base_canary_logprobs: Logprobs = ()
    """The learner's scores of the canaries under the base model."""

    @property
    def policy(self) -> Policy:
        """The policy."""
        return self.weights.policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """Result of a sync: one policy, loaded by every sampler.

    Example:
        Sync(policy=Policy(...), proved=True, metrics={"sync/canary_gap_mean": 2e-7, "sync/bytes": 1048576.0})
    """

    policy: Policy
    """The policy of every sampler."""
    proved: bool
    """Whether every sampler passed the proof, which requires a learner to compare with."""
    metrics: Mapping[str, float]
    """Metrics of the proof, `sync/...`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One sampled completion of a task. The learner trains on exactly these token ids.

    Example:
        Rollout(task_id="3f1c...", index=0, prompt_ids=(5, 9), completion_ids=(7, 2), logprobs=(-0.1, -0.3),
                text="4", stop=StopReason.STOP, policy=Policy(version=3, fingerprint="9b2e..."))
    """

    task_id: str
    """`Task.id` of the task that was sampled."""
    index: int
    """Position in its group, from 0 to `completions_per_prompt - 1`."""
    prompt_ids: tuple[int, ...]
    """`[P]` token ids of the rendered prompt."""
    completion_ids: tuple[int, ...]
    """`[C]` token ids from the sampler, including the end token."""
    logprobs: tuple[float, ...]
    """`[C]` log-probability of each completion token under the sampler, at the sampling temperature; 0 for tokens that
    the policy did not sample."""
    text: str
    """The decoded completion, without special tokens; of an episode the text of its last turn of the policy."""
    stop: StopReason
    """Reason for the end."""
    policy: Policy
    """The sampling policy."""
    turns: tuple[Turn, ...] = ()
    """The turns of an episode, which divide the completion; empty if the policy sampled all tokens at once."""
    environment: Score | None = None
    """The environment's score; None without an environment."""

    def __post_init__(self) -> None:
        if self.turns:
            trained_tokens(self.turns, len(self.completion_ids))
        if len(self.completion_ids) != len(self.logprobs):
            raise ValueError(
                f"rollout {self.index} of task {self.task_id} has {len(self.completion_ids)} completion tokens "
                f"but {len(self.logprobs)} log-probabilities"
            )

    @property
    def trained(self) -> tuple[bool, ...]:
        """`[C]` whether the policy sampled each completion token."""
        return trained_tokens(self.turns, len(self.completion_ids))


class Status(StrEnum):
    """Outcome of a grader for one completion. The first three concern the model, the others the grader."""

    OK = "ok"
    """Graded."""
    NO_ANSWER = "no answer"
    """The completion has no answer: the model's fault, scored with the grader's minimum."""
    INVALID_OUTPUT = "invalid output"
    """The answer is unreadable (not a number, not JSON): the model's fault, scored with the grader's minimum."""
    SKIPPED = "skipped"
    """The grader returned None, for example without a reference."""
    GRADER_ERROR = "grader error"
    """The grader raised an exception or returned an invalid score."""
    TIMEOUT = "timeout"
    """The grader did not finish before its deadline."""
    ENVIRONMENT_ERROR = "environment error"
    """The environment failed, so the episode has no reward, whatever its graders say."""

    @property
    def has_value(self) -> bool:
        """Whether a score with this status has a value."""
        return self in (Status.OK, Status.NO_ANSWER, Status.INVALID_OUTPUT)

    @property
    def is_grader_fault(self) -> bool:
        """Whether the grader or the environment is at fault, not the model."""
        return self in (Status.GRADER_ERROR, Status.TIMEOUT, Status.ENVIRONMENT_ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One grader's result for one completion. A grader's failure has no value; it is never a zero.

    Example:
        Score(value=1.0, answer="4", reason="equal to the reference")
    """

    value: float | None
    """The finite score; None exactly if the status has no value."""
    status: Status = Status.OK
    """Outcome of the grader."""
    reason: str | None = None
    """Reason in words, for the log."""
    answer: str | None = None
    """The answer that the grader extracted."""
    seconds: float = 0.0
    """Duration of grading, in seconds."""

    def __post_init__(self) -> None:
        if self.status.has_value != (self.value is not None):
            raise ValueError(f"a score with status '{self.status}' cannot have the value {self.value}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a score must be finite, not {self.value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """All graders' results for one completion and their combination.

    Example:
        Grade(scores={"correct": Score(value=1.0)}, reward=1.0)
    """

    scores: Mapping[str, Score]
    """Scores by grader name."""
    reward: float | None
    """Weighted sum of the scores; None if a score with a weight other than 0 has no value."""
    turn_rewards: tuple[float, ...] = ()
    """`[K]` parts of the reward by turn of the policy; empty if the environment gave no rewards by turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedGroup:
    """A task, its rollouts and their grades, index by index.

    Example:
        GradedGroup(task=task, rollouts=(rollout_0, rollout_1), grades=(grade_0, grade_1))
    """

    task: Task
    """The task."""
    rollouts: tuple[Rollout, ...]
    """`[G]` rollouts, ordered by index."""
    grades: tuple[Grade, ...]
    """`[G]` grades, in the same order."""
    teacher_logprobs: tuple[tuple[float, ...] | None, ...] = ()
    """`[G][C]` the teacher's log-probability of each completion token, at temperature 1; None for a completion that the
    teacher could not score. Empty without a teacher."""
    teacher_top: tuple[TopTokens | None, ...] = ()
    """`[G]` the teacher's most probable tokens at each completion token; empty if only sampled tokens are compared."""

    def __post_init__(self) -> None:
        if len(self.rollouts) != len(self.grades):
            raise ValueError(
                f"group of task {self.task.id}: {len(self.rollouts)} rollouts but {len(self.grades)} grades"
            )
        expected = [len(rollout.completion_ids) for rollout in self.rollouts]
        tops = [None if top is None else len(top.ids) // top.k for top in self.teacher_top]
        for given in ([None if row is None else len(row) for row in self.teacher_logprobs], tops):
            fits = len(given) == len(expected) and all(a in (None, b) for a, b in zip(given, expected, strict=True))
            if given and not fits:
                raise ValueError(f"group of task {self.task.id}: completions of {expected} tokens but {given} scores")

    @property
    def rewards(self) -> list[float | None]:
        """`[G]` rewards; None for missing rewards."""
        return [grade.reward for grade in self.grades]

    @property
    def is_informative(self) -> bool:
        """Whether the rewards differ, so that a group-relative method can learn from them."""
        known = [reward for reward in self.rewards if reward is not None]
        return bool(known) and not math.isclose(min(known), max(known), rel_tol=EQUAL_REWARDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """Report of one step.

    Example:
        StepReport(step=3, policy=Policy(...), metrics={"reward/mean": 0.4}, drops={}, seconds={"sample": 0.4})
    """

    step: int
    """Number of the step, from 1."""
    policy: Policy
    """The policy of the samplers after the step."""
    metrics: Mapping[str, float]
    """Numbers by name: rewards, scores, lengths, and the learner's own (`learner/...`)."""
    drops: Mapping[str, int] = field(default_factory=dict)
    """Rollouts without a reward, by cause."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time by phase: `sample_and_grade`, `learn`, `sync`."""
