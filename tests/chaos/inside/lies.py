"""Weights that are not what they claim to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any


def _flipped(weights: Any) -> Any:
    """Return weights with one bit flipped, the lowest of the last number, under the same name and fingerprint."""
    tensors = bytearray(weights.tensors)
    tensors[-4] ^= 1
    return replace(weights, tensors=bytes(tensors))


def load_other_weights(method: Callable[..., Any], engine: Any, weights: Any, *rest: Any) -> Any:
    """Load weights that differ from the published ones in one bit."""
    return method(engine, _flipped(weights), *rest)


def serve_other_weights(method: Callable[..., Any], engine: Any, *arguments: Any) -> Any:
    """Change all loaded adapters after they were read back, just before the proof. Only the canaries can tell."""
    import torch

    with torch.no_grad():
        for name, parameter in engine._model.named_parameters():
            if "lora_B" in name:
                parameter.mul_(-2.0)
    return method(engine, *arguments)


def learn_other_weights(method: Callable[..., Any], learner: Any, *arguments: Any) -> Any:
    """Change one weight of one rank after the step."""
    import torch

    metrics = method(learner, *arguments)
    with torch.no_grad():
        trained = [p for p in learner._stepped.trainer.model.parameters() if p.requires_grad]
        trained[0].view(-1)[0] += 0.125
    return metrics


def publish_other_weights(method: Callable[..., Any], learner: Any, *arguments: Any) -> Any:
    """Publish weights that differ in one bit from those whose canaries were scored."""
    publication = method(learner, *arguments)
    return replace(publication, weights=_flipped(publication.weights))


LIES = {
    "loading": load_other_weights,
    "proving": serve_other_weights,
    "learning": learn_other_weights,
    "publishing": publish_other_weights,
}
"""The lie that begins at each moment."""
