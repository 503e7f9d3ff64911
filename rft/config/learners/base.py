"""Keys and methods that all learners share."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from rft.config.adapters import Adapter, LoraAdapterConfig, with_method
from rft.config.fields import NotNegative, Number, Positive, PositiveSeconds, Section
from rft.errors import EarlierName
from rft.models.quantized_folder import Method

Takes = Literal["groups", "demonstrations", "preferences", "labelled completions"]
"""Kinds of training data."""
SEQUENCES: dict[Takes, str] = {
    "groups": "completions",
    "demonstrations": "demonstrations",
    "preferences": "answers",
    "labelled completions": "completions",
}
"""The sequences of a step, by kind of training data."""


class LearnerConfig(Section):
    """Keys that all learners share.

    Each subclass with a `kind` is one algorithm: its keys, checks, libraries and learner class.
    """

    target: ClassVar[str]
    """`module:class` of the learner; the learner's process imports it."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Libraries that the learner's process imports."""
    trains_a_model: ClassVar[bool] = True
    """Whether the learner trains a model, and therefore needs completions in that model's tokens."""
    has_teacher: ClassVar[bool] = False
    """Whether the learner learns from a teacher's log-probabilities instead of rewards."""
    if TYPE_CHECKING:
        kind: str = ""

    learning_rate: Annotated[Number, Field(gt=0)] = 1e-5
    """Peak learning rate."""
    adapter: Adapter = LoraAdapterConfig()
    """The trained weights: the name of a method, or its keys."""
    base: Method | None = None
    """Quantization of the frozen base model: `nf4` (4 bits, as in QLoRA) or `int8`; null keeps its weights. Samplers
    serve the quantized model, which the run folder keeps in `quantized_base/`."""
    completions_per_micro_batch: Positive | None = None
    """Longest completions in one forward and backward pass; shorter ones are packed more densely.

    null takes the largest divisor of a step's completions up to 8 on a CPU, and on a GPU the largest that fits into its
    memory, up to 16,384 tokens with the prompts.
    """
    num_workers: Positive = 1
    """Number of ranks: processes that train together, each with the whole model and a share of every step."""
    num_threads: Positive | None = None
    """CPU threads of each rank; null takes all cores at staleness 0, at which engines and learner take turns, and a
    share of the cores otherwise."""
    num_gpus: Annotated[Number, Field(ge=0)] | None = None
    """GPUs of each rank, or a fraction to share one; null divides the GPUs of the cluster."""
    start_timeout_s: PositiveSeconds = 600.0
    """Seconds allowed for loading the model."""
    step_timeout_s: PositiveSeconds = 1800.0
    """Seconds allowed for one optimizer step, and for a checkpoint."""
    max_restarts: NotNegative = 5
    """Number of times that the learner may start again after one of its processes died or did not answer. It continues
    from the last checkpoint, and takes the later steps again from recorded batches. 0 ends the run instead."""

    @model_validator(mode="before")
    @classmethod
    def _with_adapter_keys(cls, values: Any) -> Any:
        """Accept the name of a method as `adapter`, and `lora`, the earlier name of the section."""
        if not isinstance(values, Mapping):
            return values
        changed, instead = with_adapter_keys(values)
        if instead:
            text = f"learner.lora is the earlier name of learner.adapter, and will be removed; write {instead}"
            warnings.warn(text, EarlierName, stacklevel=2)
        return changed

    @property
    def takes(self) -> Takes:
        """What the learner learns from: graded groups of sampled completions, or rows of `data.train` with answers."""
        return "groups"

    @property
    def needs_differences(self) -> bool:
        """Whether a group of equal rewards teaches nothing."""
        return True

    @property
    def compares_with_start(self) -> bool:
        """Whether each step computes log-probabilities under the start of the run."""
        return False

    def user_file(self) -> Path | None:
        """Return the user's Python file that the learner's process imports, or None."""
        return None

    def with_user_file(self, file: Path) -> Self:
        """Return the same keys with another path of the user's file."""
        return self

    def problems(self) -> list[str]:
        """Return the problems among the keys, one sentence each."""
        return []

    def turn_credit_problems(self, discount: float) -> list[str]:
        """Return the reasons why the learner cannot use a reward for each turn, discounted by turn."""
        return [
            f"learner={self.kind} learns from whole completions; use environment.credit=episode, or learner=grpo, "
            "reinforce_pp_baseline or ppo"
        ]

    def batch_problems(self, *, prompts_per_step: int, completions_per_prompt: int) -> list[str]:
        """Return the reasons why the algorithm cannot learn from steps of this size, one sentence each."""
        return []

    def rank_problems(self, *, completions_per_step: int, micro_batches_per_step: int) -> list[str]:
        """Return the reasons why several ranks cannot share a step, one sentence each."""
        if self.num_workers <= completions_per_step:
            return []
        return [
            f"learner.num_workers={self.num_workers}: a step has {completions_per_step} {SEQUENCES[self.takes]}, so "
            f"{self.num_workers - completions_per_step} of the ranks would be idle; use at most "
            f"{completions_per_step}, or raise loop.prompts_per_step"
        ]


def with_adapter_keys(values: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the keys of a learner with `adapter` as a section, and how to write those of `lora`, its earlier name.

    Args:
        values: The keys of the learner.

    Returns:
        The keys; and the arguments that replace those of `lora`, empty without any.
    """
    changed = {**values, "adapter": with_method(values.get("adapter", {}))}
    if not isinstance(values.get("lora", ""), Mapping | None):
        return changed, ""
    old = changed.pop("lora")
    if old is None:
        return {**changed, "adapter": {"method": "full"}}, "learner.adapter=full"
    instead = " ".join(f"learner.adapter.{name}={value}" for name, value in old.items())
    return {**changed, "adapter": {**changed["adapter"], **old}}, instead
