"""The policy that a run starts from, if that is a trained adapter instead of the base model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from torch import Tensor

from rft.errors import LearnError
from rft.learning.canaries import score_canaries
from rft.learning.pack_weights import pack_adapter
from rft.reliability.temporary import temporary_folder
from rft.types import Adapter, Logprobs, Publication


def continued(model: Any, start: Adapter, *, dropout: float) -> Any:
    """Return the model with a trainable adapter that has the weights of the start.

    Args:
        model: The base model.
        start: The adapter.
        dropout: Dropout on the adapter's input; the adapter's own setting does not apply.

    Raises:
        LearnError: The adapter does not fit the base model.
    """
    with temporary_folder("start") as folder:
        (folder / "adapter_config.json").write_text(json.dumps(dict(start.config)))
        (folder / "adapter_model.safetensors").write_bytes(start.tensors)
        config = PeftConfig.from_pretrained(folder)
        config.lora_dropout = dropout
        # With the name of a model on the hub, PEFT would ask the hub for it at each publication.
        config.base_model_name_or_path = model.name_or_path
        try:
            return PeftModel.from_pretrained(model, folder, is_trainable=True, config=config)
        except (RuntimeError, ValueError) as error:
            why = str(error).splitlines()[0]
            raise LearnError(f"the adapter of start does not fit the base model: {why}") from error


def refuse_other_weights(start: Adapter, model: Any, *, base_model_name: str) -> Adapter:
    """Return the adapter of a PEFT model, packed as version 0, if it equals the start.

    Raises:
        LearnError: The model holds other weights than the start.
    """
    packed = pack_adapter(model, version=0, base_model_name=base_model_name)
    if packed.policy != start.policy:
        raise LearnError(
            f"the learner starts from an adapter with the fingerprint {packed.policy.fingerprint}, but the adapter "
            f"of start has {start.policy.fingerprint}: PEFT does not load all of its tensors unchanged"
        )
    return packed


def disable_dropout_of_reference(model: Any) -> None:
    """Disable the dropout of TRL's frozen copy of the start, which would add noise to the KL divergence."""
    for module in model.modules():
        if "ref" in getattr(module, "lora_dropout", ()):
            module.lora_dropout["ref"] = torch.nn.Identity()


class StartPolicy:
    """Version 0 of a run that continues an adapter.

    Args:
        start: The adapter.
        model: The model from `continued`, before a checkpoint changes its weights.
        base_model_name: Name of the base model in the published configuration.

    Raises:
        LearnError: The model holds other weights than the adapter.
    """

    def __init__(self, start: Adapter, model: Any, *, base_model_name: str) -> None:
        self._adapter = refuse_other_weights(start, model, base_model_name=base_model_name)
        self._weights = [parameter.detach().clone() for parameter in _trained(model)]

    def hidden(self) -> AbstractContextManager[None]:
        """Do nothing: the model behaves like the base model alone while its adapter is disabled."""
        return nullcontext()

    @torch.no_grad()
    def publication(self, model: Any, canaries: Sequence[Sequence[int]], base_canary_logprobs: Logprobs) -> Publication:
        """Score the canaries under the start, and leave the model with the weights that it has."""
        trained = _trained(model)
        now = [parameter.detach().clone() for parameter in trained]
        _copy(trained, self._weights)
        scores = score_canaries(model, canaries)
        _copy(trained, now)
        return Publication(weights=self._adapter, canary_logprobs=scores, base_canary_logprobs=base_canary_logprobs)


def _trained(model: Any) -> list[Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _copy(to: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
    for parameter, value in zip(to, weights, strict=True):
        parameter.copy_(value)
