"""The part of the seam with TRL that computes a step: GRPOTrainer with less work for the same gradient.

- There is no forward pass before the training pass. TRL computes the old log-probabilities in such a pass if it
  corrects for the sampler. rft takes them, detached, from the pass of the first optimizer step, and keeps them for
  further steps.
- Micro-batches are filled by tokens and trimmed (rft.learning.micro_batches); TRL pads all completions to the longest.
- A completion with an advantage of 0 has no gradient, so the model does not compute it.

Assumptions about TRL 1.16 (tests/learning/test_trl_trainer.py compares with TRL's own trainer):
- TRL calls `_prepare_inputs(batch)` for every micro-batch, and `_step % steps_per_generation` is its number;
- `_generate_and_score_completions(batch)` returns the tensors of a step. With `use_vllm` False, `num_iterations` 1 and
  `beta` 0 it makes no forward pass of its own. `_advantages` replaces its advantages;
- `_compute_loss(model, inputs)` calls `_get_per_token_logps_and_entropies` before it reads `old_per_token_logps` from
  the inputs. With `use_vllm` it multiplies by their `importance_sampling_ratio`;
- `_calculate_rewards(inputs, ...)` returns `[N, 1]` rewards, NaN for a missing reward, and each input holds the values
  of `rollout_func` for its completion;
- `mask_truncated_completions` False keeps every completion in the mask;
- `rollout_func` may return `env_mask`, `[N]` rows of 1 for sampled tokens and 0 for others. TRL returns it, padded, as
  `tool_mask`, counts and trains only tokens that are 1 in it and in `completion_mask`, and lets the model read all;
- with `beta` above 0, `_generate_and_score_completions` also returns `ref_per_token_logps`, `[N, T]` log-probabilities
  under the model that GRPOTrainer was given, at the temperature of the policy's;
- the losses of `_BY_ROWS` are a mean over the rows of a micro-batch, divided by the number of micro-batches. All other
  losses except `bnpo` are a sum divided by a number of the whole step;
- `log` averages `_metrics["train"]`;
- TRL calls `training_step` once for each micro-batch, and `training_step` increments `_step`. The logged loss is the
  sum of its results, and TRL clips the gradients after the last micro-batch of the step.

rft changes two of TRL's attributes while TRL computes the loss of a micro-batch (`_loss_of`), because TRL takes neither
as an argument. `use_vllm` makes TRL multiply by the importance ratio, and must be False while the step is prepared.
`_metrics` receives the metrics of the micro-batch; TRL's average of them would ignore the number of tokens.
"""

from __future__ import annotations

import gc
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rft.errors import LearnError
from rft.learning.importance import SamplerGap, gap_metrics, sampling_ratio
from rft.learning.micro_batches import plan, share, take, trained_mask
from rft.learning.rank_metrics import MicroBatchMetrics, combine
from rft.learning.ranks import Ranks
from rft.learning.trl_import import GRPOTrainer

_BY_ROWS = ("grpo", "sapo", "dr_grpo", "luspo")
"""Losses whose divisor is the number of rows of the micro-batch."""
PARTS = "micro_batch_parts.json"
"""File of a checkpoint with the number of parts of each micro-batch; missing while the micro-batches are whole."""


class LeanTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL is not followed
    """GRPOTrainer with less work for the same gradient. Several ranks sum their gradients before the optimizer step.

    Args:
        ranks: The processes that train together.
        arguments: Arguments of GRPOTrainer.
    """

    def __init__(self, *, ranks: Ranks | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._ranks = ranks or Ranks()
        self._epochs: int = self.args.num_iterations
        self.num_iterations = 1  # with more, TRL makes a forward pass for the old log-probabilities
        self._corrects = bool(self.vllm_importance_sampling_correction)
        # TRL mistakes a completion whose last token is the padding token for an ended one, and knows no stop strings.
        self._masks_truncated = bool(self.args.mask_truncated_completions)
        self.mask_truncated_completions = False
        self._size: int = self.args.per_device_train_batch_size
        self._batch: dict[str, Any] = {}
        self._own_rows: list[list[int]] = []
        self._micro_batches: list[list[dict[str, Any]]] = []
        self._parts = self._next_parts = 1
        self._is_divided = False
        self._is_repeating = False
        self._now: dict[str, Any] | None = None
        self._is_preparing = False
        self._gap = SamplerGap()
        self._micro_batch_metrics: list[MicroBatchMetrics] = []
        self._loss = 0.0
        self._start_logprobs: Tensor | None = None  # `[N, T]`; NaN for completions that were not compared

    @property
    def is_additive(self) -> bool:
        """Whether the loss is a sum over completions, independent of their division into micro-batches."""
        return self.loss_type != "bnpo" and not (
            self._entropy_bonus_enabled or self.aux_loss_enabled or self.top_entropy_quantile < 1.0
        )

    def trained(self) -> list[Tensor]:
        """Return the trained weights."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def start_logprobs(self, count: int) -> list[list[float] | None]:
        """Return the last step's log-probabilities under the start of the run, like `LocalLearner.start_logprobs`."""
        if self._start_logprobs is None:
            return []
        rows = zip(self._start_logprobs[:count].tolist(), self._lengths, strict=False)
        return [None if math.isnan(sum(row)) else row[:length] for row, length in rows]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> Tensor:
        """Run TRL's step for a micro-batch; after the last one, combine gradients, loss and metrics of all ranks.

        Raises:
            LearnError: The GPU has too little memory for half a micro-batch.
        """
        loss: Tensor | None = None
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        except torch.OutOfMemoryError as error:
            if self._parts > 1 or not self._can_halve:
                raise self._too_little_memory(error) from error
        if loss is None:  # after the handler, because the error's traceback holds the tensors of the failed pass
            self._parts = 2
            try:
                loss = self._repeat_step(model, inputs, num_items_in_batch)
            except torch.OutOfMemoryError as error:
                raise self._too_little_memory(error) from error
        if self._ranks.of > 1:
            self._loss += loss.item()
        if self._step % self.args.steps_per_generation == 0:
            loss = loss + self._join_ranks(model)
        return loss

    @property
    def _can_halve(self) -> bool:
        """Whether halves of the micro-batches have the same gradient, and the step under way can be repeated."""
        return self.is_additive and self._is_divided and max(map(len, self._own_rows)) > 1

    def _too_little_memory(self, error: torch.OutOfMemoryError) -> LearnError:
        size = -(-max(map(len, self._own_rows), default=1) // self._parts)
        smaller = f"learner.completions_per_micro_batch={size // 2}, " if size > 1 else ""
        return LearnError(
            f"the learner has too little memory for {size} completions in one pass ({str(error).splitlines()[0]}); use "
            f"{smaller}learner.trl.gradient_checkpointing=true, or a lower sampler.max_completion_tokens"
        )

    def _repeat_step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> Tensor:
        """Compute the optimizer step again up to this micro-batch: its backward pass may have added to the gradients.

        Return the loss of this micro-batch; TRL has counted those before it.
        """
        number, epoch = self._step % self.args.steps_per_generation, self._epoch
        model.zero_grad()
        gc.collect()
        torch.cuda.empty_cache()
        self._gap, self._micro_batch_metrics, self._loss = SamplerGap(), [], 0.0
        if epoch == 0:
            self._micro_batches = [self._parts_of(self._batch, rows) for rows in self._own_rows]
        else:  # the parts keep the log-probabilities of the first epoch
            self._micro_batches = [
                [half for part in parts for half in self._parts_of(part, range(len(part["prompt_ids"])))]
                for parts in self._micro_batches
            ]
        self._step -= number
        self._is_repeating = True
        for _ in range(number):
            loss = super().training_step(model, inputs, num_items_in_batch)
            if self._ranks.of > 1:
                self._loss += loss.item()
        repeated: Tensor = super().training_step(model, inputs, num_items_in_batch)
        self._is_repeating = False
        return repeated

    @property
    def _epoch(self) -> int:
        """Number of earlier optimizer steps on this batch."""
        return int(self._step // self.args.steps_per_generation % self._epochs)

    def _join_ranks(self, model: Any) -> float:
        """Sum the gradients and combine the metrics of all ranks; return the loss of the other ranks on rank 0."""
        self._next_parts = self._parts
        if self._ranks.of > 1:
            weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
            for parameter in weights:
                if parameter.grad is None:  # this rank's share is empty
                    parameter.grad = torch.zeros_like(parameter)
            # If one rank has halved its micro-batches, all ranks do so from the next batch on, as after a resume.
            self._next_parts = self._ranks.add_up([parameter.grad for parameter in weights], value=self._parts)
        own = {"loss": self._loss, "gap": self._gap.take(), "micro_batches": self._micro_batch_metrics}
        ranks = self._ranks.collect(own)
        metrics = combine([each for rank in ranks for each in rank["micro_batches"]])
        for name, value in (metrics | gap_metrics(rank["gap"] for rank in ranks)).items():
            self._metrics["train"][name].append(value)
        self._micro_batch_metrics, self._loss = [], 0.0
        if self._next_parts > 1:
            self._metrics["train"]["micro_batch_parts"].append(float(self._next_parts))
        return float(sum(rank["loss"] for rank in ranks[1:]))

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """Return the parts of the next micro-batch; the first call of a step makes all micro-batches."""
        number = self._step % self.args.steps_per_generation
        if self._epoch == number == 0 and not self._is_repeating:
            self._is_divided = False
            self._parts = self._next_parts
            self._batch = self._generate_and_score_completions(generation_batch)
            self._own_rows = self._split(self._batch)
            self._micro_batches = [self._parts_of(self._batch, rows) for rows in self._own_rows]
            self._is_divided = True
        return {"parts": self._micro_batches[number]}

    def _parts_of(self, batch: dict[str, Any], rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return some rows of a batch in as many parts as memory requires; none without rows."""
        size = -(-len(rows) // self._parts) or 1
        return [take(batch, rows[start : start + size]) for start in range(0, len(rows), size)]

    def log(self, logs: dict[str, float], *arguments: Any, **options: Any) -> None:
        """Log like TRL; in float16 also whether an infinite gradient prevented the step and lowered the loss scale."""
        if self.args.fp16:
            logs["skipped_step"] = float(self.accelerator.optimizer_step_was_skipped)
        super().log(logs, *arguments, **options)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self._next_parts > 1:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            (folder / PARTS).write_text(json.dumps({"micro_batch_parts": self._next_parts}))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and (file := Path(checkpoint) / PARTS).exists():
            self._next_parts = json.loads(file.read_text())["micro_batch_parts"]

    def _calculate_rewards(self, inputs: Any, *arguments: Any) -> Tensor:
        """Return TRL's rewards; keep them, also by turn, and whether each completion was truncated."""
        rewards: Tensor = super()._calculate_rewards(inputs, *arguments)
        self._rewards = rewards[:, 0]
        self._turn_rewards: list[list[tuple[int, float]]] = [row["turn_rewards"] for row in inputs]
        self._truncated = torch.tensor([row["truncated"] for row in inputs], device=rewards.device)
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """Return TRL's tensors of a step, with rft's advantages and with truncated completions masked on request."""
        self._is_preparing = True
        try:
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        finally:
            self._is_preparing = False
        sampled = trained_mask(batch)
        self._lengths, self._start_logprobs = batch["completion_mask"].sum(1).tolist(), None
        if "ref_per_token_logps" in batch and not self.args.sync_ref_model:  # else the reference leaves the start
            self._start_logprobs = (batch["ref_per_token_logps"].float() * sampled).cpu()
        self._correct_length_metrics(sampled.sum(1))
        if self._masks_truncated:
            batch["completion_mask"] = batch["completion_mask"] * (~self._truncated).unsqueeze(1)
            batch["num_items_in_batch"] = trained_mask(batch).sum()
        batch["advantages"] = self._advantages(batch)
        return batch

    def _advantages(self, batch: dict[str, Any]) -> Tensor:
        """Return `[N]` or `[N, T]` advantages of the step's completions; may remove some from `completion_mask`."""
        raise NotImplementedError

    def _correct_length_metrics(self, lengths: Tensor) -> None:
        """Compute TRL's metrics of ended completions from the sampler's stop reasons instead of the last tokens."""
        ended = lengths[~self._truncated].float()
        ended = ended if len(ended) else torch.zeros(1)
        metrics = self._metrics["train"]
        metrics["completions/clipped_ratio"][-1] = self._truncated.float().mean().item()
        metrics["completions/mean_terminated_length"][-1] = ended.mean().item()
        metrics["completions/min_terminated_length"][-1] = ended.min().item()
        metrics["completions/max_terminated_length"][-1] = ended.max().item()

    def _split(self, batch: dict[str, Any]) -> list[list[int]]:
        """Return the rows of this rank's micro-batches. All ranks divide all rows alike, and each takes its share."""
        counted = trained_mask(batch).bool().any(1)
        self._metrics["train"]["completions/masked"].append(float((~counted).sum()))
        prompts, completions = (batch[f"{part}_mask"].sum(1).tolist() for part in ("prompt", "completion"))
        if self.is_additive:
            rows = self._teaching(batch, counted).nonzero().flatten().tolist()
            every = plan(prompts, completions, rows, size=self._size, ranks=self._ranks.of)
        else:
            numbers = torch.randperm(len(counted)).tolist()
            every = [numbers[start : start + self._size] for start in range(0, len(numbers), self._size)]
        self._metrics["train"]["completions/learned_from"].append(float(sum(map(len, every))))
        own = share(every, prompts, completions, ranks=self._ranks.of)[self._ranks.number]
        return own + [[]] * (self.args.steps_per_generation - len(own))

    def _teaching(self, batch: dict[str, Any], counted: Tensor) -> Tensor:
        """Return `[N]` booleans: whether a completion has a gradient. With a KL term, all counted ones have."""
        advantages = batch["advantages"]
        return counted if self.beta else counted & (advantages.view(len(advantages), -1) != 0).any(1)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        parts = inputs["parts"]
        if not parts:
            # Gradients of 0, not missing gradients: as in TRL, Adam continues with its momentum.
            zero: Tensor = sum(parameter.sum() * 0.0 for parameter in model.parameters() if parameter.requires_grad)
            return zero
        *earlier, last = parts
        losses = [self._weighted_loss(model, part, is_last=False) for part in earlier]
        return sum(losses, start=self._weighted_loss(model, last, is_last=True))

    def _weighted_loss(self, model: Any, part: dict[str, Any], *, is_last: bool) -> Tensor:
        """Return the loss of a part; add the gradients of all but the last, which TRL adds."""
        loss = self._loss_of(model, part)
        if self.is_additive and self.loss_type in _BY_ROWS:
            loss = loss * (len(part["prompt_ids"]) / self._size)
        if not is_last:
            self.accelerator.backward(loss)
            loss = loss.detach()
        return loss

    def _loss_of(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        of_step, self._metrics["train"] = self._metrics["train"], defaultdict(list)
        self._now, self.use_vllm = inputs, self._corrects
        try:
            with self._own_randomness():
                loss = self._policy_loss(model, inputs)
            weight = trained_mask(inputs).sum().item() if self.is_additive else 1.0
            self._micro_batch_metrics.append((weight, dict(self._metrics["train"])))
            return loss
        finally:
            self._now, self.use_vllm = None, False
            self._metrics["train"] = of_step

    def _policy_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """Return TRL's loss of some completions."""
        loss: Tensor = super()._compute_loss(model, inputs)
        return loss

    def _own_randomness(self) -> AbstractContextManager[None]:
        """Give dropout different random numbers on each rank, and keep the random state that all ranks share."""
        per_step = self.args.steps_per_generation
        micro_batch = self.state.global_step * per_step + self._step % per_step
        return self._ranks.own_randomness(seed=self.args.seed, number=micro_batch, device=self.accelerator.device)

    def _get_per_token_logps_and_entropies(self, model: Any, *arguments: Any, **options: Any) -> Any:
        """Return TRL's log-probabilities and entropies; in the training pass, compare them with the sampler's."""
        if self._is_preparing and self._ranks.of > 1:
            return self._shared_logprobs(model, *arguments, **options), None, None
        outputs = super()._get_per_token_logps_and_entropies(model, *arguments, **options)
        if self._now is not None and "old_per_token_logps" not in self._now:
            self._now["old_per_token_logps"] = outputs[0].detach()
            self._compare(outputs[0].detach(), self._now)
        return outputs

    def _shared_logprobs(self, model: Any, ids: Tensor, attention: Tensor, width: int, *rest: Any, **more: Any) -> Any:
        """Return `[N, width]` log-probabilities without a gradient; each rank computes some of the rows."""
        own = slice(self._ranks.number, None, self._ranks.of)
        logprobs = torch.zeros(len(ids), width, device=ids.device)
        logprobs[own] = super()._get_per_token_logps_and_entropies(
            model, ids[own], attention[own], width, *rest, **more
        )[0]
        self._ranks.add_up([logprobs])
        return logprobs

    def _compare(self, logprobs: Tensor, inputs: dict[str, Any]) -> None:
        sampled, mask = inputs["sampling_per_token_logps"], trained_mask(inputs)
        ratio = sampling_ratio(
            logprobs,
            sampled,
            mask,
            mode=self.vllm_importance_sampling_mode,
            low=self.vllm_importance_sampling_clip_min,
            high=self.vllm_importance_sampling_clip_max,
        )
        inputs["importance_sampling_ratio"] = ratio
        self._gap.add(logprobs, sampled, mask, ratio)
