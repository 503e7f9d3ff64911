r"""Reward model: a sequence classifier of Transformers rates the prompt with the final answer.

graders:
  quality:
    use: reward_model
    model: Skywork/Skywork-Reward-V2-Qwen3-0.6B   # or a folder
    timeout_s: 120                                # for the wait in the queue and the batch
    num_gpus: 0.2

A run loads the model once, in a Ray actor with its own share of a GPU, and batches the completions of all calls. The
commands `rft check`, `rft grade`, `rft audit` and `rft serve-grader` load it in their own process.

A policy exploits the errors of a reward model. Watch a grader of another kind (weight 0) and the length of completions.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

from rft.grading import Score, Status, Task, final_answer
from rft.grading.models.batches import Batches, Reward, Row, ScoreRows
from rft.grading.models.model_grader import ModelGrader
from rft.grading.models.reward_scorer import RewardScorer, ScorerSettings

DECIMALS = 4
"""Scores are rounded, because the last digits of a reward depend on the other rows of its batch."""


@dataclass(frozen=True, kw_only=True)
class RewardModel(ModelGrader):
    """Scores the model's reward, mapped to 0 to 1 by the logistic function, rounded to 4 decimals.

    The score is the probability with which a Bradley-Terry model prefers the answer to one of reward 0.
    """

    needs: ClassVar[tuple[str, ...]] = ("torch",)
    deterministic: ClassVar[bool] = True

    model: str
    """The model: a folder, or an id on the hub. On a cluster, a folder must exist on every node with a GPU."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    input: Literal["chat", "pair"] | None = None
    """`chat` renders prompt and answer with the model's chat template; `pair` passes them as two texts. None selects
    `chat` if the model has a template."""
    label: int | None = None
    """Index of the label whose logit is the reward, for a model with several labels."""
    normalise: Literal["sigmoid", "none"] = "sigmoid"
    """`none` scores the model's output, which has no limits."""
    max_tokens: int | None = None
    """Limit of the input; a longer input loses its beginning. None uses the model's limit, at most 4096."""
    batch_size: int = 16
    """Maximum number of completions in a batch. With 1, scores do not depend on the order of arrival."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    num_gpus: float | None = None
    """GPUs of the model, or its share of one; 0 uses the CPU. None divides the GPUs among all processes of the run."""
    num_threads: int = 1
    """CPU threads of the model."""
    start_timeout_s: float = 600.0
    """Deadline for loading the model, in seconds."""

    def __post_init__(self) -> None:
        problems = []
        if self.batch_size < 1 or self.num_threads < 1 or (self.max_tokens is not None and self.max_tokens < 1):
            problems.append("batch_size, num_threads and max_tokens must be at least 1")
        if self.num_gpus is not None and not (0 <= self.num_gpus <= 1):
            problems.append(f"num_gpus={self.num_gpus:g} must be from 0 to 1, as the model runs on one GPU")
        if self.start_timeout_s <= 0:
            problems.append("start_timeout_s must be above 0")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def settings(self) -> ScorerSettings:
        """The settings of the model."""
        return ScorerSettings(
            model=self.model,
            revision=self.revision,
            input=self.input,
            label=self.label,
            max_tokens=self.max_tokens,
            dtype=self.dtype,
            num_threads=self.num_threads,
        )

    @cached_property
    def model_fingerprint(self) -> str:
        """Hash of the model's files."""
        return self.settings.fingerprint()

    def memory(self, *, on_gpu: bool) -> Mapping[str, int]:
        """Return the bytes of the weights and of one batch of full length."""
        return self.settings.memory(self.batch_size, on_gpu=on_gpu)

    def connect(self, score_rows: ScoreRows) -> None:
        """Score with a model that is loaded elsewhere."""
        self._batches.score_rows = score_rows

    def close(self) -> None:
        """Release the model."""
        self._batches.close()

    def load_here(self) -> None:
        """Load the model in this process, unless it is loaded here or a run has started it."""
        if self._batches.score_rows is None:
            self.connect(_scoring_here(self.settings, gpus=0 if self.num_gpus == 0 else None))

    async def grade(self, completion: str, task: Task) -> Score:
        """Score the completion in the next batch."""
        row = Row(list(map(dict, task.messages)), final_answer(completion))
        reward = await self._batches.score(row)
        if not math.isfinite(reward.value):
            return Score(value=None, status=Status.GRADER_ERROR, reason=f"the model's reward is {reward.value}")
        value = _sigmoid(reward.value) if self.normalise == "sigmoid" else reward.value
        reason = f"reward {reward.value:.4g}"
        if reward.num_tokens > reward.max_tokens:
            reason += f", for the last {reward.max_tokens} of {reward.num_tokens} tokens"
        return Score(value=round(value, DECIMALS), answer=row.answer[:200], reason=reason)

    @cached_property
    def _batches(self) -> Batches:
        return Batches(self.batch_size)


def _scoring_here(settings: ScorerSettings, gpus: float | None) -> ScoreRows:
    """Load the model in this process, and score in a thread."""
    scorer = RewardScorer(settings, gpus)
    thread = ThreadPoolExecutor(1, thread_name_prefix="reward model")

    async def score_rows(rows: Sequence[Row]) -> Sequence[Reward]:
        rewards: Any = await asyncio.get_running_loop().run_in_executor(thread, partial(scorer.score, rows))
        return list(rewards)

    return score_rows


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
