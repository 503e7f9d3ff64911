"""PPO, built on TRL's GRPOTrainer, which accepts advantages for each token. TRL has no PPO trainer of its own any more.

A pass without a gradient computes the old log-probabilities and the hidden states. The value function turns hidden
states into values, and GAE turns rewards and values into advantages for TRL's clipped loss. A step therefore takes two
forward passes and one backward pass.

Assumptions about TRL 1.16, besides those of trl_trainer.py:
- `_compute_loss` accepts advantages of shape `[B, T]`;
- with `beta` above 0, `_generate_and_score_completions` returns `ref_per_token_logps`, and `_compute_loss` adds a KL
  term. rft puts the penalty into the reward, so it sets `beta` only while the step is prepared: TRL has no other switch
  for the base model's log-probabilities;
- TRL calls `_save_checkpoint(model, trial)` and `_load_optimizer_and_scheduler(checkpoint)` for every checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rft.config.learners.ppo import PpoLearnerConfig
from rft.learning.advantages import generalized_advantages, token_rewards, whitened
from rft.learning.critic import Critic, explained_variance
from rft.learning.micro_batches import plan, share, take, trained_mask
from rft.learning.trl_trainer import LeanTrainer
from rft.learning.turn_advantages import at_turn_ends


class PpoTrainer(LeanTrainer):
    """PPO with a value function, GAE, and the KL penalty in the reward.

    Args:
        learner: PPO's settings.
        turn_discount: If given, each turn has its reward at its last token; GAE discounts by token.
        arguments: Arguments of LeanTrainer.
    """

    def __init__(self, *, learner: PpoLearnerConfig, turn_discount: float | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._by_turn = turn_discount is not None
        self._ppo = learner
        # The KL penalty is part of the reward, so the loss has no KL term.
        self.beta = 0.0
        model = self.accelerator.unwrap_model(self.model)
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._hidden: list[Tensor] | None = None
        base.base_model.register_forward_hook(self._keep_hidden)
        self._hidden_size: int = base.config.get_text_config().hidden_size
        self._critic = Critic(
            self._hidden_size,
            learning_rate=learner.value_learning_rate,
            clip=learner.value_clip,
            device=self.accelerator.device,
            ranks=self._ranks,
        )

    def trained(self) -> list[Tensor]:
        """Return the trained weights of the policy and of the value function."""
        return super().trained() + self._critic.parameters()

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """Return LeanTrainer's tensors; with a KL penalty, TRL adds the base model's log-probabilities."""
        self.beta = self._ppo.kl_coef
        try:
            return super()._generate_and_score_completions(inputs)
        finally:
            self.beta = 0.0

    def _advantages(self, batch: dict[str, Any]) -> Tensor:
        """Return `[N, T]` advantages from GAE, and train the value function."""
        # Completions without a reward do not count.
        batch["completion_mask"] = batch["completion_mask"] * (~self._rewards.isnan()).unsqueeze(1)
        mask = trained_mask(batch)
        batch["num_items_in_batch"] = mask.sum()
        if not mask.any():
            return torch.zeros_like(mask, dtype=torch.float32)
        logprobs, values, hidden, own = self._before(batch)
        kl = logprobs - batch["ref_per_token_logps"] if self._ppo.kl_coef else None
        whole = torch.zeros_like(self._rewards) if self._by_turn else self._rewards
        rewards = token_rewards(whole, mask, kl, self._ppo.kl_coef)
        if self._by_turn:
            rewards = rewards + at_turn_ends(self._turn_rewards, width=mask.shape[1]).to(mask.device) * mask
        raw, returns = generalized_advantages(
            rewards, values, mask, gamma=self._ppo.gamma, gae_lambda=self._ppo.gae_lambda
        )
        counted = mask.bool()
        metrics = {
            "value/explained_variance": explained_variance(values[counted], returns[counted]),
            "value/mean": values[counted].mean().item(),
            "value/return_mean": returns[counted].mean().item(),
        }
        metrics |= self._critic.fit(hidden, values[own], returns[own], updates=self._ppo.value_updates)
        if kl is not None:
            metrics["kl"] = kl[counted].mean().item()
        for name, value in metrics.items():
            self._metrics["train"][name].append(value)
        return whitened(raw, mask)

    def _before(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Score this rank's share of the completions without a gradient, and combine the results of all ranks.

        Returns:
            `[N, T]` log-probabilities and `[N, T]` values of all ranks; `[M, H]` hidden states before each of the M
            tokens of this rank's share; and the `[N, T]` mask of those tokens.
        """
        mask = trained_mask(batch)
        prompts, lengths = batch["prompt_mask"].sum(1).tolist(), batch["completion_mask"].sum(1).tolist()
        rows = mask.any(1).nonzero().flatten().tolist()
        every = plan(prompts, lengths, rows, size=self._size, ranks=self._ranks.of)
        logprobs, own = torch.zeros(mask.shape, device=mask.device), torch.zeros_like(mask, dtype=torch.bool)
        states: dict[int, Tensor] = {}
        with torch.no_grad(), self._own_randomness():
            for micro_batch in share(every, prompts, lengths, ranks=self._ranks.of)[self._ranks.number]:
                part = take(batch, micro_batch)
                width = part["completion_ids"].shape[1]
                ids, attention = (
                    torch.cat([part[f"prompt_{kind}"], part[f"completion_{kind}"]], dim=1) for kind in ("ids", "mask")
                )
                self._hidden = []
                scored = self._get_per_token_logps_and_entropies(self.model, ids, attention, width)[0]
                (hidden,), self._hidden = self._hidden, None
                logprobs[micro_batch, :width] = scored * trained_mask(part)
                own[micro_batch] = mask[micro_batch].bool()
                for position, row in enumerate(micro_batch):
                    # The hidden state that predicts token t is at position t - 1.
                    states[row] = hidden[position, -width - 1 : -1][own[row, :width]]
        none = torch.empty(0, self._hidden_size, device=mask.device)  # the share of a rank may be empty
        hidden = torch.cat([none, *(states[row] for row in sorted(states))])
        values = torch.zeros_like(logprobs).masked_scatter(own, self._critic.values(hidden))
        self._ranks.add_up([logprobs, values])
        return logprobs, values, hidden, own

    def _keep_hidden(self, module: Any, arguments: Any, output: Any) -> None:
        if self._hidden is not None:
            self._hidden.append(output.last_hidden_state)

    def _teaching(self, batch: dict[str, Any], counted: Tensor) -> Tensor:
        """Return all counted completions, since whitened advantages are never all 0."""
        return counted

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self._critic.save(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._critic.load(Path(checkpoint))
