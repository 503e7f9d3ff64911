"""Tensors of an adapter: the same bytes for the same tensors, and whether they can belong to a base model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from rft.models.adapter_tensors import base_problem, continuation_problems, not_finite, stack_problems, without_metadata
from rft.models.weight_files import Tensor
from rft.types import Adapter, Policy

MODULE = "base_model.model.layers.0.q_proj"
ADAPTER = safetensors.numpy.save(
    {
        f"{MODULE}.lora_A.weight": np.ones((2, 3), dtype=np.float32),
        f"{MODULE}.lora_B.weight": np.ones((4, 2), dtype=np.float32),
    }
)


def test_metadata_does_not_change_the_bytes() -> None:
    tensors = {"b": np.ones((3, 2), dtype=np.float32), "a": np.ones(4, dtype=np.float16), "é": np.ones(3)}
    plain = safetensors.numpy.save(tensors)
    assert safetensors.numpy.save(tensors, {"format": "pt"}) != plain
    assert without_metadata(safetensors.numpy.save(tensors, {"format": "pt"})) == plain
    assert without_metadata(plain) == plain


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        ({"layers.0.q_proj.weight": Tensor("F32", (4, 3))}, ""),
        ({"layers.0.q_proj.weight": Tensor("F32", (3, 4))}, ""),  # Conv1D
        (
            {"layers.0.q_proj.weight": Tensor("F32", (4, 5))},
            f"1 of its 2 tensors do not fit the base model: {MODULE}.lora_A.weight [2, 3] for weights [4, 5]",
        ),
        ({"layers.1.q_proj.weight": Tensor("F32", (4, 3))}, "the base model has none of its modules"),
    ],
)
def test_an_adapter_of_another_base_model(base: dict[str, Tensor], problem: str) -> None:
    assert base_problem(ADAPTER, base) == problem


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, ""),
        ({"use_rslora": True, "rank_pattern": {"q_proj": 1}}, ""),
        ({"use_dora": True, "bias": "all"}, "use_dora=True, bias=all"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights=pissa"),
    ],
)
def test_only_plain_lora_can_be_stacked(config: dict[str, Any], reason: str) -> None:
    adapter = Adapter(policy=Policy(version=0, fingerprint="x"), config=config, tensors=ADAPTER)
    expected = [f"the adapter is more than LoRA on linear layers ({reason}); use start_mode=merge"] if reason else []
    assert stack_problems(adapter) == expected


def test_an_adapter_on_the_output_layer_cannot_be_stacked() -> None:
    tensors = safetensors.numpy.save(
        {f"base_model.model.lm_head.lora_{side}.weight": np.ones((2, 2), dtype=np.float32) for side in "AB"}
    )
    (problem,) = stack_problems(Adapter(policy=Policy(version=0, fingerprint="x"), config={}, tensors=tensors))
    assert "(tensors such as base_model.model.lm_head.lora_A.weight)" in problem


def test_an_adapter_of_the_output_layer_is_not_continued() -> None:
    content = {f"base_model.model.lm_head.lora_{half}.weight": np.ones((2, 2), dtype=np.float32) for half in "AB"}
    content["base_model.model.embed_tokens.lora_embedding_A"] = np.ones((2, 2), dtype=np.float32)
    adapter = Adapter(policy=Policy(version=0, fingerprint="x"), config={}, tensors=safetensors.numpy.save(content))
    (problem,) = continuation_problems(adapter)
    assert problem == "the adapter changes embed_tokens and lm_head, which rft does not train; use start_mode=merge"
    assert continuation_problems(replace(adapter, tensors=ADAPTER)) == []


@pytest.mark.parametrize(
    ("dtype", "largest", "infinity", "nan"),
    [  # the bit patterns of IEEE 754, and of bfloat16, the upper half of float32
        ("F64", "7fefffffffffffff", "fff0000000000000", "7ff8000000000000"),
        ("F32", "7f7fffff", "ff800000", "7fc00000"),
        ("F16", "7bff", "fc00", "7e00"),
        ("BF16", "7f7f", "ff80", "7fc0"),
        ("I32", "7fffffff", None, None),
    ],
)
def test_numbers_that_are_not_finite(dtype: str, largest: str, infinity: str | None, nan: str | None) -> None:
    numbers = {"a": largest, "b": infinity, "c": nan}
    header, data = '"__metadata__":{"dtype":"F32"}', b""
    for name, bits in numbers.items():
        if bits is not None:
            value = bytes.fromhex(bits)[::-1]
            offsets = [len(data), len(data) + len(value)]
            header += f',"{name}":{{"dtype":"{dtype}","shape":[1],"data_offsets":{offsets}}}'
            data += value
    text = f"{{{header}}}".encode()
    assert not_finite(len(text).to_bytes(8, "little") + text + data) == ([] if infinity is None else ["b", "c"])
