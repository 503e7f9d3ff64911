"""Adapters in one product on a CPU, against each token's own product and against vLLM's kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytestmark = pytest.mark.e2e  # milliseconds, once vLLM is imported, which takes longer than thousands of unit tests

SLOTS, RANK, IN, PARTS = 4, 3, 5, (6, 2)
IDS = [7, None, 9, 8]
"""Which adapter is in which slot."""
ROUNDING = 1e-5
"""Of sums of RANK x IN products of float32: eps x 15 x values of up to 5."""


@pytest.fixture(scope="module")
def kinds() -> dict[str, type]:
    """The two kernels. Every test process collects this file; only the one that runs it imports vLLM."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        pytest.importorskip("vllm")
        from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

        from rft.sampling.grouped_lora import GroupedLora
    return {"grouped": GroupedLora, "vllm": PunicaWrapperCPU}


def kernel(kind: type, adapters: list[int]) -> Any:
    """A kernel for a batch of one token for each of these adapters; 0 is none."""
    made = kind(max_num_batched_tokens=16, max_batches=16, device="cpu")
    assign(made, adapters)
    return made


def assign(made: Any, adapters: list[int]) -> None:
    """Give a kernel the adapters of its next batch."""
    from vllm.lora.layers import LoRAMapping

    mapping = LoRAMapping(index_mapping=tuple(adapters), prompt_mapping=tuple(adapters), is_prefill=True)
    made.update_metadata(mapping, IDS, SLOTS, 100)


def weights() -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    random = torch.Generator().manual_seed(3)
    a = tuple(torch.randn(SLOTS, 1, RANK, IN, generator=random) for _ in PARTS)
    b = tuple(torch.randn(SLOTS, 1, out, RANK, generator=random) for out in PARTS)
    return a, b


@pytest.mark.parametrize("adapters", [[7, 7, 7], [8, 7, 9, 7], [9, 0, 8], [0, 0], [0, 9]])
def test_each_token_gets_its_own_adapter_and_no_other(kinds: dict[str, type], adapters: list[int]) -> None:
    a, b = weights()
    random = torch.Generator().manual_seed(4)
    x, y = torch.randn(len(adapters), IN, generator=random), torch.randn(len(adapters), sum(PARTS), generator=random)
    expected = y.clone()
    for token, adapter in enumerate(adapters):
        if adapter:
            slot = IDS.index(adapter)
            said = [0.5 * (up[slot, 0] @ (down[slot, 0] @ x[token])) for down, up in zip(a, b, strict=True)]
            expected[token] += torch.cat(said)
    kernel(kinds["grouped"], adapters).add_lora_linear(y, x, a, b, 0.5, PARTS)
    assert torch.allclose(y, expected, atol=ROUNDING)


def test_it_says_what_vllms_kernel_says(kinds: dict[str, type]) -> None:
    a, b = weights()
    adapters = [8, 7, 9, 7, 8]
    x = torch.randn(len(adapters), IN, generator=torch.Generator().manual_seed(4))
    outputs = []
    for kind in kinds.values():
        y = torch.zeros(len(adapters), sum(PARTS))
        kernel(kind, adapters).add_lora_linear(y, x, a, b, 1.0, PARTS)
        outputs.append(y)
    assert torch.allclose(*outputs, atol=ROUNDING)


def test_what_is_loaded_into_a_slot_is_what_is_multiplied_next(kinds: dict[str, type]) -> None:
    """The matrices that stand side by side are kept from batch to batch."""
    a, b = weights()
    used = kernel(kinds["grouped"], [7, 9])
    x = torch.randn(2, IN, generator=torch.Generator().manual_seed(4))

    def agrees(adapters: list[int]) -> bool:
        assign(used, adapters)
        outputs = [torch.zeros(2, sum(PARTS)) for _ in range(2)]
        used.add_lora_linear(outputs[0], x, a, b, 1.0, PARTS)
        kernel(kinds["vllm"], adapters).add_lora_linear(outputs[1], x, a, b, 1.0, PARTS)
        return torch.allclose(*outputs, atol=ROUNDING)

    assert agrees([7, 9])
    a[0][IDS.index(9)] += 1.0
    assert agrees([7, 9])
    b[1][IDS.index(7)].copy_(torch.ones(1, PARTS[1], RANK))
    assert agrees([7, 9])
    assert agrees([8, 7])
    assert agrees([7, 9])
