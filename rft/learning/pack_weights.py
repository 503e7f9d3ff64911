"""Packs trained weights for a publication: tensors as safetensors bytes, with their fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from peft import get_peft_model_state_dict

from rft.models.weight_files import mapped
from rft.reliability.temporary import temporary_folder
from rft.types import Adapter, FullWeights, Policy


def pack_adapter(model: Any, *, version: int, base_model_name: str) -> Adapter:
    """Pack the default adapter of a PEFT model.

    Args:
        model: The PEFT model.
        version: Policy version of the weights.
        base_model_name: Name of the base model in `adapter_config.json`.
    """
    # Adapters are on linear layers alone, so they contain no embeddings. By default, PEFT reads the base model's
    # configuration each time to see whether its embeddings were resized, which takes a third of the time.
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    return adapter_of(tensors, published_config(model, base_model_name), version)


def published_config(model: Any, base_model_name: str) -> dict[str, Any]:
    """Return the `adapter_config.json` of the default adapter of a PEFT model. Arguments like `pack_adapter`."""
    config = model.peft_config["default"].to_dict()
    config |= {"inference_mode": True, "base_model_name_or_path": base_model_name}
    # The configuration contains sets and enums, which JSON cannot represent.
    plain: dict[str, Any] = json.loads(json.dumps(config, default=_plain))
    return plain


def adapter_of(tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], version: int) -> Adapter:
    """Return an adapter with the fingerprint of its tensors.

    Args:
        tensors: By their names in PEFT's format; contiguous, in main memory.
        config: PEFT's configuration.
        version: Policy version of the weights.
    """
    data = safetensors.torch.save(dict(tensors))
    return Adapter(policy=Policy(version=version, fingerprint=fingerprint(data)), config=config, tensors=data)


def pack_model(
    model: Any, *, version: int, dtype: torch.dtype, state: Mapping[str, torch.Tensor] | None = None
) -> FullWeights:
    """Pack all weights of a model under their checkpoint names.

    Args:
        model: A Transformers model.
        version: Policy version of the weights.
        dtype: Number format of the packed weights; training may use a finer one.
        state: The weights by name; None takes the model's own.
    """
    state = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in (model.state_dict() if state is None else state).items()
    }
    # `save_pretrained` uses the names of each architecture's checkpoints, and omits tied weights.
    with temporary_folder("weights") as folder:
        model.save_pretrained(folder, state_dict=state, max_shard_size="1000GB")
        data = mapped(folder / "model.safetensors")
    return FullWeights(policy=Policy(version=version, fingerprint=fingerprint(data)), tensors=data)


def fingerprint(tensors: bytes | memoryview) -> str:
    """Return the hash of weights: 16 hexadecimal digits of the SHA-256 of their safetensors bytes.

    The format is deterministic (names, types and shapes in a header, then the data), so equal tensors have equal
    hashes.
    """
    return hashlib.sha256(tensors).hexdigest()[:16]


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)
