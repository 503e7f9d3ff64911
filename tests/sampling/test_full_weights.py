"""Full weights on their way: as buffers, and read where they lie."""

from __future__ import annotations

import pickle

import pytest
import safetensors.torch
import torch

from rft.sampling.full_weights import tensors_in
from rft.types import FullWeights, Policy

TENSORS = {
    "half": torch.tensor([[1.5, -2.0], [0.25, 8.0]], dtype=torch.bfloat16),
    "single": torch.tensor([3.0]),
    "scalar": torch.tensor(7),
    "empty": torch.zeros(0, 3),
    "flags": torch.tensor([True, False]),
}
FILE = safetensors.torch.save(TENSORS, metadata={"format": "pt"})
WEIGHTS = FullWeights(policy=Policy(version=2, fingerprint="abc"), tensors=FILE)


@pytest.mark.parametrize("file", [FILE, memoryview(FILE)], ids=["bytes", "view"])
def test_tensors_are_views_of_the_file(file: bytes | memoryview) -> None:
    tensors = tensors_in(file)
    assert tensors.keys() == TENSORS.keys()
    for name, expected in TENSORS.items():
        assert tensors[name].dtype == expected.dtype
        assert torch.equal(tensors[name], expected)
    again = tensors_in(file)
    assert again["half"].data_ptr() == tensors["half"].data_ptr(), "nothing is copied"


def test_they_travel_as_a_buffer() -> None:
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(WEIGHTS, protocol=5, buffer_callback=buffers.append)
    assert len(pickled) < 300
    [buffer] = buffers
    assert bytes(buffer) == FILE
    arrived = pickle.loads(pickled, buffers=[memoryview(FILE)])
    assert isinstance(arrived.tensors, memoryview)
    assert (arrived, arrived.num_bytes) == (WEIGHTS, len(FILE))


@pytest.mark.parametrize("protocol", [4, 5])
def test_they_are_pickled_whole_without_buffers(protocol: int) -> None:
    assert pickle.loads(pickle.dumps(WEIGHTS, protocol=protocol)) == WEIGHTS
