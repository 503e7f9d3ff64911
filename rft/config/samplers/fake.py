"""Scripted completions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rft.config.fields import Number
from rft.config.samplers.base import SamplerConfig


class FakeSamplerConfig(SamplerConfig):
    """Scripted completions without a model, to test the other parts of a run."""

    engine_class: ClassVar[str] = "rft.sampling.fake_engine:FakeEngine"
    has_model: ClassVar[bool] = False

    kind: Literal["fake"] = "fake"
    script: Annotated[list[str], Field(min_length=1)] = ["1", "2", "3", "4"]
    """Completions to draw from."""
    tokens: Literal["bytes", "model"] = "bytes"
    """Token ids of a completion: the bytes of its text, or those of the model's tokenizer, in which the text ends with
    an end token of its own, such as `<|im_end|>`."""
    completions_per_s: Annotated[Number, Field(gt=0)] | None = None
    """Completions that each engine finishes per second, one after another; null finishes all at once."""
