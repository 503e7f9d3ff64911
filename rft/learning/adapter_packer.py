"""Packs the adapter of a model after every step."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import torch
from peft import get_peft_model_state_dict
from torch import Tensor

from rft.learning.pack_weights import fingerprint, pack_adapter
from rft.types import Adapter, Policy


class AdapterPacker:
    """Packs the default adapter of a PEFT model, like `pack_adapter`, in a fraction of its time.

    PEFT walks through all modules of the model to find the tensors of the adapter, and takes longer than the hash of a
    small adapter. Names, shapes and order do not change in training, so PEFT does it once.

    Args:
        model: The PEFT model. Its parameters may change, but not be replaced by other parameters.
        base_model_name: Name of the base model in `adapter_config.json`.
    """

    def __init__(self, model: Any, base_model_name: str) -> None:
        self._model = model
        self._base_model_name = base_model_name
        first = pack_adapter(model, version=0, base_model_name=base_model_name)
        self._config = first.config
        self._start, self._sources = _layout(bytes(first.tensors), model)

    def pack(self, version: int) -> Adapter:
        """Return the adapter as it is now.

        Args:
            version: Policy version of the weights.
        """
        if self._sources is None:
            return pack_adapter(self._model, version=version, base_model_name=self._base_model_name)
        data = b"".join([self._start, *map(_bytes, self._sources)])
        return Adapter(policy=Policy(version=version, fingerprint=fingerprint(data)), config=self._config, tensors=data)


def _layout(packed: bytes, model: Any) -> tuple[bytes, list[Tensor] | None]:
    """Return the header of safetensors bytes, and the model's tensors in the order of the data.

    Some methods publish tensors that the model does not hold in this form; there are no sources then.
    """
    end = 8 + int.from_bytes(packed[:8], "little")
    header = json.loads(packed[8:end])
    names = sorted(header, key=lambda name: header[name]["data_offsets"])
    published = get_peft_model_state_dict(model, save_embedding_layers=False)
    held = {_place(tensor): tensor for tensor in chain(model.buffers(), model.parameters())}
    sources = [held.get(_place(published[name])) for name in names]
    if any(source is None for source in sources):
        return b"", None
    return packed[:end], [source for source in sources if source is not None]


def _place(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.dtype, tensor.stride()


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
