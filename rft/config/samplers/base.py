"""What rft asks of every sampler: the keys that all share, and the questions that each engine answers about itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from rft.config.fields import Number, Positive, PositiveSeconds, Section
from rft.config.learners.base import LoraConfig

OF_THE_RUN = {"temperature", "max_completion_tokens", "stop"}
"""Keys that a run sends with each request. Runs that differ in these alone can use the same engines."""


class SamplerConfig(Section):
    """What all samplers share."""

    if TYPE_CHECKING:
        kind: str = ""

    engine_class: ClassVar[str]
    """`module:Class` of the engine. It is imported where the engine runs, so that nothing else needs its library."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Libraries that the engine imports; every node that runs one needs them in the driver's versions."""
    is_remote: ClassVar[bool] = False
    """Whether the model is in another program, which outlives the run."""
    has_model: ClassVar[bool] = True
    """Whether its token ids are those of the base model, so that a real learner can train on them."""

    num_actors: Positive = 1
    """Number of Ray actors that sample, each with its own engine."""
    temperature: Annotated[Number, Field(gt=0)] = 1.0
    """Sampling temperature in training."""
    max_completion_tokens: Positive = 256
    """Longest completion, in tokens; a longer one is cut."""
    num_threads: Positive | None = None
    """CPU threads of each engine; null divides the cores among the engines and, above staleness 0, the learner."""
    num_gpus: Annotated[Number, Field(ge=0)] | None = None
    """GPUs of each actor, or a fraction to share one; null divides the GPUs of the cluster."""
    start_timeout_s: PositiveSeconds = 600.0
    """Seconds allowed for starting all engines."""
    stall_timeout_s: PositiveSeconds = 300.0
    """Seconds allowed until the next completion, and for a sync."""
    canary_tolerance: Annotated[Number, Field(gt=0)] | None = None
    """Largest mean gap between the log-probabilities of sampler and learner that a sync may have; null takes the one
    of the dtype: 1e-4 in float32, 0.02 in float16, 0.05 in bfloat16."""
    on_failed_proof: Literal["stop", "quarantine"] = "stop"
    """What happens when a sampler cannot prove that it serves the new policy: `stop` ends the run, `quarantine` goes on
    without that sampler while at least one other is sound."""

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Strings that end a completion."""
        return ()

    @property
    def gpus_spanned(self) -> int:
        """Number of GPUs that one engine spans; 0 if it uses none."""
        return 1

    def problems(self, *, lora: LoraConfig | None, staleness: int) -> list[str]:
        """What is wrong with these settings in a training run, one sentence each.

        Args:
            lora: The adapter that is trained; None where all weights are.
            staleness: Policy versions in flight beside the newest.
        """
        return []

    def temperature_problems(self, temperatures: Mapping[str, float]) -> list[str]:
        """Which temperatures the engine cannot sample at, one sentence each.

        Args:
            temperatures: By key, as `{"sampler.temperature": 1.0}`.
        """
        return []

    def model_problems(self, model: Mapping[str, Any], *, with_adapter: bool) -> list[str]:
        """Why the engine cannot serve a model's policies, one sentence each.

        Args:
            model: The model's `config.json`.
            with_adapter: Whether the policies are adapters, not whole models.
        """
        return []

    def serving(self, model: Mapping[str, Any], dtype: str) -> Literal["adapter", "merged"]:
        """How an adapter is served.

        Args:
            model: The base model's `config.json`.
            dtype: float32, bfloat16 or float16.
        """
        return "adapter"

    def shared(self) -> Self:
        """The settings of an engine that several runs share."""
        return self

    def why_alone(self, model: Mapping[str, Any]) -> str | None:
        """Why several runs cannot share the engine; None if they can.

        Args:
            model: The base model's `config.json`.
        """
        return None

    @classmethod
    def for_one_prompt(cls, num_completions: int) -> Self:
        """The settings with which `rft sample` tries a model on one prompt."""
        return cls()


class ModelSamplerConfig(SamplerConfig):
    """What samplers with a model share."""

    stop: list[Annotated[str, Field(min_length=1)]] = []
    """Strings that end a completion, such as `["Question:"]`, beside the end tokens of tokenizer and generation_config.

    The completion ends with the token that completes one of them; graders see the text before it. Needed where a base
    model does not end its turns itself."""

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Strings that end a completion."""
        return tuple(self.stop)
