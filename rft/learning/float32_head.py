"""Logits in float32 for models in 16 bits, as vLLM computes them with `head_dtype=float32`.

In bfloat16, logits between 16 and 32 are 0.125 apart, which is most of the difference between sampler and learner.
TRL's own option, `cast_lm_head_to_fp32`, does not suit: with an adapter it fails on models with tied embeddings, and it
doubles the memory of the output layer.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import linear

from rft.learning.trl_import import add_fused_lm_head


def use_float32_head(trainer: Any, served: torch.dtype) -> None:
    """Make a model and its reference model compute logits in float32, in the loss and in all other forward passes.

    Call it before training starts. TRL 1.16's loss has an output layer of its own, which converts the weights tile by
    tile.

    Args:
        trainer: TRL's trainer.
        served: Dtype to which the samplers round the output layer's weights.
    """
    if trainer.model.device.type == "cuda":
        # TF32 represents bfloat16 exactly and sums in float32. Without it the output layer takes longer than the rest.
        torch.set_float32_matmul_precision("high")
    for model in filter(None, (trainer.model, trainer.ref_model)):
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        add_fused_lm_head(
            base, temperature=trainer.temperature, cast_lm_head_to_fp32=True, outputs=("log_probs", "entropy")
        )
        _compute_in_float32(base.get_output_embeddings(), served)


def _compute_in_float32(head: Any, served: torch.dtype) -> None:
    def forward(hidden: torch.Tensor) -> torch.Tensor:
        # Weights that are not trained have this precision already.
        weight = head.weight.to(served) if head.weight.requires_grad else head.weight
        with torch.autocast(hidden.device.type, enabled=False):  # training may run with autocast
            return linear(hidden.float(), weight.float(), None if head.bias is None else head.bias.float())

    head.forward = forward
