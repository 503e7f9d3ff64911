"""`learner.adapter`: the weights that a run trains, one class for each method.

A method publishes adapters, which samplers load beside the base model or merge into it, or whole models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import Field

from rft.config.fields import NotNegative, Number, Positive, Section, Share, Whole
from rft.models.weight_files import Tensor, is_linear

_LAYER = re.compile(r"\.(\d+)\.")
"""The number of a layer in the name of a module or tensor: the first number between two dots."""

MAX_RANK = 512
"""Highest rank of LoRA and its variants."""
ModuleNames = list[Annotated[str, Field(min_length=1)]]


class AdapterConfig(Section):
    """Properties that all methods have."""

    if TYPE_CHECKING:
        method: str = ""

    label: ClassVar[str]
    """Name of the method in texts."""
    publishes: ClassVar[Literal["adapter", "model"]] = "adapter"
    """What samplers receive: an adapter for the base model, or a whole model."""
    needs_merge: ClassVar[bool] = False
    """Whether samplers must merge the adapter into the base model."""
    trains_base: ClassVar[bool] = False
    """Whether weights of the base model are trained, instead of additional ones."""

    @property
    def served_rank(self) -> int | None:
        """Rank of the published adapters; None if whole models are published."""
        return None

    @property
    def forecast_rank(self) -> int | None:
        """Rank of the LoRA adapter whose training needs about the same memory; None if the base model is trained."""
        return None if self.trains_base else 1

    @property
    def description(self) -> str:
        """Method and size in words, such as `LoRA rank 16`."""
        return self.label

    def problems(self) -> list[str]:
        """Return the problems among the keys, one sentence each."""
        return []

    def selects(self, name: str) -> bool:
        """Whether the method trains a module, or a weight of the base model, by its name in the model."""
        return True

    def trained_share(self, num_layers: int) -> float:
        """Return the share of the base model's weights that is trained, at most."""
        return 1.0

    def trained_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a base model that the method trains, or whose modules it adapts.

        Args:
            tensors: Tensors by name, from the headers of the model's files.
        """
        return {
            name: tensor
            for name, tensor in tensors.items()
            if (self.trains_base or is_linear(name, tensor)) and self.selects(name.removesuffix(".weight"))
        }

    def num_trained(self, tensors: Mapping[str, Tensor]) -> int:
        """Return the number of trained weights. Argument like `trained_tensors`."""
        return sum(tensor.num_values for tensor in self.trained_tensors(tensors).values())

    def model_problems(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Return the reasons why the method cannot train a model. Argument like `trained_tensors`."""
        if not tensors or self.trained_tensors(tensors):
            return []
        return [f"learner.adapter={self.method}: the model has no linear layer to train; use learner.adapter=full"]


class SelectiveConfig(AdapterConfig):
    """Keys of methods that can train some of the layers and modules."""

    layers: Annotated[list[NotNegative], Field(min_length=1)] | None = None
    """Numbers of the layers to train, from 0; null trains all."""
    modules: Annotated[ModuleNames, Field(min_length=1)] | None = None
    """Names of the modules to train, such as `[q_proj,v_proj]`, or `[mlp]` for all modules in it; null trains all."""

    @property
    def description(self) -> str:
        """Method, size, and the selected layers and modules."""
        where = [f"layers {', '.join(map(str, self.layers))}"] if self.layers is not None else []
        where += [", ".join(self.modules)] if self.modules is not None else []
        return f"{self._size} in {' of '.join(reversed(where))}" if where else self._size

    @property
    def _size(self) -> str:
        return self.label

    def selects(self, name: str) -> bool:
        """Whether the layer and the module are among the given ones."""
        layer = _LAYER.search(name)
        if self.layers is not None and (layer is None or int(layer[1]) not in self.layers):
            return False
        return self.modules is None or any(f".{module}." in f".{name}." for module in self.modules)

    def model_problems(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Refuse layers and modules that the model lacks."""
        if not tensors:
            return []
        layers = {int(layer[1]) for name in tensors if (layer := _LAYER.search(name))}
        problems = [
            f"learner.adapter.layers={_text(self.layers)}: the model has no layer {layer}; its layers have the numbers "
            f"{min(layers, default=0)} to {max(layers, default=0)}"
            for layer in self.layers or ()
            if layer not in layers
        ]
        everywhere = self.model_copy(update={"layers": None, "modules": None}).trained_tensors(tensors)
        last_names = sorted({name.removesuffix(".weight").rpartition(".")[2] for name in everywhere})
        problems += [
            f"learner.adapter.modules={_text(self.modules)}: the model has no {module} that "
            f"learner.adapter={self.method} could train; it has {', '.join(last_names)}"
            for module in self.modules or ()
            if not any(f".{module}." in f".{name}" for name in everywhere)
        ]
        return problems or super().model_problems(tensors)


class LowRankConfig(SelectiveConfig):
    """Keys of LoRA and its variants."""

    rank: Annotated[Whole, Field(ge=1, le=MAX_RANK)] = 16
    """Rank of the update."""
    alpha: Annotated[Number, Field(gt=0)] = 32.0
    """Scaling: the update is multiplied by `alpha / rank`, with `rslora` by `alpha / sqrt(rank)`."""
    dropout: Share = 0.0
    """Dropout on the adapter's input."""

    @property
    def served_rank(self) -> int:
        """The rank."""
        return self.rank

    @property
    def forecast_rank(self) -> int:
        """The rank."""
        return self.rank

    @property
    def _size(self) -> str:
        return f"{self.label} rank {self.rank}"

    def num_trained(self, tensors: Mapping[str, Tensor]) -> int:
        """Return the number of weights in both factors of each update."""
        return self.rank * sum(sum(tensor.shape) for tensor in self.trained_tensors(tensors).values())


class LoraAdapterConfig(LowRankConfig):
    """LoRA (arXiv 2106.09685): a low-rank update of each linear layer, served as an adapter or merged."""

    label: ClassVar[str] = "LoRA"

    method: Literal["lora"] = "lora"


class RsloraAdapterConfig(LowRankConfig):
    """rsLoRA (arXiv 2312.03732): LoRA with a scaling for high ranks, served as an adapter or merged."""

    label: ClassVar[str] = "rsLoRA"

    method: Literal["rslora"] = "rslora"


class DoraAdapterConfig(LowRankConfig):
    """DoRA (arXiv 2402.09353): LoRA, and a learned length of each output's weights; samplers merge it."""

    label: ClassVar[str] = "DoRA"
    needs_merge: ClassVar[bool] = True

    method: Literal["dora"] = "dora"

    def num_trained(self, tensors: Mapping[str, Tensor]) -> int:
        """Add the lengths: one for each output."""
        lengths = sum(tensor.shape[0] for tensor in self.trained_tensors(tensors).values())
        return super().num_trained(tensors) + lengths


class VeraAdapterConfig(SelectiveConfig):
    """VeRA (arXiv 2310.11454): learned vectors around random matrices that all layers share; published merged."""

    label: ClassVar[str] = "VeRA"
    publishes: ClassVar[Literal["adapter", "model"]] = "model"

    method: Literal["vera"] = "vera"
    rank: Positive = 256
    """Rank of the shared random matrices."""
    dropout: Share = 0.0
    """Dropout on the adapter's input."""
    initial_scale: Annotated[Number, Field(gt=0)] = 0.1
    """Initial value of the vector between the two random matrices."""

    @property
    def _size(self) -> str:
        return f"{self.label} rank {self.rank}"

    def num_trained(self, tensors: Mapping[str, Tensor]) -> int:
        """Return the number of values in both vectors of each layer."""
        return sum(self.rank + tensor.shape[0] for tensor in self.trained_tensors(tensors).values())


class Ia3AdapterConfig(AdapterConfig):
    """IA3 (arXiv 2205.05638): learned factors of keys, values and inputs of feed-forward layers; published merged."""

    label: ClassVar[str] = "IA3"
    publishes: ClassVar[Literal["adapter", "model"]] = "model"

    method: Literal["ia3"] = "ia3"
    modules: ModuleNames = ["k_proj", "v_proj"]
    """Names of the linear layers whose outputs are scaled."""
    feedforward_modules: ModuleNames = ["down_proj"]
    """Names of the linear layers whose inputs are scaled."""

    def selects(self, name: str) -> bool:
        """Whether the module is among the given ones."""
        return any(f".{name}".endswith(f".{module}") for module in (*self.modules, *self.feedforward_modules))

    def num_trained(self, tensors: Mapping[str, Tensor]) -> int:
        """Return the number of factors: one for each input or output."""
        trained = self.trained_tensors(tensors).items()
        ends = tuple(f"{module}.weight" for module in self.feedforward_modules)
        return sum(tensor.shape[1] if name.endswith(ends) else tensor.shape[0] for name, tensor in trained)

    def model_problems(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Refuse modules that the model lacks."""
        linear = [name for name, tensor in tensors.items() if is_linear(name, tensor)]
        last_names = ", ".join(sorted({name.split(".")[-2] for name in linear}))
        return [
            f"learner.adapter.{key}={_text(value)}: the model has no {module}; it has {last_names}"
            for key, value in (("modules", self.modules), ("feedforward_modules", self.feedforward_modules))
            for module in value
            if tensors and not any(f".{name}".endswith(f".{module}.weight") for name in linear)
        ]


class PartialAdapterConfig(SelectiveConfig):
    """No adapter: trains the base model's own weights in some layers or modules; published as whole models."""

    label: ClassVar[str] = "weights"
    publishes: ClassVar[Literal["adapter", "model"]] = "model"
    trains_base: ClassVar[bool] = True

    method: Literal["partial"] = "partial"

    def problems(self) -> list[str]:
        """Refuse a selection of everything."""
        if self.layers is not None or self.modules is not None:
            return []
        return [
            "learner.adapter=partial: select the weights to train in learner.adapter.layers or "
            "learner.adapter.modules; learner.adapter=full trains all"
        ]

    def trained_share(self, num_layers: int) -> float:
        """Return the share of the selected layers."""
        return 1.0 if self.layers is None or not num_layers else min(1.0, len(self.layers) / num_layers)


class FullAdapterConfig(AdapterConfig):
    """No adapter: trains every weight of the base model; published as whole models."""

    label: ClassVar[str] = "all weights"
    publishes: ClassVar[Literal["adapter", "model"]] = "model"
    trains_base: ClassVar[bool] = True

    method: Literal["full"] = "full"


METHODS: dict[str, type[AdapterConfig]] = {
    "lora": LoraAdapterConfig,
    "rslora": RsloraAdapterConfig,
    "dora": DoraAdapterConfig,
    "vera": VeraAdapterConfig,
    "ia3": Ia3AdapterConfig,
    "partial": PartialAdapterConfig,
    "full": FullAdapterConfig,
}
"""Configuration classes by method."""


def with_method(value: Any) -> Any:
    """Return the keys of a method that is given by its name alone. Keys without a method are those of LoRA."""
    if isinstance(value, str):
        return {"method": value}
    if isinstance(value, Mapping) and "method" not in value:
        return {"method": "lora", **value}
    return value


def _text(values: list[Any] | None) -> str:
    return f"[{','.join(map(str, values or ()))}]"


if TYPE_CHECKING:
    Adapter = AdapterConfig
else:
    Adapter = Annotated[Union[tuple(METHODS.values())], Field(discriminator="method")]  # noqa: UP007
