"""The half of the seam with TRL that is about a step's arithmetic: GRPOTrainer, with less work for the same gradient.

- No forward pass before the training pass. TRL makes one for the old log-probabilities as soon as it corrects for the
  sampler; but they are those of the first optimizer step's own pass, detached, and kept for further steps.
- Micro-batches are filled by tokens and trimmed (rft.learning.micro_batches); TRL pads all to the longest.
- A completion whose advantage is 0 has no gradient, so it does not go through the model at all.

What is relied on, for TRL 1.16 (tests/learning/test_trl_trainer.py compares with TRL's own trainer):
- `_prepare_inputs(batch)` is called for every micro-batch, and `_step % steps_per_generation` is its number;
- `_generate_and_score_completions(batch)` returns a step's tensors, and with `use_vllm` False and `num_iterations` 1 it
  makes no forward pass of its own unless `beta` is set; what it says of advantages is replaced by `_advantages`;
- `_compute_loss(model, inputs)` calls `_get_per_token_logps_and_entropies` before it reads `old_per_token_logps` of the
  inputs, and with `use_vllm` multiplies by their `importance_sampling_ratio`;
- `_calculate_rewards(inputs, ...)` returns `[N, 1]`, NaN where there is no reward, and finds in each of the inputs what
  `rollout_func` said of that completion;
- `mask_truncated_completions` False leaves every completion in the mask;
- the losses of `_BY_ROWS` are a mean over the rows of a micro-batch, divided by the number of micro-batches; all other
  losses but `bnpo` are a sum divided by a number of the whole step;
- `_metrics["train"]` is what `log` averages;
- `training_step` is called once for each micro-batch and counts `_step` up; what it returns adds up to the logged loss,
  and after the step's last micro-batch the gradients are clipped.

Two of TRL's attributes change while it computes the loss of a micro-batch (`_loss_of`), because it reads them there and
takes neither as an argument: `use_vllm`, which makes it multiply by the importance ratio and must be False while the
step is prepared; and `_metrics`, to which it appends the micro-batch's numbers, and whose average does not regard how
many tokens each number stands for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rft.learning.importance import SamplerGap, gap_metrics, sampling_ratio
from rft.learning.micro_batches import plan, share, take
from rft.learning.rank_metrics import Said, brought_together
from rft.learning.ranks import Ranks
from rft.learning.trl_import import GRPOTrainer

_BY_ROWS = ("grpo", "sapo", "dr_grpo", "luspo")
"""Losses whose divisor is the number of rows of the micro-batch."""


class LeanTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL is not followed
    """GRPOTrainer, with the same gradient for less; or a rank's share of it, added up before the optimizer's step.

    Args:
        ranks: The processes that train together.
        arguments: Of GRPOTrainer.
    """

    def __init__(self, *, ranks: Ranks | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._ranks = ranks or Ranks()
        self._epochs: int = self.args.num_iterations
        self.num_iterations = 1  # with more TRL makes a forward pass for the old log-probabilities
        self._corrects = bool(self.vllm_importance_sampling_correction)
        # TRL takes a completion whose last token is the padding token for one that ended, and knows no stop strings.
        self._masks_truncated = bool(self.args.mask_truncated_completions)
        self.mask_truncated_completions = False
        self._size: int = self.args.per_device_train_batch_size
        self._micro_batches: list[dict[str, Any]] = []
        self._now: dict[str, Any] | None = None
        self._is_preparing = False
        self._gap = SamplerGap()
        self._said: list[Said] = []
        self._loss = 0.0

    @property
    def is_additive(self) -> bool:
        """Whether the loss is a sum over completions, so that it does not matter which of them stand together."""
        return self.loss_type != "bnpo" and not (
            self._entropy_bonus_enabled or self.aux_loss_enabled or self.top_entropy_quantile < 1.0
        )

    def trained(self) -> list[Tensor]:
        """The weights that training changes."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> Tensor:
        """TRL's; after the step's last micro-batch gradients, loss and metrics are those of all ranks."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self._ranks.of > 1:
            self._loss += loss.item()
        if self._step % self.args.steps_per_generation == 0:
            loss = loss + self._join_ranks(model)
        return loss

    def _join_ranks(self, model: Any) -> float:
        """Bring together what the ranks have of an optimizer step; what the others have of the loss, for rank 0."""
        if self._ranks.of > 1:
            weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
            for parameter in weights:
                if parameter.grad is None:  # nothing of this rank's share went through it
                    parameter.grad = torch.zeros_like(parameter)
            self._ranks.add_up([parameter.grad for parameter in weights])
        said = self._ranks.collect({"loss": self._loss, "gap": self._gap.take(), "micro_batches": self._said})
        metrics = brought_together([each for rank in said for each in rank["micro_batches"]])
        for name, value in (metrics | gap_metrics(rank["gap"] for rank in said)).items():
            self._metrics["train"][name].append(value)
        self._said, self._loss = [], 0.0
        return float(sum(rank["loss"] for rank in said[1:]))

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """The next micro-batch; a step's first call makes all of them. Empty ones are `{}`."""
        number = self._step % self.args.steps_per_generation
        if self._step % (self.args.steps_per_generation * self._epochs) == 0:
            self._micro_batches = self._split(self._generate_and_score_completions(generation_batch))
        inputs: dict[str, Any] = self._micro_batches[number]
        return inputs

    def _calculate_rewards(self, inputs: Any, *arguments: Any) -> Tensor:
        """TRL's; the rewards are kept, and which completions were cut."""
        found: Tensor = super()._calculate_rewards(inputs, *arguments)
        self._rewards = found[:, 0]
        self._truncated = torch.tensor([row["truncated"] for row in inputs], device=found.device)
        return found

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """TRL's, with rft's advantages, and without the completions that were cut where they do not count."""
        self._is_preparing = True
        try:
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        finally:
            self._is_preparing = False
        self._say_how_completions_ended(batch["completion_mask"].sum(1))
        if self._masks_truncated:
            batch["completion_mask"] = batch["completion_mask"] * (~self._truncated).unsqueeze(1)
            batch["num_items_in_batch"] = batch["completion_mask"].sum()
        batch["advantages"] = self._advantages(batch)
        return batch

    def _advantages(self, batch: dict[str, Any]) -> Tensor:
        """`[N]` or `[N, T]` advantages of the step's completions; may leave completions out of `completion_mask`."""
        raise NotImplementedError

    def _say_how_completions_ended(self, lengths: Tensor) -> None:
        """TRL's numbers about completions that ended, by the sampler's word in place of their last token."""
        ended = lengths[~self._truncated].float()
        ended = ended if len(ended) else torch.zeros(1)
        metrics = self._metrics["train"]
        metrics["completions/clipped_ratio"][-1] = self._truncated.float().mean().item()
        metrics["completions/mean_terminated_length"][-1] = ended.mean().item()
        metrics["completions/min_terminated_length"][-1] = ended.min().item()
        metrics["completions/max_terminated_length"][-1] = ended.max().item()

    def _split(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """This rank's micro-batches. Every rank makes the same ones of all completions, and takes its share."""
        counted = batch["completion_mask"].bool().any(1)
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
        return [take(batch, rows) for rows in own] + [{}] * (self.args.steps_per_generation - len(own))

    def _teaching(self, batch: dict[str, Any], counted: Tensor) -> Tensor:
        """`[N]` which completions have a gradient: all that count, if they are held to the base; else by advantage."""
        return counted if self.beta else counted & (batch["advantages"] != 0)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if not inputs:
            # Every gradient is 0 rather than missing: Adam goes on by its momentum, as it would with TRL.
            zero: Tensor = sum(parameter.sum() * 0.0 for parameter in model.parameters() if parameter.requires_grad)
            return zero
        loss = self._loss_of(model, inputs)
        if self.is_additive and self.loss_type in _BY_ROWS:
            loss = loss * (len(inputs["prompt_ids"]) / self._size)
        return loss

    def _loss_of(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        of_step, self._metrics["train"] = self._metrics["train"], defaultdict(list)
        self._now, self.use_vllm = inputs, self._corrects
        try:
            with self._own_randomness():
                loss: Tensor = super()._compute_loss(model, inputs)
            weight = inputs["completion_mask"].sum().item() if self.is_additive else 1.0
            self._said.append((weight, dict(self._metrics["train"])))
            return loss
        finally:
            self._now, self.use_vllm = None, False
            self._metrics["train"] = of_step

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Dropout draws other numbers on each rank, and leaves alone what all ranks must draw alike."""
        if self._ranks.of == 1:
            yield
            return
        device, per_step = self.accelerator.device, self.args.steps_per_generation
        micro_batch = self.state.global_step * per_step + self._step % per_step
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(((self.args.seed << 32) + micro_batch * self._ranks.of + self._ranks.number) % 2**63)
            yield

    def _get_per_token_logps_and_entropies(self, model: Any, *arguments: Any, **options: Any) -> Any:
        """TRL's; in the training pass the sampler is compared with what comes out."""
        if self._is_preparing and self._ranks.of > 1:
            return self._shared_logprobs(model, *arguments, **options), None, None
        found = super()._get_per_token_logps_and_entropies(model, *arguments, **options)
        if self._now is not None and "old_per_token_logps" not in self._now:
            self._now["old_per_token_logps"] = found[0].detach()
            self._compare(found[0].detach(), self._now)
        return found

    def _shared_logprobs(self, model: Any, ids: Tensor, attention: Tensor, width: int, *rest: Any, **more: Any) -> Any:
        """`[N, width]` log-probabilities without a gradient, as of the base model: each rank computes some rows."""
        own = slice(self._ranks.number, None, self._ranks.of)
        logprobs = torch.zeros(len(ids), width, device=ids.device)
        logprobs[own] = super()._get_per_token_logps_and_entropies(
            model, ids[own], attention[own], width, *rest, **more
        )[0]
        self._ranks.add_up([logprobs])
        return logprobs

    def _compare(self, logprobs: Tensor, inputs: dict[str, Any]) -> None:
        sampled, mask = inputs["sampling_per_token_logps"], inputs["completion_mask"]
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
