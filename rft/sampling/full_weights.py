"""Reads the tensors of full weights where they lie. `safetensors.torch.load` copies them, and takes only bytes."""

from __future__ import annotations

import json
import math
import warnings

import torch

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""torch's dtype by its name in the format (https://huggingface.co/docs/safetensors)."""


def tensors_in(file: bytes | memoryview) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file by name, as views of its bytes. They must not be written to.

    Args:
        file: The content of the file.
    """
    length = int.from_bytes(file[:8], "little")
    header = json.loads(bytes(file[8 : 8 + length]))
    start = 8 + length
    tensors = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            shape, dtype = entry["shape"], DTYPES[entry["dtype"]]
            count, offset = math.prod(shape), start + entry["data_offsets"][0]
            flat = (
                torch.frombuffer(file, dtype=dtype, count=count, offset=offset)
                if count
                else torch.empty(0, dtype=dtype)
            )
            tensors[name] = flat.view(shape)
    return tensors
