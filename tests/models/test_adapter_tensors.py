"""Tensors of an adapter: the same bytes for the same tensors, and whether they can belong to a base model."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy

from rft.models.adapter_tensors import base_problem, without_metadata
from rft.models.weight_files import Tensor

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
