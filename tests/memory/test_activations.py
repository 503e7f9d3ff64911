"""The formula of saved activations, against the tensors that autograd keeps for a small Qwen2."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from rft.memory.learner import saved_bytes_per_layer
from rft.memory.model_shape import shape_of

ROWS, TOKENS = 5, 13
"""Sizes whose product divides no size of a weight."""


def saved_bytes(num_layers: int, *, lora_rank: int | None, is_mixed: bool) -> int:
    """Bytes of the activations that autograd saves for a forward pass; weights and copies of weights do not count."""
    import peft
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=320,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    )
    model = Qwen2ForCausalLM(config).to(torch.bfloat16 if is_mixed and lora_rank else torch.float32)
    decoder = model.model
    if lora_rank is not None:
        peft.get_peft_model(model, peft.LoraConfig(r=lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    decoder.train()
    ids, mask = torch.randint(0, 64, (ROWS, TOKENS)), torch.ones(ROWS, TOKENS, dtype=torch.long)
    mask[0, :3] = 0
    sizes: dict[int, int] = {}
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if tensor.numel() % (ROWS * TOKENS) == 0:
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(storage)  # so that no other tensor gets this address
        return tensor

    precision = torch.autocast("cpu", dtype=torch.bfloat16) if is_mixed else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), precision:
        decoder(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(sizes.values())


@pytest.mark.parametrize("lora_rank", [8, None])
@pytest.mark.parametrize("is_mixed", [True, pytest.param(False, marks=pytest.mark.full)])
def test_the_bytes_of_a_layer(lora_rank: int | None, is_mixed: bool) -> None:
    of_layer = saved_bytes(2, lora_rank=lora_rank, is_mixed=is_mixed) - saved_bytes(
        1, lora_rank=lora_rank, is_mixed=is_mixed
    )
    shape = shape_of(
        {
            "model_type": "qwen2",
            "num_hidden_layers": 1,
            "hidden_size": 64,
            "intermediate_size": 320,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 64,
        }
    )
    # The formula leaves out two numbers of the norms and four of the attention: 24 of about 4,000 bytes a token.
    expected = saved_bytes_per_layer(shape, sequence_tokens=TOKENS, lora_rank=lora_rank, is_mixed=is_mixed)
    assert of_layer / (ROWS * TOKENS) == pytest.approx(expected, rel=0.01)
