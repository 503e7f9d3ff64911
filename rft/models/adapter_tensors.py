"""Tensors of an adapter without torch: equal bytes for equal tensors, and a comparison with the base model."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rft.models.weight_files import Tensor

MAX_SHOWN = 3
"""Maximum number of modules in a message."""
_PREFIX = "base_model.model."


def without_metadata(tensors: bytes) -> bytes:
    """Return the content of a safetensors file without its metadata.

    The learner publishes weights without metadata, PEFT saves them with some. Without them, equal tensors have equal
    bytes, and therefore equal fingerprints.
    """
    header, data = _split(tensors)
    if "__metadata__" not in header:
        return tensors
    del header["__metadata__"]
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def base_problem(tensors: bytes, base: Mapping[str, Tensor]) -> str:
    """Return why an adapter cannot belong to a base model, or an empty text.

    Args:
        tensors: The adapter's safetensors bytes.
        base: Tensors of the base model by name, from the headers of its files. Modules that have another name in these
            files than in the adapter are not compared.
    """
    header, _ = _split(tensors)
    wrong, num_compared = [], 0
    for name, entry in header.items():
        module, _, role = name.removeprefix(_PREFIX).rpartition(".lora_")
        weight = base.get(f"{module}.weight")
        if weight is None or len(weight.shape) != 2 or role[:1] not in ("A", "B"):
            continue
        num_compared += 1
        # A is [rank, in], B is [out, rank]. Conv1D stores [in, out], so both sizes are allowed.
        size = entry["shape"][1 if role.startswith("A") else 0]
        if size not in weight.shape:
            wrong.append(f"{name} {entry['shape']} for weights {list(weight.shape)}")
    if wrong:
        shown = ", ".join([*wrong[:MAX_SHOWN], *(["..."] if len(wrong) > MAX_SHOWN else [])])
        return f"{len(wrong)} of its {num_compared} tensors do not fit the base model: {shown}"
    return "" if num_compared else "the base model has none of its modules"


def _split(tensors: bytes) -> tuple[dict[str, dict[str, list[int]]], bytes]:
    """Return the header and the data of a safetensors file."""
    end = 8 + int.from_bytes(tensors[:8], "little")
    return json.loads(tensors[8:end]), tensors[end:]
