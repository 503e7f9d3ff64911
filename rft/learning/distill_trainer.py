"""On-policy distillation: the advantage of a token is the teacher's log-probability minus the sampler's.

The student has sampled the tokens, so the gradient estimates that of the reverse KL divergence from student to teacher
at the states that the student reaches (arXiv 2306.13649). The influence of a token on later states does not count.

Assumptions about TRL 1.16, besides those of trl_trainer.py:
- `_compute_loss` accepts advantages of shape `[B, T]`;
- the value of a column of `rollout_func` may be a tuple or None.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rft.config.learners.distill import DistillLearnerConfig
from rft.errors import LearnError
from rft.learning.micro_batches import trained_mask
from rft.learning.trl_trainer import LeanTrainer


class DistillTrainer(LeanTrainer):
    """LeanTrainer with an advantage for each token, from the log-probabilities of a teacher.

    Args:
        learner: The algorithm's settings, which have no influence here.
        arguments: Arguments of LeanTrainer.
    """

    def __init__(self, *, learner: DistillLearnerConfig, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._teacher_logprobs: list[tuple[float, ...] | None] = []

    def _calculate_rewards(self, inputs: Any, *arguments: Any) -> Tensor:
        """Return TRL's rewards; keep the teacher's log-probabilities.

        Raises:
            LearnError: The groups have none.
        """
        if "teacher_logprobs" not in inputs[0]:
            raise LearnError("learner=distill got groups without log-probabilities of a teacher")
        self._teacher_logprobs = [row["teacher_logprobs"] for row in inputs]
        return super()._calculate_rewards(inputs, *arguments)

    def _advantages(self, batch: dict[str, Any]) -> Tensor:
        """Return `[N, T]` advantages; remove completions that the teacher could not score from `completion_mask`."""
        sampled_nt = batch["sampling_per_token_logps"]
        teacher_nt = torch.zeros_like(sampled_nt)
        is_scored_n = torch.tensor([row is not None for row in self._teacher_logprobs], device=sampled_nt.device)
        for number, row in enumerate(self._teacher_logprobs):
            if row is not None:
                teacher_nt[number, : len(row)] = torch.tensor(row, device=sampled_nt.device)
        batch["completion_mask"] = batch["completion_mask"] * is_scored_n.unsqueeze(1)
        mask_nt = trained_mask(batch)
        batch["num_items_in_batch"] = mask_nt.sum()
        advantages_nt = (teacher_nt - sampled_nt) * mask_nt
        if mask_nt.any():
            self._metrics["train"]["reverse_kl"].append((-advantages_nt.sum() / mask_nt.sum()).item())
        return advantages_nt

    def _teaching(self, batch: dict[str, Any], counted: Tensor) -> Tensor:
        """Return all counted completions; hardly any has advantages that are all 0."""
        return counted
