"""Keys and methods that all samplers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from rft.config.adapters import AdapterConfig
from rft.config.fields import NotNegative, Number, Positive, PositiveSeconds, Section

OF_THE_RUN = {"temperature", "max_completion_tokens", "stop"}
"""Keys that a run sends with each request. Runs that differ only in these keys can share engines."""


class SamplerConfig(Section):
    """Keys that all samplers share."""

    if TYPE_CHECKING:
        kind: str = ""

    engine_class: ClassVar[str]
    """`module:Class` of the engine. Only the engine's process imports it, so no other process needs its library."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Libraries that the engine imports. Every node with an engine needs them in the driver's versions."""
    is_remote: ClassVar[bool] = False
    """Whether the model runs in another program, which outlives the run."""
    has_model: ClassVar[bool] = True
    """Whether the engine samples token ids of the base model, on which a learner can train."""

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
    """Largest mean gap between the log-probabilities of sampler and learner that a sync may have; null takes 1e-4 in
    float32, and in 16 bits three times the gap between their base models, at least 0.01 and at most 0.1."""
    on_failed_proof: Literal["replace", "quarantine", "stop"] = "replace"
    """Reaction to a sampler that cannot prove that it serves the new policy: `replace` starts another in its place;
    `quarantine` continues without it while at least one other is sound; `stop` ends the run. A replacement that cannot
    prove the policy either is not replaced again. In a sweep whose trials share samplers, `replace` acts like
    `quarantine` for the trial, because the other trials still use the sampler."""
    min_actors: Positive = 1
    """Fewest samplers with which a run starts on a cluster, and continues. With fewer, it waits: at the start for
    `cluster.placement_timeout_s`, later for replacements. Samplers without a place at the start join when there is
    room."""
    max_restarts: NotNegative = 20
    """Number of times that a run may start a sampler in place of one that died, hangs, or failed a proof."""
    replacement_timeout_s: PositiveSeconds = 600.0
    """Seconds that a replacement may wait for its place, such as a node that joins the cluster, or for its server."""

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The strings that end a completion."""
        return ()

    @property
    def num_canary_tokens(self) -> int:
        """Length of the canaries, which prove each sync."""
        return 36

    @property
    def sleeps(self) -> bool | None:
        """Whether the engines free their memory while the learner works; None leaves it to the memory forecast."""
        return False

    @property
    def gpus_spanned(self) -> int:
        """Number of GPUs that one engine spans; 0 if it uses none."""
        return 1

    @property
    def max_served_rank(self) -> int | None:
        """Highest rank of an adapter that the engine serves; None without a limit, or with an unknown one."""
        return None

    def problems(self, *, adapter: AdapterConfig, staleness: int) -> list[str]:
        """Return the problems of these settings in a training run, one sentence each.

        Args:
            adapter: The trained weights.
            staleness: Policy versions in flight besides the newest.
        """
        return []

    def temperature_problems(self, temperatures: Mapping[str, float]) -> list[str]:
        """Return the temperatures at which the engine cannot sample, one sentence each.

        Args:
            temperatures: Temperatures by key, such as `{"sampler.temperature": 1.0}`.
        """
        return []

    def model_problems(self, model: Mapping[str, Any], *, with_adapter: bool) -> list[str]:
        """Return the reasons why the engine cannot serve a model's policies, one sentence each.

        Args:
            model: The model's `config.json`.
            with_adapter: Whether the policies are adapters, not whole models.
        """
        return []

    def adapter_problems(self, adapter: Mapping[str, Any]) -> list[str]:
        """Return the reasons why the engine cannot serve a trained adapter, one sentence each.

        Args:
            adapter: PEFT's `adapter_config.json`.
        """
        return []

    def suited_to(self, adapter: Mapping[str, Any]) -> Self:
        """Return these settings, with the default of serving that a trained adapter needs.

        Args:
            adapter: PEFT's `adapter_config.json`.
        """
        return self

    def serving(
        self, model: Mapping[str, Any], dtype: str, *, needs_merge: bool = False
    ) -> Literal["adapter", "merged"]:
        """Return how the engine serves an adapter: beside the base model, or merged into it.

        Args:
            model: The base model's `config.json`.
            dtype: float32, bfloat16 or float16.
            needs_merge: Whether the adapter's method must be merged.
        """
        return "adapter"

    def shared(self) -> Self:
        """Return the settings of an engine for several runs."""
        return self

    def why_alone(self, model: Mapping[str, Any]) -> str | None:
        """Return the reason why several runs cannot share the engine, or None.

        Args:
            model: The base model's `config.json`.
        """
        return None

    @classmethod
    def for_one_prompt(cls, num_completions: int) -> Self:
        """Return the settings of `rft sample`, which tries a model on one prompt."""
        return cls()


class ModelSamplerConfig(SamplerConfig):
    """Keys of samplers with a model."""

    stop: list[Annotated[str, Field(min_length=1)]] = []
    """Strings that end a completion, such as `["Question:"]`, besides the end tokens of tokenizer and
    generation_config.

    The completion ends with the token that completes the string; graders receive the text before the string. Base
    models that do not end their turns need one."""

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The strings that end a completion."""
        return tuple(self.stop)
