"""Tensors of an adapter without torch: equal bytes for equal tensors, and a comparison with the base model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from rft.models.weight_files import Tensor
from rft.types import Adapter

PLAIN_INITS = (True, False, "gaussian", "eva", "orthogonal", "mica")
"""Values of PEFT's `init_lora_weights` that keep the base model unchanged."""
MAX_SHOWN = 3
"""Maximum number of modules in a message."""
_PREFIX = "base_model.model."
_EXPONENTS = {"F64": ("<u8", 0x7FF0 << 48), "F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
"""The bits of the exponent by number format, all of which are set in NaN and infinity; numpy knows no BF16."""


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


def stack_problems(adapter: Adapter) -> list[str]:
    """Return the reasons why no other adapter can be added to an adapter, one sentence each.

    The sum of two adapters is an adapter if both are plain LoRA on linear layers.
    """
    config, (header, _) = adapter.config, _split(adapter.tensors)
    reasons = [f"{name}={config[name]}" for name in ("use_dora", "lora_bias", "modules_to_save") if config.get(name)]
    if (bias := config.get("bias", "none")) != "none":
        reasons.append(f"bias={bias}")
    if not is_plain_init(init := config.get("init_lora_weights", True)):
        reasons.append(f"init_lora_weights={init}")
    # TRL multiplies by the weights of lm_head directly, and would pass over an update that is not part of them.
    is_linear = {name: name.endswith((".lora_A.weight", ".lora_B.weight")) for name in header}
    others = [name for name, holds in is_linear.items() if not holds or ".lm_head." in name]
    if others and not reasons:
        reasons.append(f"tensors such as {others[0]}")
    if not reasons:
        return []
    return [f"the adapter is more than LoRA on linear layers ({', '.join(reasons)}); use start_mode=merge"]


def continuation_problems(adapter: Adapter) -> list[str]:
    """Return the reasons why the learner cannot train an adapter further, one sentence each.

    TRL multiplies by the weights of lm_head directly, and would pass over an adapter there.
    """
    header, _ = _split(adapter.tensors)
    found = sorted({part for name in header for part in ("lm_head", "embed_tokens") if f".{part}.lora_" in name})
    return (
        [f"the adapter changes {' and '.join(found)}, which rft does not train; use start_mode=merge"] if found else []
    )


def not_finite(tensors: bytes) -> list[str]:
    """Return the names of the tensors that contain NaN or infinity.

    Args:
        tensors: Content of a safetensors file.
    """
    header, data = _split(tensors)
    names = []
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if (known := _EXPONENTS.get(entry["dtype"])) is not None:
            kind, exponent = known
            begin, end = entry["data_offsets"]
            bits = np.frombuffer(memoryview(data)[begin:end], dtype=kind)
            if ((bits & exponent) == exponent).any():
                names.append(name)
    return sorted(names)


def is_plain_init(init: bool | str) -> bool:
    """Whether a value of PEFT's `init_lora_weights` keeps the base model unchanged. PiSSA, OLoRA, ... change it."""
    return (init.lower() if isinstance(init, str) else init) in PLAIN_INITS


def _split(tensors: bytes) -> tuple[dict[str, dict[str, Any]], bytes]:
    """Return the header and the data of a safetensors file."""
    end = 8 + int.from_bytes(tensors[:8], "little")
    return json.loads(tensors[8:end]), tensors[end:]
